"""Configuration of the segmentation task. Imports no heavy library."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from core.config import EvaluateConfig, PredictConfig, RuleConfig, RunConfig, TrainConfig
from core.registry import Registry

MODELS: Registry[type] = Registry("segmentation model")

CONFIGURATIONS = ("2d", "3d_lowres", "3d_fullres", "3d_cascade_fullres")
"""Names of nnU-Net's configurations, from the simplest on."""


@dataclass
class DataConfig:
    """Which images and labels, and how they are split.

    Args:
        name: auto, cells (made images of touching cells), organs (made volumes) or folder. auto is cells when no path
            is given, else folder.
        path: Your folder: an nnU-Net raw folder (dataset.json, imagesTr, labelsTr), a Decathlon folder, DRIVE (train
            and test with image, label and field of view), or two folders of images and labels with equal names.
        test_path: Folder of the same kind to test on; by default test_share is held out, or the folder's own test.
        layout: How the folder is read; auto finds out.
        channels: Which channels of the images are used, from 0; all by default.
        instances: Whether a label is the number of an object and not a class; auto looks at the values. Then an
            object and its core are learned, and objects are told apart.
        subject: Regular expression on the names of the cases; what it finds names the patient. A patient is never on
            both sides of a split.
        test_share: Share of the cases, or patients, that is held out.
        validation_share: Share of the others that the curves and the post-processing are decided on.
        folds: Cross-validation: number of folds, one network each; nnU-Net has 5. 0 is off.
        fold: Only this fold of them, from 0.
        splits: nnU-Net's splits_final.json in place of our own folds.
        label_share: Share of the training cases that is used, to see what more labels would bring.
        cache: Folder that keeps preprocessed cases for other runs.
        memory: Most memory that preprocessed cases take, GB; what is beyond lies in a file in $SKIPWAY_CACHE or
            ~/.cache/skipway, which is slower. By default a quarter of the machine's.
    """

    name: Literal["auto", "cells", "organs", "folder"] = "auto"
    path: str | None = None
    test_path: str | None = None
    layout: Literal["auto", "nnunet", "decathlon", "drive", "folders"] = "auto"
    channels: list[int] | None = None
    instances: Literal["auto", "yes", "no"] = "auto"
    subject: str | None = None
    test_share: float = 0.2
    validation_share: float = 0.1
    folds: int = 0
    fold: int | None = None
    splits: str | None = None
    label_share: float = 1.0
    cache: str | None = None
    memory: float | None = None


@dataclass
class PlanConfig:
    """How the pipeline is configured from the data.

    Args:
        preset: nnU-Net's planner for the memory of a GPU: default, resenc, resenc_m, resenc_l, resenc_xl; or cpu, for
            two cores. The network is the model's; base width and blocks of cpu are smaller.
        configuration: auto (2d for images, 3d_fullres for volumes), 2d, 3d_fullres, 3d_lowres, or 3d_cascade_fullres
            (on the output of a 3d_lowres model, see previous).
        memory: GPU memory to plan for, GB; by default the preset's.
        file: nnUNetPlans.json to take in place of our own plan.
        previous: Trained 3d_lowres model for 3d_cascade_fullres.
        spacing: Spacing to work at, mm, first axis first, two numbers for images; by default the planner's.
        patch_size: Patch, voxels; by default the planner's. A network takes multiples of its strides.
        max_batch: Largest batch that is planned; presets plan batches of hundreds for small images. One of your own is
            --train.batch_size.
        normalisation: One scheme for each channel, or one for all: ct, zscore, rescale_to_0_1, rgb_to_0_1, none, or
            clahe (grey values standardised, contrast made even, gamma 1.2: for vessels). By default by the channels'
            names.
    """

    preset: Literal["cpu", "default", "resenc", "resenc_m", "resenc_l", "resenc_xl"] = "cpu"
    configuration: Literal["auto", "2d", "3d_lowres", "3d_fullres", "3d_cascade_fullres"] = "auto"
    memory: float | None = None
    file: str | None = None
    previous: str | None = None
    spacing: list[float] | None = None
    patch_size: list[int] | None = None
    max_batch: int = 64
    normalisation: list[str] | None = None


@dataclass
class AugmentConfig:
    """How training patches are changed at random.

    Args:
        kind: nnunet (rotation, scale, noise, blur, brightness, contrast, resolution, gamma, mirroring, by MONAI), flips
            (flips, quarter turns, brightness and contrast, by albumentations; images alone), mirror, or none.
        mirror: Axes of a patch that are mirrored, from 0; all by default. Leave out the one along which left and right
            are different classes.
        probability: Factor on the probabilities of nnunet's changes other than mirroring.
    """

    kind: Literal["nnunet", "flips", "mirror", "none"] = "nnunet"
    mirror: list[int] | None = None
    probability: float = 1.0


