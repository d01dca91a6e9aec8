"""A trained forecaster: one ensemble for each frequency, the median as the point forecast, and intervals."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
import torch

from core.errors import DataError
from tasks.forecasting.config import MODELS, EnsembleConfig
from tasks.forecasting.data.series import Group
from tasks.forecasting.ensemble import Ensemble
from tasks.forecasting.intervals import conformal_bounds, spread_bounds
from tasks.forecasting.sampler import FlatSeries

CHUNK = 2048  # series forecast at once; bounds memory for sets of any size


@dataclass
class GroupModel:
    """The ensemble of one frequency.

    Attributes:
        freq: pandas period alias that it was trained on.
        seasonality: Steps in a season.
        horizon: Steps H that it forecasts.
        ensemble: Members.
        half_width: Calibrated half widths ``(levels, H)``, or ``None`` when nothing was held out.
    """

    freq: str
    seasonality: int
    horizon: int
    ensemble: Ensemble
    half_width: np.ndarray | None = None


@dataclass
class Forecast:
    """Forecasts of N series.

    Attributes:
        median: Point forecasts ``(N, H)``.
        members: Forecast of each member ``(M, N, H)``.
        intervals: Level in percent to lower and upper bounds, each ``(N, H)``.
        notes: What the reader should know, one line each.
    """

    median: np.ndarray
    members: np.ndarray
    intervals: dict[int, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


@dataclass
class Forecaster:
    """Ensembles by group name.

    Attributes:
        models: Group name to its ensemble.
        config: Configuration of the members.
        levels: Coverage levels of the intervals in percent.
        method: ``conformal`` or ``spread``; a group that was not calibrated uses the spread.
    """

    models: dict[str, GroupModel]
    config: EnsembleConfig
    levels: list[int]
    method: str

    def choose(self, group: Group, name: str | None = None) -> tuple[str, str | None]:
        """Returns the group model for some series, and a note when it was trained on another frequency.

        Raises:
            DataError: ``name`` is not a model of this forecaster.
        """
        if name is not None:
            if name not in self.models:
                raise DataError(f"this forecaster has no model {name!r}; it has {', '.join(self.models)}")
            return name, None
        same = [key for key, model in self.models.items() if _base(model.freq) == _base(group.freq)]
        if group.name in self.models or same:
            return (group.name if group.name in self.models else same[0]), None

        def distance(key: str) -> tuple[bool, float]:
            # A model of another season puts that season into the forecast; a wrong step length does less harm.
            model = self.models[key]
            steps = abs(np.log(_days(model.freq) / _days(group.freq)))
            return model.seasonality != group.seasonality, float(steps)

        nearest = min(self.models, key=distance)
        return (
            nearest,
            f"no model for {group.name} ({group.freq}): used {nearest}, the nearest season and frequency",
        )

    def member_forecasts(self, model: GroupModel, histories: list[np.ndarray], horizon: int) -> np.ndarray:
        """Returns forecasts ``(M, N, horizon)``; steps beyond the model's horizon are rolled forward."""
        chunks = []
        for start in range(0, len(histories), CHUNK):
            series = histories[start : start + CHUNK]
            pieces: list[np.ndarray] = []
            while sum(piece.shape[-1] for piece in pieces) < horizon:
                with torch.inference_mode():
                    forecast = model.ensemble(series)
                pieces.append(forecast.cpu().numpy().astype(np.float64))
                # The median, like the point forecast, is what stands for the values that are not there yet.
                step = np.median(pieces[-1], axis=0)
                series = [np.append(x, f) for x, f in zip(series, step, strict=True)]
            chunks.append(np.concatenate(pieces, axis=-1)[..., :horizon])
        return np.concatenate(chunks, axis=1)

    def forecast(self, group: Group, name: str | None = None, horizon: int | None = None) -> Forecast:
        """Forecasts what follows each history of ``group``.

        Args:
            group: Series; their test part is not looked at.
            name: Group model to use; chosen by frequency when not given.
            horizon: Steps; the model's own when not given.

        Raises:
            DataError: ``name`` is not a model of this forecaster, or ``horizon`` is not a number of steps.
        """
        if horizon is not None and horizon < 1:
            raise DataError(f"horizon {horizon} is not a number of steps to forecast; use 1 or more")
        key, note = self.choose(group, name)
        model = self.models[key]
        steps = horizon or model.horizon
        notes = [note] if note else []
        if steps > model.horizon:
            notes.append(
                f"{group.name}: {steps} steps asked of a model of {model.horizon}: rolled forward, and intervals "
                f"beyond step {model.horizon} grow with the square root of time"
            )
        members = self.member_forecasts(model, group.history, steps)
        result = Forecast(np.median(members, axis=0), members, notes=notes)
        calibrated = self.method == "conformal" and model.half_width is not None
        if self.method == "conformal" and not calibrated:
            notes.append(f"{group.name}: not calibrated, intervals are the spread of {len(members)} members")
        if calibrated and model.half_width is not None:
            scale = replace(group, seasonality=model.seasonality).naive_scale()
            beyond = np.sqrt(np.maximum(1.0, np.arange(1, steps + 1) / model.horizon))
            steps_known = np.minimum(np.arange(steps), model.horizon - 1)
            for level, half_width in zip(self.levels, model.half_width, strict=True):
                result.intervals[level] = conformal_bounds(
                    result.median, scale, half_width[steps_known] * beyond
                )
        else:
            result.intervals = {level: spread_bounds(members, level) for level in self.levels}
        return result

    def decompose(self, group: Group, name: str | None = None) -> dict[str, np.ndarray]:
        """Returns level, trend and seasonality ``(N, H)``, means over the members, for the interpretable model.

        Raises:
            DataError: The model's blocks have learned bases, which have no meaning of their own.
        """
        trend_blocks = getattr(self.config, "trend_blocks", None)
        if trend_blocks is None:
            raise DataError(
                f"{self.config.name} has no trend and seasonality; train --model nbeats_interpretable"
            )
        model = self.models[self.choose(group, name)[0]]
        ensemble = model.ensemble
        flat = FlatSeries(group.history, next(ensemble.parameters()).device, max(ensemble.lookbacks))
        sums = []
        for lookback, stack in zip(ensemble.lookbacks, ensemble.groups, strict=True):
            x, mask = flat.last_windows(lookback)
            for e in range(stack.num_members):  # type: ignore[arg-type]
                with torch.inference_mode():
                    parts = torch.stack(stack.member(e).components(x, mask))  # type: ignore[operator]
                split = parts.split([1, trend_blocks, len(parts) - 1 - trend_blocks])
                sums.append(torch.stack([part.sum(0) for part in split]))
        level, trend, seasonality = torch.stack(sums).mean(0).cpu().numpy()
        return {"level": level, "trend": trend, "seasonality": seasonality}


def build_forecaster(config: dict, tensors: dict[str, torch.Tensor], metadata: dict) -> Forecaster:
    """Rebuilds a forecaster from the content of a package."""
    model_config = MODELS[config["model"]["name"]](**config["model"])
    models = {}
    for name, group in config["groups"].items():
        ensemble = Ensemble(model_config, group["horizon"])
        prefix = f"{name}|"
        assert _days(group["freq"]) > 0, group["freq"]
        weights = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
        half_width = weights.pop("half_width", None)
        ensemble.load_state_dict(weights)
        models[name] = GroupModel(
            group["freq"],
            group["seasonality"],
            group["horizon"],
            ensemble.eval(),
            None if half_width is None else half_width.numpy(),
        )
    return Forecaster(models, model_config, metadata["levels"], metadata["intervals"])


def _base(freq: str) -> str:
    """Returns the alias without its anchor: ``W`` for ``W-SUN``."""
    return freq.split("-")[0]


def _days(freq: str) -> float:
    """Returns the average length of a period in days."""
    if _base(freq) == "B":
        return 7 / 5
    first = pd.Period("2000-01-01", freq=freq)
    return ((first + 100).start_time - first.start_time).total_seconds() / 100 / 86400
