"""Scores of a forecaster and of the classical methods on the held-out ends of series."""

from __future__ import annotations

import numpy as np

from core.errors import DataError
from core.task import Evaluation
from tasks.forecasting.baselines import BASELINES
from tasks.forecasting.data.series import SeriesData
from tasks.forecasting.forecaster import Forecaster
from tasks.forecasting.metrics import coverage, interval_width, mean, msis, summarise

METRICS = {"tourism": "mape", "m1": "smape", "m3": "smape", "m4": "smape"}
"""Measure that judges each competition; other data is judged by MASE, which needs no positive values."""


def choose_metric(configured: str, data: SeriesData) -> str:
    """Returns the primary metric."""
    return METRICS.get(data.name, "mase") if configured == "auto" else configured


def score_forecaster(forecaster: Forecaster, data: SeriesData) -> Evaluation:
    """Scores point forecasts and intervals.

    Returns:
        Metrics of the whole and of each group; for intervals the measured coverage in percent, the mean width
        and the mean scaled interval score; one row a series; the forecasts by group as outputs.

    Raises:
        DataError: The data has no held-out values.
    """
    if any(group.future is None for group in data.groups):
        raise DataError(f"{data.name} has no held-out values to score; leave --data.holdout on")
    forecasts = {group.name: forecaster.forecast(group, horizon=group.horizon) for group in data.groups}
    naive2, _ = summarise(data, {group.name: BASELINES["naive2"](group) for group in data.groups})
    medians = {name: forecast.median for name, forecast in forecasts.items()}
    metrics, rows = summarise(data, medians, naive2)
    hits: dict[str, list[np.ndarray]] = {}
    for group in data.groups:
        assert group.future is not None
        for level, (low, high) in forecasts[group.name].intervals.items():
            inside = np.where(np.isnan(group.future), np.nan, (group.future >= low) & (group.future <= high))
            scaled = msis(group.future, low, high, group.naive_scale(), level / 100)
            metrics[f"{group.name}/coverage_{level}"] = 100 * coverage(group.future, low, high)
            metrics[f"{group.name}/width_{level}"] = interval_width(group.future, low, high)
            metrics[f"{group.name}/msis_{level}"] = mean(scaled)
            hits.setdefault(f"coverage_{level}", []).append(inside.ravel())
            hits.setdefault(f"msis_{level}", []).append(scaled.ravel())
    for name, values in hits.items():
        metrics[name] = mean(np.concatenate(values)) * (100 if name.startswith("coverage") else 1)
    notes = [note for forecast in forecasts.values() for note in forecast.notes]
    return Evaluation(metrics, rows, forecasts, notes)


def score_baselines(data: SeriesData) -> dict[str, Evaluation]:
    """Scores seasonal naive, Theta, Naive2 and naive; the first is the one that a champion has to beat."""
    methods = ("seasonal_naive", "theta", "naive2", "naive")
    forecasts = {m: {group.name: BASELINES[m](group) for group in data.groups} for m in methods}
    naive2, _ = summarise(data, forecasts["naive2"])
    return {m: Evaluation(summarise(data, forecasts[m], naive2)[0], outputs=forecasts[m]) for m in methods}