@dataclass
class SegModelConfig(RuleConfig):
    """What all networks share.

    Args:
        sigmoid: One output for a single class, trained with binary cross entropy, in place of two and softmax.
    """

    sigmoid: bool = False


@dataclass
class PlannedConfig(SegModelConfig):
    """A U-Net whose depth, strides and kernels are planned.

    Args:
        base_width: Channels of the first stage; by default the preset's (nnU-Net: 32).
        max_width: Most channels; by default nnU-Net's 320 in volumes and 512 in images.
        deep_supervision: Also learn from the coarser stages of the decoder.
    """

    base_width: int | None = None
    max_width: int | None = None
    deep_supervision: bool = True


@MODELS.register("resenc_unet")
@dataclass
class ResEncConfig(PlannedConfig):
    """U-Net with a residual encoder (arXiv:2404.09556).

    Args:
        blocks: Residual blocks of each stage; by default the preset's (nnU-Net: 1, 3, 4, 6, 6, ...).
    """

    name: str = "resenc_unet"
    blocks: list[int] | None = None


@MODELS.register("plain_unet")
@dataclass
class PlainConfig(PlannedConfig):
    """nnU-Net's U-Net without residual connections (Isensee et al., Nature Methods 2021)."""

    name: str = "plain_unet"


@dataclass
class FixedConfig(SegModelConfig):
    """A U-Net of five levels with pooling; sizes that are no multiples of 16 are padded inside.

    Args:
        base_width: Channels of the first level, doubled at each of the others; the released code has 64.
        norm: batch as in the papers, instance or group. Recurrent convolutions share one batch norm for all steps, and
            its running statistics fit none of them until late in a training; instance has none.
    """

    sigmoid: bool = True
    base_width: int = 64
    norm: Literal["batch", "instance", "group"] = "batch"


@dataclass
class RecurrentConfig(FixedConfig):
    """With recurrent convolutions.

    Args:
        steps: Recurrences: a convolution runs once more than that, with the same weights.
    """

    steps: int = 2


@MODELS.register("r2unet")
@dataclass
class R2UNetConfig(RecurrentConfig):
    """R2U-Net (arXiv:1802.06955): recurrent residual blocks."""

    name: str = "r2unet"


@MODELS.register("r2attunet")
@dataclass
class R2AttUNetConfig(RecurrentConfig):
    """R2U-Net with attention gates on the skip connections (arXiv:1804.03999)."""

    name: str = "r2attunet"


@MODELS.register("runet")
@dataclass
class RUNetConfig(RecurrentConfig):
    """RU-Net: recurrent blocks without residual connections."""

    name: str = "runet"


@MODELS.register("resunet")
@dataclass
class ResUNetConfig(FixedConfig):
    """ResU-Net: residual blocks of two convolutions."""

    name: str = "resunet"


@MODELS.register("attunet")
@dataclass
class AttUNetConfig(FixedConfig):
    """U-Net with attention gates on the skip connections (arXiv:1804.03999)."""

    name: str = "attunet"


@MODELS.register("unet")
@dataclass
class UNetConfig(FixedConfig):
    """U-Net (arXiv:1505.04597) with padding and batch norm, without residual connections."""

    name: str = "unet"


@MODELS.register("smp")
@dataclass
class SMPConfig(SegModelConfig):
    """A decoder of segmentation_models_pytorch on any encoder, for images.

    Args:
        decoder: Unet, UnetPlusPlus, MAnet, Linknet, FPN, PSPNet, PAN, DeepLabV3, DeepLabV3Plus, UPerNet or Segformer.
        encoder: One of core.backbones (resnet18), or an encoder of the library itself (tu-... for timm's); the
            residual rule reaches those of core.
        encoder_weights: File of weights for an encoder of core, as timm or torchvision have them.
        options: Options of the decoder, such as {decoder_channels: [128, 64, 32, 16, 8]}.
        encoder_options: Options of an encoder of core, such as {norm: group}.
    """

    name: str = "smp"
    decoder: str = "Unet"
    encoder: str = "resnet18"
    encoder_weights: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    encoder_options: dict[str, Any] = field(default_factory=dict)


@dataclass
class SegTrainConfig(TrainConfig):
    """How the one training loop runs (``core/train/loop.py``).

    Args:
        batch_size: Patches in a step, over all processes; by default the plan's.
        batches_per_epoch: Batches in an epoch, drawn with replacement; nnU-Net has 250.
        foreground: Share of the patches that are put on a labelled voxel.
        loss: dice_ce (soft Dice and cross entropy, nnU-Net's) or ce (cross entropy alone, R2U-Net's).
        validation_batches: Batches of the pseudo-Dice that is watched.
    """

    batch_size: int | None = None  # type: ignore[assignment]  # the plan's
    batches_per_epoch: int = 250
    foreground: float = 0.33
    loss: Literal["dice_ce", "ce"] = "dice_ce"
    validation_batches: int = 10


