"""Configuration of the detection task. Imports no heavy library."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from core.config import EvaluateConfig, PredictConfig, RuleConfig, RunConfig, TrainConfig
from core.registry import Registry

MODELS: Registry[type] = Registry("detection model")


@dataclass
class DataConfig:
    """Which images and boxes, and how they are split.

    Args:
        name: auto, overlays (text and shapes drawn on the photographs inside scikit-image) or folder. auto is overlays
            when no path is given, else folder.
        path: Your folder: COCO (JSON beside or above the images), Pascal VOC (Annotations, JPEGImages, ImageSets, or
            XML beside the images) or YOLO (images and labels, or data.yaml), with or without train, valid and test
            inside; or a COCO JSON file.
        test_path: Folder or file of the same kind to test on; by default the test or validation part of path, or
            test_share of it.
        images: Folder of the images, where the annotations do not tell.
        layout: How the folder is read; auto finds out.
        classes: Classes to learn, of those in the data; all by default.
        single_class: Take all classes for one, object.
        group: Regular expression on the names of the images; what it finds names the scene. A scene is never on both
            sides of a split.
        test_share: Share of the images, or scenes, that is held out where the data has no test part.
        validation_share: Share of the training images that the curves and early stopping look at, where the data has no
            validation part beside its test part.
        train_share: Share of the training images that is used, to see how few are enough.
        voc_one_based: Pixels in VOC files count from 1, both ends included, as in the original ones: a box begins one
            pixel before its xmin.
        memory: Decoded images that are kept in memory, GB, in each process.
    """

    name: Literal["auto", "overlays", "folder"] = "auto"
    path: str | None = None
    test_path: str | None = None
    images: str | None = None
    layout: Literal["auto", "coco", "voc", "yolo"] = "auto"
    classes: list[str] | None = None
    single_class: bool = False
    group: str | None = None
    test_share: float = 0.2
    validation_share: float = 0.0
    train_share: float = 1.0
    voc_one_based: bool = False
    memory: float = 1.0


@dataclass
class AugmentConfig:
    """How training images are changed at random, in the order in which they are applied (RTMDet, section 3.3).

    Args:
        mosaic: Probability that an image is joined with three others.
        scale: Smallest and largest factor on the size, against the image fitted into twice the input size in a mosaic
            and into the input size in plain images.
        hsv: Largest shift of hue (of 180), saturation and value (of 255).
        flip: Probability of a mirror image.
        flip_vertical: Probability that an image stands on its head: for images without an up, such as microscopy.
        mixup: Probability that an image is blended with another one, itself a mosaic.
        cache: The others are drawn from as many images before it, which are still in memory; 0 draws from all.
        plain_epochs: Epochs without mosaic and mixup at the end; by default 20 of 300, and at least one.
    """

    mosaic: float = 1.0
    scale: list[float] = field(default_factory=lambda: [0.5, 2.0])
    hsv: list[float] = field(default_factory=lambda: [5.0, 30.0, 30.0])
    flip: float = 0.5
    flip_vertical: float = 0.0
    mixup: float = 0.5
    cache: int = 40
    plain_epochs: int | None = None


@dataclass
class RTMDetBaseConfig(RuleConfig):
    """What both kinds of RTMDet share.

    Args:
        size: nano (for CPUs, not of the paper), tiny, s, m, l or x.
        backbone: Backbone of the core in place of CSPNeXt, such as resnet18; 1x1 convolutions adapt its widths.
        backbone_options: Options of the backbone, such as {drop_path: 0.1}.
        backbone_weights: File of weights for the backbone: .safetensors, or a state_dict that torch.load reads safely.
        pixels: Order of the colours that the network reads: bgr, as published weights do, or rgb.
    """

    size: Literal["nano", "tiny", "s", "m", "l", "x"] = "tiny"
    backbone: str | None = None
    backbone_options: dict[str, Any] = field(default_factory=dict)
    backbone_weights: str | None = None
    pixels: Literal["bgr", "rgb"] = "bgr"


@MODELS.register("rtmdet")
@dataclass
class RTMDetConfig(RTMDetBaseConfig):
    """RTMDet: boxes (Lyu et al., arXiv:2212.07784).

    Args:
        name: rtmdet.
        exp_on_reg: Whether distances are the exponential of the outputs; by default as published, for m, l and x, and
            for nano.
    """

    name: str = "rtmdet"
    exp_on_reg: bool | None = None


@MODELS.register("rtmdet_ins")
@dataclass
class RTMDetInsConfig(RTMDetBaseConfig):
    """RTMDet-Ins: boxes and masks (Lyu et al., arXiv:2212.07784, section 3.4). The data needs polygons or masks.

    Args:
        name: rtmdet_ins.
    """

    name: str = "rtmdet_ins"


@MODELS.register("ssdlite")
@dataclass
class SSDLiteConfig(RuleConfig):
    """torchvision's SSDLite on MobileNetV3-Large, to compare with: trained by the same loop on the same images.

    Args:
        name: ssdlite.
        backbone_weights: File of weights for the backbone: .safetensors, or a state_dict that torch.load reads safely.
    """

    name: str = "ssdlite"
    backbone_weights: str | None = None


@dataclass
class DetTrainConfig(TrainConfig):
    """The loop with the defaults of RTMDet (arXiv:2212.07784, table 3).

    Its average of the weights is scaled to short trainings: 138,600 steps are the 300 epochs of COCO that it was chosen
    for.
    """

    epochs: int | None = 300
    batch_size: int = 32
    lr: float = 0.004
    lr_base_batch: int | None = 256
    optimizer: Literal["adam", "adamw", "sgd", "lamb"] = "adamw"
    weight_decay: float = 0.05
    schedule: Literal["constant", "cosine", "poly", "thirds", "milestones", "sawtooth", "flat_cosine"] = (
        "flat_cosine"
    )
    warmup_steps: int = 1000
    ema: float | None = 0.9998
    ema_gamma: float | None = 2000.0
    ema_steps: int | None = 138_600
    channels_last: bool = True


@dataclass
class InferenceConfig:
    """How a network is applied.

    Args:
        iou: Of two boxes of one class that overlap by more than this, the one with the lower score goes (NMS).
        max_detections: Most boxes in an image.
        agnostic: Let boxes of different classes suppress each other too.
        tile: Side of overlapping parts of a large image that are searched one by one, pixels of the image; 0 is off.
        overlap: Share of a tile that the next one repeats.
        batch: Images or tiles that are computed together.
    """

    iou: float = 0.65
    max_detections: int = 300
    agnostic: bool = False
    tile: int = 0
    overlap: float = 0.2
    batch: int = 8


@dataclass
class DetScoringConfig(InferenceConfig):
    """How detections are scored.

    Args:
        score: Least score of a box that is scored; COCO's mean over recalls needs the low ones too.
        multi_label: Every class of a place above the score counts, not only the best one, as in the published figures.
        confidence: Least score of a box in the confusion matrix and the pictures.
        bootstrap: Resamplings of the test images for the 95 % interval of the mAP; 0 is off.
        baselines: What the model is compared with: regions (parts that differ from the background, told apart by size,
            shape and colour), prior (the training set's usual boxes in every image).
    """

    score: float = 0.001
    multi_label: bool = True
    confidence: float = 0.3
    bootstrap: int = 200
    baselines: list[Literal["regions", "prior"]] = field(default_factory=lambda: ["regions", "prior"])


@dataclass
class DetectionConfig(RunConfig):
    """Trains a detector.

    Args:
        image_size: Side of the square that images are fitted into, pixels; a multiple of 32. Published models have 640.
        data: Images and boxes.
        augment: Random changes.
        model: Network; its options depend on its name.
        train: Training loop.
        scoring: How the held-out images are scored.
    """

    image_size: int = 320
    data: DataConfig = field(default_factory=DataConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    model: RTMDetBaseConfig | SSDLiteConfig = field(default_factory=RTMDetConfig)
    train: DetTrainConfig = field(default_factory=DetTrainConfig)
    scoring: DetScoringConfig = field(default_factory=DetScoringConfig)


@dataclass
class DetEvaluateConfig(EvaluateConfig):
    """Scores a trained detector.

    Args:
        data: Images and boxes; by default those of the training.
        scoring: How they are scored; by default as in training.
    """

    data: DataConfig = field(default_factory=DataConfig)
    scoring: DetScoringConfig = field(default_factory=DetScoringConfig)


@dataclass
class DetPredictConfig(InferenceConfig, PredictConfig):
    """Finds objects in images, folders of images and video files.

    Args:
        input: Image, folder of images, or video file.
        output: File or folder to write; by default beside the input: photo_detections.json for photo.jpg,
            photos_detections for the folder photos.
        score: Least score of a box.
        classes: Classes to report; all by default.
        draw: Also write pictures, or a video, with the boxes drawn.
        every: Of a video, search every so many frames.
        image_size: Side of the square that images are fitted into, pixels, a multiple of 32; by default the model's.
        max_detections: Most boxes in an image.
    """

    score: float = 0.3
    classes: list[str] | None = None
    draw: bool = True
    every: int = 1
    image_size: int | None = None
    max_detections: int = 300


@dataclass
class ConvertConfig:
    """Rewrites a data set in another format.

    Args:
        format: coco, voc or yolo.
        output: New folder.
        data: What to convert.
    """

    format: Literal["coco", "voc", "yolo"] = "coco"
    output: str | None = None
    data: DataConfig = field(default_factory=DataConfig)
