"""From configuration and data to learners, and from trained learners to a package."""

from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np
import torch

from core.config import per_part, to_dict
from core.errors import ConfigError
from core.residual import create_rule
from core.task import Packaged, Part, data_record
from tasks.forecasting.config import EnsembleConfig, ForecastingConfig
from tasks.forecasting.data.series import SeriesData
from tasks.forecasting.ensemble import Ensemble, EnsembleLearner
from tasks.forecasting.intervals import calibrate, split_for_calibration
from tasks.forecasting.losses import LOSSES
from tasks.forecasting.sampler import WindowSource

COUNTS = (
    "repeats",
    "layers",
    "blocks",
    "width",
    "trend_blocks",
    "trend_width",
    "seasonality_blocks",
    "seasonality_width",
    "harmonics",
)


def resolve_model(config: EnsembleConfig, data: SeriesData) -> EnsembleConfig:
    """Returns the configuration with the losses chosen for the data; ``ConfigError`` if it cannot be built."""
    if config.losses is None:
        # The paper trains on MAPE for Tourism, whose score it is; sMAPE and MASE bear zeros.
        config = replace(config, losses=["mape"] if data.name == "tourism" else ["smape", "mase"])
    for name in ("lookbacks", "losses"):
        if not getattr(config, name):
            raise ConfigError(f"--model.{name} is empty; give at least one")
    for name in ("lookbacks", "losses"):
        values = getattr(config, name)
        if len(set(values)) != len(values):
            raise ConfigError(f"--model.{name} {values} names a member twice; use --model.repeats")
    if min(config.lookbacks) < 1:
        raise ConfigError(f"--model.lookbacks {config.lookbacks}: a lookback is 1 horizon or more")
    for name in COUNTS:
        if getattr(config, name, 1) < 1:
            raise ConfigError(f"--model.{name} {getattr(config, name)} is too small; use 1 or more")
    if getattr(config, "trend_degree", 0) < 0:
        raise ConfigError("--model.trend_degree: a polynomial has a degree of 0 or more")
    if unknown := set(config.losses or []) - set(LOSSES):
        raise ConfigError(f"--model.losses: unknown loss {unknown.pop()!r}; known are {', '.join(LOSSES)}")
    create_rule(config.rule, channels=1, dims=0, **config.rule_options)
    return config


def build_parts(config: ForecastingConfig, data: SeriesData) -> list[Part]:
    """Returns one learner with its windows for each frequency."""
    model = resolve_model(config.model, data)
    if wrong := [level for level in config.intervals.levels if not 1 <= level <= 99]:
        raise ConfigError(f"--intervals.levels {wrong[0]} is not a coverage; use percents from 1 to 99")
    parts = []
    for group in data.groups:
        history = per_part(config.train.history, group.name, "train.history")
        if not history * group.horizon >= 1:
            raise ConfigError(
                f"--train.history {history} of {group.horizon} steps holds no window; use 1 or more"
            )
        if "mase" in (model.losses or []) and min(model.lookbacks) * group.horizon < 2:
            raise ConfigError(
                f"{group.name}: a lookback of one step has no naive error to scale the loss mase by; use "
                "--model.lookbacks of 2 or more, or other --model.losses"
            )
        split = split_for_calibration(group, config.intervals.calibration, config.seed)
        ensemble = Ensemble(model, group.horizon, config.seed)
        source = WindowSource(
            split.train,
            horizon=group.horizon,
            history=history,
            members=ensemble.members,
            batch_size=config.train.batch_size,
            seed=config.seed,
        )
        learner = EnsembleLearner(ensemble, group.seasonality, split.ids, split.calibration)
        parts.append(Part(group.name, learner, source, split.note))
    return parts


def build_package(
    config: ForecastingConfig, data: SeriesData, learners: dict[str, EnsembleLearner], metric: str
) -> Packaged:
    """Calibrates the intervals and returns everything that a forecaster is rebuilt from."""
    tensors: dict[str, torch.Tensor] = {}
    groups = {}
    for group in data.groups:
        ensemble = learners[group.name].model
        tensors |= {f"{group.name}|{name}": value for name, value in ensemble.state_dict().items()}
        groups[group.name] = {
            "freq": group.freq,
            "seasonality": group.seasonality,
            "horizon": group.horizon,
            "members": [asdict(member) for member in ensemble.members],
        }
        held_out = learners[group.name].held_out
        if held_out is not None:
            with torch.inference_mode():
                forecasts = ensemble(held_out.history).cpu().numpy()
            half_width = calibrate(np.median(forecasts, axis=0), held_out, config.intervals.levels)
            if np.isfinite(half_width).all():
                tensors[f"{group.name}|half_width"] = torch.from_numpy(half_width)
    return Packaged(
        config={"model": to_dict(ensemble.config), "groups": groups},
        tensors=tensors,
        metadata={
            "levels": config.intervals.levels,
            "intervals": config.intervals.method,
            "metric": metric,
            "seed": config.seed,
            "data": data_record(data, config.data),
            "input": "long table: unique_id, ds (time), y (value)",
            "output": "long table: unique_id, ds, forecast (median of the members), lo-LEVEL, hi-LEVEL",
        },
    )
