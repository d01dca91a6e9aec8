"""Configuration of the CSI task. Imports no heavy library."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from core.config import EvaluateConfig, PredictConfig, RuleConfig, RunConfig, TrainConfig
from core.registry import Registry

MODELS: Registry[type] = Registry("csi model")


@dataclass
class ChannelConfig:
    """What the channels are like. The defaults are CSI-4CAST's (arXiv:2510.12996, simulation settings).

    Args:
        rows: Rows of the base station's panel; each element has two polarisations.
        columns: Columns of the panel.
        subcarriers: Subcarriers of the uplink, and of the downlink.
        gap: Subcarriers between the two.
        spacing: Subcarrier spacing, Hz.
        carrier: Carrier frequency, Hz.
        period: Slots of 14 symbols from one report to the next.
        history: Reports that are known.
        horizon: Reports that are predicted.
        slower: Draw each sample's speed evenly between 0 and that of its condition, as CSI-4CAST's generator does
            (it leaves Sionna's greatest speed at 0). By default every sample has exactly that speed.
    """

    rows: int = 4
    columns: int = 4
    subcarriers: int = 300
    gap: int = 150
    spacing: float = 30e3
    carrier: float = 2.4e9
    period: int = 5
    history: int = 16
    horizon: int = 4
    slower: bool = False


@dataclass
class DataConfig(ChannelConfig):
    """Which channels, and how they are disturbed.

    Args:
        name: auto, cdl (made by the generator), or files (the layout of CSI-4CAST's data). auto is cdl when no path
            is given.
        path: Folder with train/regular/cm_A_ds_030_ms_001/H_U_hist.pt and so on.
        cache: Folder that generated channels are kept in; by default $SKIPWAY_CACHE or ~/.cache/skipway, in csi.
        memory: Most memory that loaded channels take, GB; what is beyond lies in a file in $SKIPWAY_CACHE or
            ~/.cache/skipway, which is slower. By default a quarter of the machine's.
        duplex: tdd predicts the uplink from the uplink, fdd the downlink from the uplink.
        models: CDL models to learn from, of A to E.
        delay_spreads: Their root mean square delay spreads, ns.
        speeds: Their speeds, m/s.
        samples: Samples of each combination to learn from.
        test_models: CDL models to test on; by default those to learn from.
        test_delay_spreads: Delay spreads to test on, ns; by default those to learn from.
        test_speeds: Speeds to test on, m/s; by default those to learn from.
        test_samples: Samples of each combination to test on.
        validation_share: Share of the samples of each combination that early stopping looks at.
        snr: Range in dB from which each training sample draws the signal-to-noise ratio of its history.
        redraw: Draw that noise anew in every epoch; the authors draw it once.
        rotate: Turn the phase of each antenna of a training sample by a random angle, the same in history and target.
        test_noise: Disturbances of the test histories: clean, awgn:10 (dB), phase:0.1 (rad), burst:0.1 and drop:0.1
            (degrees as in CSI-4CAST), or burst:10dB and so on for the degree that has this signal-to-noise ratio.
        workers: Processes that generate; 0 uses one for each processor core.
        seed: Seed of the channels.
    """

    name: Literal["auto", "cdl", "files"] = "auto"
    path: str | None = None
    cache: str | None = None
    memory: float | None = None
    duplex: Literal["tdd", "fdd"] = "tdd"
    models: list[str] = field(default_factory=lambda: ["A", "C", "D"])
    delay_spreads: list[float] = field(default_factory=lambda: [30.0, 100.0, 300.0])
    speeds: list[float] = field(default_factory=lambda: [1.0, 10.0, 30.0])
    samples: int = 1000
    test_models: list[str] | None = None
    test_delay_spreads: list[float] | None = None
    test_speeds: list[float] | None = None
    test_samples: int = 100
    validation_share: float = 0.1
    snr: list[float] = field(default_factory=lambda: [0.0, 25.0])
    redraw: bool = True
    rotate: bool = False
    test_noise: list[str] = field(default_factory=lambda: ["clean", "awgn:10"])
    workers: int = 0
    seed: int = 0


@dataclass
class CsiModelConfig(RuleConfig):
    """What all networks share.

    Args:
        standardise: sample (each antenna's history has mean 0 and deviation 1), batch (one mean and deviation of the
            whole batch, as the paper's released code: predictions then depend on what else is in the batch), or none.
    """

    standardise: Literal["sample", "batch", "none"] = "sample"


@dataclass
class Csi4CastConfig(CsiModelConfig):
    """CSI-4CAST (arXiv:2510.12996): denoiser, adaptive residual layers, shuffle blocks and a transformer.

    Args:
        denoiser: Widths of the denoiser: n is 2, 4, ..., 2^n channels and back; 1 is no denoiser.
        time_layers: Layers of the perceptrons over time.
        time_hidden: Their width.
        time_residual: How their input comes back: none, add or multiply.
        band_layers: Layers of the perceptrons over subcarriers; 0 is none.
        band_hidden: Their width.
        band_residual: How their input comes back on the frequency branch: none, add or multiply.
        delay_residual: The same on the delay branch. The released FDD code multiplies there, though it means to add.
        channels: Channels of the shuffle blocks.
        groups: Groups of their convolutions.
        blocks: Shuffle blocks of a branch.
        attention: Pooling of their channel attention: avg, or avg_max.
        reduction: Reduction of that attention.
        width: Width of the transformer.
        layers: Its layers.
        heads: Its heads.
        feedforward: Width of its feed-forward layers.
        dropout: Of the transformer.
        input_dropout: Of the perceptrons and the embedding.
        temporal: Keep the unused temporal embedding of the released code, so that weights and counts agree.
    """

    name: str = "csi4cast_tdd"
    denoiser: int = 3
    time_layers: int = 4
    time_hidden: int = 512
    time_residual: Literal["none", "add", "multiply"] = "none"
    band_layers: int = 0
    band_hidden: int = 2048
    band_residual: Literal["none", "add", "multiply"] = "add"
    delay_residual: Literal["none", "add", "multiply"] = "add"
    channels: int = 64
    groups: int = 4
    blocks: int = 4
    attention: Literal["avg", "avg_max"] = "avg"
    reduction: int = 2
    width: int = 768
    layers: int = 6
    heads: int = 8
    feedforward: int = 512
    dropout: float = 0.1
    input_dropout: float = 0.1
    temporal: bool = False


@MODELS.register("csi4cast_tdd")
@dataclass
class Csi4CastTddConfig(Csi4CastConfig):
    """The tuned TDD model: 21,913,750 parameters with the unused embedding (temporal)."""

    temporal: bool = True


@MODELS.register("csi4cast_fdd")
@dataclass
class Csi4CastFddConfig(Csi4CastConfig):
    """The tuned FDD model: 38,636,286 parameters with the unused embedding (temporal)."""

    name: str = "csi4cast_fdd"
    denoiser: int = 5
    band_layers: int = 3
    channels: int = 128
    groups: int = 8
    attention: Literal["avg", "avg_max"] = "avg_max"
    reduction: int = 1
    layers: int = 4
    heads: int = 4
    feedforward: int = 2048
    dropout: float = 0.2
    temporal: bool = True


@MODELS.register("csi4cast_small")
@dataclass
class Csi4CastSmallConfig(Csi4CastConfig):
    """A preset that trains on a CPU."""

    name: str = "csi4cast_small"
    time_hidden: int = 64
    time_layers: int = 3
    channels: int = 8
    groups: int = 2
    blocks: int = 1
    width: int = 96
    layers: int = 2
    heads: int = 4
    feedforward: int = 192
    dropout: float = 0.0
    input_dropout: float = 0.0


@MODELS.register("rnn")
@dataclass
class RnnConfig(CsiModelConfig):
    """A recurrent network over the reports.

    Args:
        cell: gru or lstm.
        width: Size of its state.
        layers: Its layers.
    """

    name: str = "rnn"
    cell: Literal["gru", "lstm"] = "gru"
    width: int = 256
    layers: int = 2


@MODELS.register("cnn")
@dataclass
class CnnConfig(CsiModelConfig):
    """Residual convolutions over reports and subcarriers.

    Args:
        width: Channels.
        blocks: Residual blocks.
    """

    name: str = "cnn"
    width: int = 32
    blocks: int = 4


@MODELS.register("transformer")
@dataclass
class TransformerConfig(CsiModelConfig):
    """A transformer over the reports.

    Args:
        width: Width.
        layers: Layers.
        heads: Heads.
        feedforward: Width of the feed-forward layers.
        dropout: Dropout.
    """

    name: str = "transformer"
    width: int = 128
    layers: int = 3
    heads: int = 4
    feedforward: int = 256
    dropout: float = 0.0


@MODELS.register("backbone")
@dataclass
class BackboneConfig(CsiModelConfig):
    """Any one-dimensional network of core.backbones over the subcarriers; reports are channels.

    Args:
        backbone: Its name, see python -m core.backbones; its features are brought back to every subcarrier.
        options: Options of create_backbone, such as {norm: group}.
    """

    name: str = "backbone"
    backbone: str = "resnet18"
    options: dict[str, Any] = field(default_factory=dict)


@dataclass
class CsiTrainConfig(TrainConfig):
    """How the one training loop runs (``core/train/loop.py``).

    Args:
        batch_size: Samples of all antennas in a step; the networks see each antenna on its own.
        teacher_distance: relative (error over power of the teacher's reports, as the loss), or mse.
    """

    batch_size: int = 16
    lr: float = 5e-4
    weight_decay: float = 1e-4
    teacher_distance: Literal["mse", "relative"] = "relative"


@dataclass
class CsiScoringConfig:
    """How predictions are scored.

    Args:
        snr: Signal-to-noise ratio of the spectral efficiency, dB.
        batch: Samples that are predicted together.
        baselines: What the model is compared with: last (no prediction), ar (ridge regression of the next reports on
            the reports before, one set of coefficients for all antennas, subcarriers and conditions, fitted to at most
            1000 training histories in noise), wiener (the same from the correlation over time of those channels without
            noise and the noise power of each test sample, which it is told), pad (Prony's method for each delay, shared
            by the antennas, after PAD; its order was chosen on channels like those of the test, CDL E included). The
            first decides about promotion.
        order: Reports that ar and wiener look back, at most those of the history.
        ridge: Penalty of ar, relative to the mean power; wiener has none.
        cost: Also count the network's operations and processor time.
    """

    snr: float = 10.0
    batch: int = 8
    baselines: list[Literal["last", "ar", "wiener", "pad"]] = field(
        default_factory=lambda: ["ar", "last", "wiener", "pad"]
    )
    order: int = 16
    ridge: float = 1e-3
    cost: bool = True


@dataclass
class CsiConfig(RunConfig):
    """Trains a predictor of channel state information.

    Args:
        data: Channels.
        model: Network; its options depend on its name.
        train: Training loop.
        scoring: How the test channels are scored.
    """

    data: DataConfig = field(default_factory=DataConfig)
    model: Any = field(default_factory=Csi4CastSmallConfig)
    train: CsiTrainConfig = field(default_factory=CsiTrainConfig)
    scoring: CsiScoringConfig = field(default_factory=CsiScoringConfig)


@dataclass
class CsiEvaluateConfig(EvaluateConfig):
    """Scores a trained predictor.

    Args:
        data: Channels to test on; by default those of the training.
        scoring: How they are scored; by default as in training.
    """

    data: DataConfig = field(default_factory=DataConfig)
    scoring: CsiScoringConfig = field(default_factory=CsiScoringConfig)


@dataclass
class CsiPredictConfig(PredictConfig):
    """Predicts the next reports.

    Args:
        input: File or folder of files with complex histories (samples, antennas, reports, subcarriers): .pt, .npy or
            .npz.
        output: File for one input, folder for a folder; by default beside the input, as H_U_hist_predicted.npy.
        batch: Samples that are predicted together.
    """

    batch: int = 8


@dataclass
class GenerateConfig:
    """Generates channels in the layout of CSI-4CAST's data; what is there already is kept.

    Args:
        output: Folder.
        part: train, test, or both.
        data: Which channels. Not looked at: duplex (files hold both), validation_share, snr, redraw, rotate,
            test_noise; path, cache and the name files are refused.
        model: Not looked at, like train and scoring: the file of a training says which channels it needs.
        train: Not looked at.
        scoring: Not looked at.
    """

    output: str | None = None
    part: Literal["train", "test", "both"] = "both"
    data: DataConfig = field(default_factory=DataConfig)
    model: dict[str, Any] = field(default_factory=dict)
    train: dict[str, Any] = field(default_factory=dict)
    scoring: dict[str, Any] = field(default_factory=dict)
