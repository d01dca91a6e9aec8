"""Configuration of the forecasting task. Imports no heavy library."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from core.config import EvaluateConfig, PredictConfig, RunConfig, TrainConfig
from core.registry import Registry

MODELS: Registry[type] = Registry("forecasting model")

Loss = Literal["smape", "mape", "mase"]


@dataclass
class ReadConfig:
    """How a file of series is read.

    Args:
        name: Form of the file; auto guesses it.
        groups: Keep only these frequencies, such as [Yearly, Monthly].
        id_column: Column that names the series of a long table.
        time_column: Column with the timestamps.
        target_column: Column with the values.
        freq: Frequency as a pandas alias (h, D, W, M, Q, Y); inferred when not given.
        seasonality: Steps in a season; inferred from the frequency when not given.
        missing: What happens to missing values and missing timestamps inside a series.
        duplicates: What happens to two different values of one series at one time.
        min_length: Shorter histories are dropped; by default those with fewer than two values, or without any
            where nothing is held out.
    """

    name: Literal["auto", "long", "wide", "jsonl"] = "auto"
    groups: list[str] | None = None
    id_column: str = "unique_id"
    time_column: str = "ds"
    target_column: str = "y"
    freq: str | None = None
    seasonality: int | None = None
    missing: Literal["interpolate", "zero", "drop", "error"] = "interpolate"
    duplicates: Literal["error", "first", "last", "mean"] = "error"
    min_length: int | None = None


@dataclass
class DataConfig(ReadConfig):
    """Which series, and how they are read.

    Args:
        name: auto, tourism, m1, m3, m4, long, wide or jsonl. auto is tourism when no path is given and is
            otherwise guessed from the file.
        path: Your CSV, Parquet or GluonTS JSON Lines file; for m4 the folder with Train/ and Test/.
        horizon: Steps to forecast; the competition's own, or one that is stated.
        holdout: Hold out the last horizon of each series as the test part.
    """

    name: str = "auto"  # type: ignore[assignment]  # competitions have names of their own
    path: str | None = None
    horizon: int | None = None
    holdout: bool = True


@dataclass
class EnsembleConfig:
    """What the members of an ensemble share (arXiv 1905.10437, section 3.4 and appendix).

    Args:
        name: Model name.
        lookbacks: Input lengths in horizons; one member each.
        losses: Training losses, one member each for every lookback; by default mape for tourism and
            [smape, mase] for other data.
        repeats: Members that differ in their seed only.
        layers: Fully connected layers in a block.
        rule: Residual rule that joins a block to the stream; add is the paper's.
        rule_options: Options of the rule, such as {scale: 0.5}.
        scale: none feeds the values as they are (the paper); window_max divides each window by its largest
            magnitude, which helps on series of very different sizes and for zero-shot use.
        batched: Train members of one shape as batched matrix products; false runs one after the other.
    """

    name: str = "nbeats_generic"
    lookbacks: list[int] = field(default_factory=lambda: [2, 3, 4, 5, 6, 7])
    losses: list[Loss] | None = None
    repeats: int = 1
    layers: int = 4
    rule: str = "add"
    rule_options: dict[str, Any] = field(default_factory=dict)
    scale: Literal["none", "window_max"] = "none"
    batched: bool = True


@MODELS.register("nbeats_generic")
@dataclass
class GenericConfig(EnsembleConfig):
    """N-BEATS-G: blocks with learned bases (arXiv 1905.10437, section 3.3).

    Args:
        blocks: Number of blocks, each with its own weights.
        width: Units in each layer.
    """

    blocks: int = 30
    width: int = 512


@MODELS.register("nbeats_interpretable")
@dataclass
class InterpretableConfig(EnsembleConfig):
    """N-BEATS-I: a polynomial trend stack and a Fourier seasonality stack (arXiv 1905.10437, section 3.3).

    Args:
        trend_blocks: Times the trend block is applied; its weights are shared.
        trend_width: Units in each layer of the trend block.
        trend_degree: Degree of the polynomial.
        seasonality_blocks: Times the seasonality block is applied; its weights are shared.
        seasonality_width: Units in each layer of the seasonality block.
        harmonics: Density of the frequency grid.
    """

    name: str = "nbeats_interpretable"
    trend_blocks: int = 3
    trend_width: int = 256
    trend_degree: int = 2
    seasonality_blocks: int = 3
    seasonality_width: int = 2048
    harmonics: int = 1


@dataclass
class IntervalConfig:
    """Prediction intervals.

    Args:
        levels: Coverage levels in percent.
        method: conformal widens intervals to errors that were measured on held-out windows; spread takes
            the quantiles of the ensemble's members.
        calibration: Held-out windows for conformal intervals: series holds out a tenth of the series, time
            the last horizon of every history; auto chooses by the number of series; none trains on all data.
    """

    levels: list[int] = field(default_factory=lambda: [80, 95])
    method: Literal["conformal", "spread"] = "conformal"
    calibration: Literal["auto", "series", "time", "none"] = "auto"


@dataclass
class ForecastTrainConfig(TrainConfig):
    """How the one training loop runs (``core/train/loop.py``).

    Args:
        history: Windows are cut within this many horizons of the end of each series (L_H of the paper): one
            number, or one for each frequency ({"Yearly": 5, "default": 10}).
    """

    steps: int | dict[str, int] | None = 100
    batch_size: int = 1024
    schedule: Literal["constant", "cosine", "thirds", "milestones"] = "thirds"
    grad_clip: float | None = 1.0
    precision: Literal["auto", "fp32", "bf16"] = "fp32"  # raw values of any size go through the network
    history: float | dict[str, float] = 10.0


@dataclass
class ForecastingConfig(RunConfig):
    """Trains N-BEATS ensembles.

    Args:
        data: Series.
        intervals: Prediction intervals.
        metric: Metric that decides about promotion; auto is MAPE for tourism, sMAPE for the other
            competitions and MASE for your own series.
    """

    train: ForecastTrainConfig = field(default_factory=ForecastTrainConfig)
    data: DataConfig = field(default_factory=DataConfig)
    model: Any = field(default_factory=GenericConfig)
    intervals: IntervalConfig = field(default_factory=IntervalConfig)
    metric: Literal["auto", "mape", "smape", "mase", "nd"] = "auto"


@dataclass
class ForecastingEvaluateConfig(EvaluateConfig):
    """Scores a trained forecaster on held-out ends of series, of its own data set or of another (zero-shot).

    Args:
        data: Series.
        metric: Metric that is shown first; auto is MAPE for tourism, sMAPE for the other competitions and
            MASE for your own series.
    """

    data: DataConfig = field(default_factory=DataConfig)
    metric: Literal["auto", "mape", "smape", "mase", "nd"] = "auto"


@dataclass
class ForecastingPredictConfig(PredictConfig):
    """Forecasts the series of your files.

    Args:
        data: How the input is read.
        group: Model of the ensemble to use (Yearly, Quarterly, ...); chosen by frequency when not given.
        horizon: Steps to forecast; all that the model gives when not given.
        plot: File (.png, .svg, .pdf) for a picture of the first series with their forecasts; where input is a
            folder, anything draws one PNG beside each table.
        plot_series: Names of the series to draw.
    """

    data: ReadConfig = field(default_factory=ReadConfig)
    group: str | None = None
    horizon: int | None = None
    plot: str | None = None
    plot_series: list[str] | None = None
