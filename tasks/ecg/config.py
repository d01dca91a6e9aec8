"""Configuration of the ECG task. Imports no heavy library."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from core.config import EvaluateConfig, PredictConfig, RuleConfig, RunConfig, TrainConfig
from core.registry import Registry

MODELS: Registry[type] = Registry("ecg model")

LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
"""The standard twelve, in the order in which they are printed and in which networks see them."""
Pool = Literal["max", "mean"]


@dataclass
class AugmentConfig:
    """How training crops are changed at random.

    Args:
        scale: Largest change of all amplitudes, as a share.
        noise: Standard deviation of white noise, mV.
        wander: Largest amplitude of an added slow wave of 0.05 to 0.5 Hz in each lead, mV.
        lead_dropout: Probability that a lead is missing (zeros).
        mixup: Probability that a crop is the mean of two crops and of their labels, with a weight drawn anew.
    """

    scale: float = 0.0
    noise: float = 0.0
    wander: float = 0.0
    lead_dropout: float = 0.0
    mixup: float = 0.0


@dataclass
class DataConfig(AugmentConfig):
    """Which records, and how they are split.

    Args:
        name: auto, synthetic, ptbxl, ludb, challenge (WFDB or .mat files with a line "Dx:" in their headers), or table
            (records of any format and a CSV file of their labels). auto is synthetic when no path is given, else it
            is found out.
        path: Your folder.
        test_path: Folder of the same kind to test on; by default the official folds or test_share decide.
        table: CSV file of a table's labels, relative to the path; by default labels.csv. Columns: file, then either
            one column of 0 and 1 a class, or labels with names separated by ;. A column patient keeps the records of
            a patient on one side.
        labels: Classes; by default those with least or more positive records.
        label_set: Of PTB-XL: all, diagnostic, subdiagnostic, superdiagnostic, form, or rhythm statements.
        least: Fewest positive records of a class that is chosen by default.
        leads: Leads, in the order in which the network sees them; records may have them in any order.
        missing_leads: What is done about records without some lead: derive (from the other limb leads where Einthoven's
            and Goldberger's equations give it, else zeros), zeros, or drop (leave the record out).
        rate: Sampling rate, Hz; records of another rate are resampled.
        units: Unit of samples in files that do not say it (CSV, NumPy): mV, uV, or V.
        input_rate: Sampling rate of files that do not say it (CSV, NumPy), Hz.
        centre: Take each lead's median out, so that an electrode's offset does not matter.
        highpass: Corner of a filter against baseline wander, Hz; 0 is off.
        lowpass: Corner of a filter against muscle noise, Hz; 0 is off.
        notch: Mains frequency that is filtered out, Hz; 0 is off.
        patient: Regular expression on the names of the files; what it finds names the patient. By default the table's
            patient_id, or else each record is one patient's.
        test_share: Share of the patients that is held out where there are no official folds.
        validation_share: Share of the other patients that thresholds and early stopping are decided on.
        folds: Cross-validation over patients: number of folds, one network each. 0 is off.
        memory: Most memory that loaded records take, GB; what is beyond lies in a file in $SKIPWAY_CACHE or
            ~/.cache/skipway, which is slower. By default a quarter of the machine's.
    """

    name: Literal["auto", "synthetic", "ptbxl", "ludb", "challenge", "table"] = "auto"
    path: str | None = None
    test_path: str | None = None
    table: str | None = None
    labels: list[str] | None = None
    label_set: Literal["all", "diagnostic", "subdiagnostic", "superdiagnostic", "form", "rhythm"] = (
        "superdiagnostic"
    )
    least: int = 10
    leads: list[str] = field(default_factory=lambda: list(LEADS))
    missing_leads: Literal["derive", "zeros", "drop"] = "derive"
    rate: int = 100
    units: Literal["mV", "uV", "V"] = "mV"
    input_rate: float | None = None
    centre: bool = True
    highpass: float = 0.0
    lowpass: float = 0.0
    notch: float = 0.0
    patient: str | None = None
    test_share: float = 0.2
    validation_share: float = 0.1
    folds: int = 0
    memory: float | None = None


@dataclass
class ResNetWangConfig(RuleConfig):
    """resnet1d_wang of the PTB-XL benchmark (arXiv:2004.13701), after Wang et al. (arXiv:1611.06455).

    Args:
        width: Channels.
        dropout: Of the head, before its last layer; half of it before the first.
    """

    name: str = "resnet1d_wang"
    width: int = 128
    dropout: float = 0.5


MODELS.register("resnet1d_wang")(ResNetWangConfig)


@dataclass
class XResNetConfig(RuleConfig):
    """xresnet1d of the PTB-XL benchmark (arXiv:2004.13701): all stages equally wide.

    Args:
        width: Channels of every stage.
        kernel: Length of the convolutions, samples.
        layers: Blocks of the stages.
        bottleneck: Bottleneck blocks (expansion 4) in place of basic ones.
        dropout: Of the head, before its last layer; half of it before the first.
    """

    name: str = "xresnet1d18"
    width: int = 64
    kernel: int = 5
    layers: list[int] = field(default_factory=lambda: [2, 2, 2, 2])
    bottleneck: bool = False
    dropout: float = 0.5


@MODELS.register("xresnet1d18")
@dataclass
class XResNet18Config(XResNetConfig):
    """xresnet1d18: 373,447 parameters for 71 classes."""


@MODELS.register("xresnet1d50")
@dataclass
class XResNet50Config(XResNetConfig):
    """xresnet1d50: 962,503 parameters for 71 classes."""

    name: str = "xresnet1d50"
    layers: list[int] = field(default_factory=lambda: [3, 4, 6, 3])
    bottleneck: bool = True


@MODELS.register("xresnet1d101")
@dataclass
class XResNet101Config(XResNet50Config):
    """xresnet1d101: 1,880,775 parameters for 71 classes."""

    name: str = "xresnet1d101"
    layers: list[int] = field(default_factory=lambda: [3, 4, 23, 3])


@dataclass
class MambaConfig(RuleConfig):
    """1D-CNN-ECG-Mamba (arXiv:2510.13046): a convolutional stem, then bidirectional state-space blocks.

    Args:
        width: Channels of the blocks.
        depth: Blocks.
        state: Size of the state of each channel.
        conv: Length of the causal convolution in a block.
        expand: Inner width of a block, as a multiple.
        stem: Channels of the stem's first convolution.
        kernels: Lengths of the stem's two convolutions, samples.
        strides: Their strides.
        token: How the sequence becomes one vector: mean, or middle (a class token in the middle, as in Vision Mamba).
        halve: Halve the sum of both directions, as Vision Mamba's if_divide_out.
        dropout: Before the last layer.
        drop_path: Rate at which the last block's update is dropped; smaller ones rise to it over the depth.
    """

    name: str = "ecg_mamba"
    width: int = 384
    depth: int = 24
    state: int = 16
    conv: int = 4
    expand: int = 2
    stem: int = 128
    kernels: list[int] = field(default_factory=lambda: [14, 15])
    strides: list[int] = field(default_factory=lambda: [3, 4])
    token: Literal["mean", "middle"] = "middle"
    halve: bool = True
    dropout: float = 0.0
    drop_path: float = 0.0


MODELS.register("ecg_mamba")(MambaConfig)


@MODELS.register("ecg_mamba_small")
@dataclass
class MambaSmallConfig(MambaConfig):
    """A preset that trains on a CPU: 4 blocks of 96 channels, one token for 2 samples."""

    name: str = "ecg_mamba_small"
    width: int = 96
    depth: int = 4
    stem: int = 48
    kernels: list[int] = field(default_factory=lambda: [7, 7])
    strides: list[int] = field(default_factory=lambda: [1, 2])
    token: Literal["mean", "middle"] = "mean"
    dropout: float = 0.2


@MODELS.register("ecg_mamba_tiny")
@dataclass
class MambaTinyConfig(MambaSmallConfig):
    """A smaller one: 2 blocks of 64 channels, one token for 4 samples."""

    name: str = "ecg_mamba_tiny"
    width: int = 64
    depth: int = 2
    stem: int = 32
    strides: list[int] = field(default_factory=lambda: [2, 2])


@MODELS.register("backbone")
@dataclass
class BackboneConfig(RuleConfig):
    """Any network of core.backbones, in one dimension.

    Args:
        backbone: Its name, see python -m core.backbones.
        options: Options of create_backbone, such as {norm: group}.
        dropout: Before the last layer.
    """

    name: str = "backbone"
    backbone: str = "resnet18"
    options: dict[str, Any] = field(default_factory=dict)
    dropout: float = 0.0


@dataclass
class EcgTrainConfig(TrainConfig):
    """How the one training loop runs (``core/train/loop.py``).

    Args:
        loss: bce, focal (arXiv:1708.02002), or asymmetric (arXiv:2009.14119).
        balance: Weight positives of rare classes: none, or weights (the square root of negatives over positives).
        focusing: Exponent gamma of focal, and of the negatives in asymmetric.
        margin: Probability below which a negative has no loss, in asymmetric.
        teacher_distance: mse, or relative (mse over the mean square of the teacher's outputs); kl compares classes that
            exclude each other.
    """

    batch_size: int = 32
    lr: float = 0.003
    optimizer: Literal["adam", "adamw", "sgd", "lamb"] = "adamw"
    weight_decay: float = 0.01
    schedule: Literal[
        "constant", "cosine", "poly", "thirds", "milestones", "sawtooth", "flat_cosine", "one_cycle"
    ] = "one_cycle"
    loss: Literal["bce", "focal", "asymmetric"] = "bce"
    balance: Literal["none", "weights"] = "none"
    focusing: float = 2.0
    margin: float = 0.05
    teacher_distance: Literal["mse", "relative"] = "mse"


@dataclass
class WindowConfig:
    """How a record becomes windows.

    Args:
        stride: Time from one window to the next, s; by default as in training, and there half a window.
        pool: How the probabilities of a record's windows become one: max or mean; by default as in training, and
            there max.
        batch: Windows that go through the network together.
    """

    stride: float | None = None
    pool: Pool | None = None
    batch: int = 64


@dataclass
class EcgScoringConfig(WindowConfig):
    """How a trained model is scored.

    Args:
        threshold: What the threshold of each class maximises on the validation records: f1, f2, or youden (sensitivity
            plus specificity).
        bootstrap: Resamplings of the records for 95 % intervals; 0 is off.
        seed: Their seed.
        baselines: What the model is compared with: linear (logistic regression on intervals, amplitudes and power of
            the leads), prevalence (each class's share in the training records).
    """

    threshold: Literal["f1", "f2", "youden"] = "f1"
    bootstrap: int = 500
    seed: int = 0
    baselines: list[Literal["linear", "prevalence"]] = field(default_factory=lambda: ["linear", "prevalence"])


@dataclass
class EcgConfig(RunConfig):
    """Trains a classifier of electrocardiograms. Research software: not a medical device.

    Args:
        crop: Length of the network's input, s: random crops in training, sliding windows at test.
        normalise: How samples in mV are scaled: data (mean and deviation of all training samples), record (each
            window's own), or none.
        data: Records and labels.
        model: Network; its options depend on its name.
        train: Training loop.
        scoring: How the held-out records are scored.
    """

    crop: float = 2.5
    normalise: Literal["data", "record", "none"] = "data"
    data: DataConfig = field(default_factory=DataConfig)
    model: Any = field(default_factory=XResNet18Config)
    train: EcgTrainConfig = field(default_factory=EcgTrainConfig)
    scoring: EcgScoringConfig = field(default_factory=EcgScoringConfig)


@dataclass
class EcgEvaluateConfig(EvaluateConfig):
    """Scores a trained classifier. Research software: not a medical device.

    Args:
        data: Records and labels; by default those of the training. With test_path alone, all of it is tested.
        scoring: How they are scored; by default as in training.
    """

    data: DataConfig = field(default_factory=DataConfig)
    scoring: EcgScoringConfig = field(default_factory=EcgScoringConfig)


@dataclass
class EcgPredictConfig(WindowConfig, PredictConfig):
    """Names the findings in records and prints them on ECG paper. Research software: not a medical device.

    Args:
        input: Record, or folder of records: WFDB header (.hea), .mat, .csv, .npy or .npz.
        output: CSV file of probabilities; pages go beside it; by default findings.csv.
        page: Also print each record on ECG paper (25 mm/s, 10 mm/mV) with a strip of saliency: none, png or pdf.
        finding: Class whose saliency is shown; by default the most probable one over its threshold.
        threshold: Least probability of a finding, for all classes; by default each class's, as chosen in training.
        units: Unit of samples in files that do not say it (CSV, NumPy).
        input_rate: Sampling rate of files that do not say it, Hz.
    """

    page: Literal["none", "png", "pdf"] = "png"
    finding: str | None = None
    threshold: float | None = None
    units: Literal["mV", "uV", "V"] = "mV"
    input_rate: float | None = None
