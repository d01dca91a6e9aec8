"""Pictures of forecasts. Figures are made without pyplot, so nothing global is touched."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from core.task import Evaluation
from tasks.forecasting.data.series import Group, SeriesData, future_index, history_index
from tasks.forecasting.forecaster import Forecast, Forecaster
from tasks.forecasting.metrics import mape, mase, mean_of_rows, smape

SHOWN = 5  # horizons of history that a picture shows
MODEL_COLOUR = "tab:blue"


def draw_series(
    axis: Axes,
    group: Group,
    forecast: Forecast,
    index: int,
    decomposition: dict[str, np.ndarray] | None = None,
) -> None:
    """Draws the end of one history, what followed if it is known, the forecast and its intervals."""
    steps = forecast.median.shape[1]
    history = group.history[index][-SHOWN * max(steps, group.seasonality) :]
    past = history_index(group, index)[-len(history) :]
    ahead = future_index(group, index, steps)
    # The forecast starts at the last value that was seen, so that no gap opens between the lines.
    times = past[-1:].append(ahead)
    axis.plot(past, history, color="0.25", linewidth=1.2, label="history")
    for i, level in enumerate(sorted(forecast.intervals, reverse=True)):
        low, high = forecast.intervals[level]
        axis.fill_between(
            times,
            np.append(history[-1], low[index]),
            np.append(history[-1], high[index]),
            color=MODEL_COLOUR,
            alpha=0.15 + 0.15 * i,
            linewidth=0,
            label=f"{level} %",
        )
    axis.plot(times, np.append(history[-1], forecast.median[index]), color=MODEL_COLOUR, label="forecast")
    if group.future is not None:
        axis.plot(ahead, group.future[index][:steps], color="tab:red", linewidth=1.2, label="what happened")
    axis.set_title(f"{group.ids[index]} ({group.name})", fontsize="medium")
    axis.tick_params(labelsize="small")
    for label in axis.get_xticklabels():
        label.set(rotation=25, horizontalalignment="right")


def forecast_figure(chosen: Sequence[tuple[Group, Forecast, int]], columns: int = 3) -> Figure:
    """Draws one panel for each chosen series."""
    columns = min(columns, len(chosen))
    rows = -(-len(chosen) // columns)
    figure = Figure(figsize=(4.6 * columns, 2.9 * rows + 0.4), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis, (group, forecast, index) in zip(axes, chosen, strict=False):
        draw_series(axis, group, forecast, index)
    for axis in axes[len(chosen) :]:
        axis.set_visible(False)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    return figure


def pick(group: Group, count: int) -> list[int]:
    """Returns ``count`` series spread evenly over the group, the same ones for every model."""
    return np.unique(np.linspace(0, len(group) - 1, count + 2)[1:-1].astype(int)).tolist()


def error_by_horizon(data: SeriesData, results: dict[str, Evaluation], metric: str) -> Figure:
    """Draws the error at each step of the horizon, for the model and every baseline."""
    figure = Figure(figsize=(4.2 * len(data.groups), 3.4), layout="constrained")
    axes = figure.subplots(1, len(data.groups), squeeze=False)[0]
    for axis, group in zip(axes, data.groups, strict=True):
        colours = itertools.cycle(("tab:red", "tab:orange", "tab:green", "tab:purple"))
        steps = np.arange(1, group.horizon + 1)
        for method, result in results.items():
            forecast = result.outputs[group.name]
            values = forecast.median if method == "model" else forecast
            colour = MODEL_COLOUR if method == "model" else next(colours)
            width = 2.2 if method == "model" else 1
            axis.plot(steps, _errors(group, values, metric), label=method, color=colour, linewidth=width)
        axis.set(title=group.name, xlabel="steps ahead", ylabel=metric)
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes[0].legend(frameon=False, fontsize="small")
    return figure


def _errors(group: Group, forecast: np.ndarray, metric: str) -> np.ndarray:
    assert group.future is not None
    if metric == "mape":
        errors = mape(group.future, forecast)
    elif metric == "smape":
        errors = smape(group.future, forecast)
    else:  # MASE, and ND for which each step's share is not comparable between series
        errors = mase(group.future, forecast, group.naive_scale())
    return mean_of_rows(errors.T)


def decomposition_figure(forecaster: Forecaster, group: Group, indices: Sequence[int]) -> Figure:
    """Draws level + trend and seasonality of the interpretable model, as in figure 2 of arXiv:1905.10437."""
    chosen = group.select(indices)
    parts = forecaster.decompose(chosen)
    figure = Figure(figsize=(4.2 * len(indices), 5), layout="constrained")
    axes = figure.subplots(2, len(indices), squeeze=False)
    for column in range(len(indices)):
        times = future_index(chosen, column, parts["trend"].shape[1])
        axes[0][column].plot(times, parts["level"][column] + parts["trend"][column], color="tab:blue")
        axes[0][column].set_title(f"{chosen.ids[column]} ({group.name})", fontsize="medium")
        axes[1][column].plot(times, parts["seasonality"][column], color="tab:green")
        axes[1][column].axhline(0, color="0.7", linewidth=0.8)
        for row in axes:
            row[column].tick_params(labelsize="small", axis="x", rotation=25)
    axes[0][0].set_ylabel("level + trend")
    axes[1][0].set_ylabel("seasonality")
    return figure


def draw_all(
    forecaster: Forecaster, data: SeriesData, results: dict[str, Evaluation], metric: str
) -> Iterator[tuple[str, Figure]]:
    """Yields the figures of a training or an evaluation."""
    forecasts = results["model"].outputs
    count = 1 if len(data.groups) > 3 else 2
    # The first series of every group stand in the first row, the second ones below them.
    chosen = [
        (group, forecasts[group.name], index)
        for row in range(count)
        for group in data.groups
        for index in pick(group, count)[row : row + 1]
    ]
    yield "forecasts", forecast_figure(chosen, columns=len(data.groups) if 1 < len(data.groups) < 4 else 2)
    yield "error_by_horizon", error_by_horizon(data, results, metric)
    if hasattr(forecaster.config, "trend_blocks"):
        for group in data.groups:
            yield f"decomposition_{group.name}", decomposition_figure(forecaster, group, pick(group, 3))