@dataclass
class MaskedConfig:
    """Pre-training without labels, by filling in what is masked (arXiv:2410.23132).

    Args:
        ratio: Share of the blocks that is masked.
        block: Side of a block, voxels; no larger than a patch.
    """

    ratio: float = 0.75
    block: int = 16


@dataclass
class InferenceConfig:
    """How a network is applied to whole images.

    Args:
        step: Step of the windows as a share of the patch.
        mirror: Average over mirrored inputs, 2 to 8 times the work; auto does so on a GPU, and not on a CPU.
        batch: Windows that are computed together.
    """

    step: float = 0.5
    mirror: Literal["auto", "yes", "no"] = "auto"
    batch: int = 2


@dataclass
class SegScoringConfig(InferenceConfig):
    """How a trained model is scored.

    Args:
        tolerance: Of the surface Dice, mm (pixels where the spacing is not known).
        baselines: Classical methods to compare with; the first that applies decides about promotion.
        iou: Overlap from which an object counts as found.
    """

    tolerance: float = 1.0
    baselines: list[Literal["threshold", "otsu", "prior", "majority"]] = field(
        default_factory=lambda: ["threshold", "otsu", "prior", "majority"]
    )
    iou: float = 0.5


@dataclass
class SegmentationConfig(RunConfig):
    """Trains a segmentation network.

    Args:
        objective: segment, or masked: pre-training without labels, whose model is a start (--train.start_from).
        data: Images and labels.
        plan: How the pipeline is configured from them.
        augment: How patches are changed at random.
        masked: Pre-training.
        postprocess: Decide on validation data whether only the largest component of a class is kept.
        scoring: How a model is scored.
    """

    objective: Literal["segment", "masked"] = "segment"
    train: SegTrainConfig = field(default_factory=SegTrainConfig)
    data: DataConfig = field(default_factory=DataConfig)
    plan: PlanConfig = field(default_factory=PlanConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    model: Any = field(default_factory=ResEncConfig)
    masked: MaskedConfig = field(default_factory=MaskedConfig)
    postprocess: bool = True
    scoring: SegScoringConfig = field(default_factory=SegScoringConfig)


@dataclass
class SegEvaluateConfig(EvaluateConfig):
    """Scores a trained segmentation model on the held-out cases of its data set, or on other cases.

    Args:
        data: Images and labels. With test_path alone, nothing else is read and all of it is tested.
        scoring: How a model is scored.
    """

    data: DataConfig = field(default_factory=DataConfig)
    scoring: SegScoringConfig = field(default_factory=SegScoringConfig)


@dataclass
class SegPredictConfig(InferenceConfig, PredictConfig):
    """Segments images or volumes.

    Args:
        input: Image, volume, or folder of them; channels of a case are files NAME_0000, NAME_0001, ... or one file.
        output: Label file, or folder; by default beside the input, with _seg in its name.
        probabilities: Also write the probabilities of the classes, NAME.npz.
        overlay: Also draw image and result, NAME_overlay.png.
        spacing: Spacing of files that have none, mm, first axis first.
    """

    probabilities: bool = False
    overlay: bool = False
    spacing: list[float] | None = None


@dataclass
class PlanCommandConfig:
    """Plans a data set.

    Args:
        data: Images and labels.
        plan: Rules: preset (all of them, if it is not given), memory, spacing and normalisation.
        output: Folder for dataset_fingerprint.json, the plans and plan.log.
        fingerprint: dataset_fingerprint.json of nnU-Net, in place of data.
        dataset: The dataset.json that belongs to it.
    """

    data: DataConfig = field(default_factory=DataConfig)
    plan: PlanConfig = field(default_factory=PlanConfig)
    output: str = "plans"
    fingerprint: str | None = None
    dataset: str | None = None
    given: tuple[str, ...] = ()
    """Keys that the user set; not an option itself, see :func:`core.parser.parse`."""


@dataclass
class BestConfig:
    """Chooses among cross-validated models of the same data.

    Args:
        models: Models to choose from, each trained with equal --data.folds: runs' folders, packages' folders, or
            models:/NAME/VERSION.
        output: Folder for the package of the winner; predict takes it as --model.
        tracking: MLflow tracking URI of the registry; by default MLFLOW_TRACKING_URI or a local sqlite file.
        data: Images and labels; by default those of the training.
        scoring: How the models are applied.
    """

    models: list[str] = field(default_factory=list)
    output: str = "best"
    tracking: str | None = None
    data: DataConfig = field(default_factory=DataConfig)
    scoring: SegScoringConfig = field(default_factory=SegScoringConfig)
    given: tuple[str, ...] = ()
    """Keys that the user set; not an option itself, see :func:`core.parser.parse`."""
