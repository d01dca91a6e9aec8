"""Pictures of a predictor's results. Figures are made without pyplot, so nothing global is touched."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from core.task import Evaluation
from tasks.csi.data.dataset import CsiData
from tasks.csi.data.disturb import parse_disturbance
from tasks.csi.measures import step_nmse
from tasks.csi.predictor import Predictor
from tasks.csi.remarks import describe_means
from tasks.csi.scoring import disturbed

SHOWN = 4
"""Disturbances with pictures of their own."""
FLOOR = 1e-6
"""Least error that is drawn, -60 dB."""
COLOURS = ("C0", "C1", "C2", "C3", "C4")


def draw_all(
    predictor: Predictor, config: Any, data: CsiData, results: dict[str, Evaluation]
) -> Iterator[tuple[str, Figure]]:
    """Yields the error by disturbance, model, speed, delay spread and report, and a channel with its prediction."""
    frames = {("network" if name == "model" else name): result.outputs for name, result in results.items()}
    first = next(iter(frames.values()))
    disturbances = list(dict.fromkeys(first["disturbance"]))
    seen = sorted(set(first.loc[~first["unseen_model"], "model"]))
    if len(disturbances) > 1:
        yield (
            "disturbances",
            draw_methods(frames, "disturbance", "disturbance of the history", "all channels"),
        )
    for name in disturbances[:SHOWN]:
        chosen = {method: frame[frame["disturbance"] == name] for method, frame in frames.items()}
        yield f"conditions_{name}", draw_conditions(chosen, name, seen)
    if first["delay_spread"].nunique() > 1:
        over = describe_means(disturbances)
        yield "delay_spreads", draw_methods(frames, "delay_spread", "delay spread, ns", over)
    yield "reports", draw_reports(frames, disturbances[:SHOWN], data.interval)
    yield "channel", draw_channel(predictor, config, data, first)


def draw_conditions(frames: dict[str, pd.DataFrame], title: str, seen: list[str]) -> Figure:
    """Draws the error in dB of each method by CDL model and speed, a panel a method, all with the same colours.

    Args:
        frames: Method to its rows under one disturbance.
        title: Name of the disturbance.
        seen: CDL models that were learned from; others have a star.
    """
    tables = {
        name: _decibel(frame.pivot_table(index="speed", columns="model", values="nmse", aggfunc="mean"))
        for name, frame in frames.items()
    }
    speeds, models = next(iter(tables.values())).shape
    width, height = max(1.5, 0.5 * models + 0.3), max(1.2, 0.34 * speeds + 0.3)
    figure = Figure(figsize=(width * len(tables) + 1.5, height + 1.1), layout="constrained")
    axes = figure.subplots(1, len(tables), squeeze=False)[0]
    low, high = _range([table.to_numpy() for table in tables.values()])
    for axis, (name, table) in zip(axes, tables.items(), strict=True):
        columns = [model if model in seen else f"{model}*" for model in table.columns]
        image = _heat(axis, table.to_numpy(), columns, [f"{speed:g}" for speed in table.index], low, high)
        axis.set_title(name, fontsize="medium")
        if axis is not axes[0]:
            axis.set_yticks([])
    axes[0].set_ylabel("speed, m/s")
    unseen = any(model not in seen for model in next(iter(tables.values())).columns)
    figure.supxlabel("CDL model" + (" (* not learned from)" if unseen else ""), fontsize="medium")
    figure.suptitle(f"NMSE, dB: {title}", fontsize="medium")
    figure.colorbar(image, ax=axes.tolist(), label="NMSE, dB")
    return figure


def draw_methods(frames: dict[str, pd.DataFrame], column: str, label: str, title: str) -> Figure:
    """Draws the error in dB of each method by one property of the channels.

    Args:
        frames: Method to its rows.
        column: The property.
        label: Of its axis.
        title: What the errors are means over.
    """
    names = list(dict.fromkeys(next(iter(frames.values()))[column]))
    if column != "disturbance":
        names.sort()
    table = pd.DataFrame(
        {name: frame.groupby(column)["nmse"].mean()[names] for name, frame in frames.items()}
    )
    values = _decibel(table).T.to_numpy()
    ticks = [f"{name:g}" if isinstance(name, float) else str(name) for name in names]
    upright = max(map(len, ticks)) > 6
    width = max(2.2, 0.62 * len(names)) + 2.2
    figure = Figure(figsize=(width, 0.36 * len(frames) + (1.9 if upright else 1.3)), layout="constrained")
    axis = figure.subplots()
    image = _heat(axis, values, ticks, list(frames), *_range([values]))
    axis.tick_params(axis="x", rotation=45 if upright else 0)
    axis.set_xlabel(label)
    figure.suptitle(f"NMSE, dB: {title}", fontsize="medium")
    figure.colorbar(image, label="NMSE, dB")
    return figure


def draw_reports(frames: dict[str, pd.DataFrame], disturbances: list[str], interval: float) -> Figure:
    """Draws the error of each method over the time that it predicts ahead, a panel a disturbance.

    Args:
        frames: Method to its rows.
        disturbances: Those to draw.
        interval: Time from one report to the next, s.
    """
    count = len(disturbances)
    figure = Figure(figsize=(2.6 * count + 1.6, 3.0), layout="constrained")
    axes = figure.subplots(1, count, squeeze=False, sharey=True)[0]
    for axis, disturbance in zip(axes, disturbances, strict=True):
        for colour, (name, frame) in zip(COLOURS, frames.items(), strict=False):
            chosen = frame[frame["disturbance"] == disturbance]
            steps = [column for column in map(str, frame.columns) if column.startswith("nmse_")]
            means = _decibel(chosen[steps].mean())
            ahead = 1e3 * interval * np.arange(1, len(steps) + 1)
            wide = 2.2 if name == "network" else 1.2
            axis.plot(ahead, means.to_numpy(), "o-", color=colour, label=name, linewidth=wide, markersize=3)
        axis.set_xticks(ahead, [f"{value:.3g}" for value in ahead])
        axis.set_title(disturbance, fontsize="medium")
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("NMSE, dB")
    figure.supxlabel("time ahead, ms", fontsize="medium")
    figure.legend(
        *axes[0].get_legend_handles_labels(), loc="outside right center", frameon=False, fontsize="small"
    )
    return figure


def draw_channel(predictor: Predictor, config: Any, data: CsiData, rows: pd.DataFrame) -> Figure:
    """Draws a channel's magnitude over reports and subcarriers: the truth, what was seen and predicted, the error.

    The sample is the one with the median error of the fastest channels, under the first disturbance that is not clean.

    Args:
        predictor: The network.
        config: Of the run.
        data: Channels.
        rows: The network's rows.
    """
    named = {parse_disturbance(text).name: parse_disturbance(text) for text in data.disturbances}
    disturbance = next((one for one in named.values() if one.kind != "clean"), next(iter(named.values())))
    fast = rows[(rows["disturbance"] == disturbance.name) & (rows["speed"] == rows["speed"].max())]
    row = fast.sort_values("nmse").iloc[(len(fast) - 1) // 2]
    which = np.array([int(row["sample"])])
    seen, _ = disturbed(data, disturbance, which, config.data.seed)
    predicted = predictor.predict(seen)
    truth = np.concatenate([data.test.history[which], data.test.target[which]], 2)
    # The antenna with the median error speaks for the sample.
    errors = [
        step_nmse(predicted[:, [a]], data.test.target[which][:, [a]]).mean() for a in range(seen.shape[1])
    ]
    antenna = int(np.argsort(errors)[(len(errors) - 1) // 2])
    shown = np.concatenate([seen, predicted], 2)[0, antenna]
    truth = truth[0, antenna]
    pictures = {"truth": truth, "seen | predicted": shown, "difference": shown - truth}
    figure = Figure(figsize=(9.6, 3.1), layout="constrained")
    axes = figure.subplots(1, 3, sharey=True)
    first = -seen.shape[2] + 0.5
    extent = (first, shown.shape[0] + first, -0.5, shown.shape[1] - 0.5)
    for axis, (name, values) in zip(axes, pictures.items(), strict=True):
        image = axis.imshow(
            np.abs(values).T, origin="lower", aspect="auto", extent=extent, vmin=0, vmax=np.abs(truth).max()
        )
        axis.axvline(0.5, color="white", linestyle="--", linewidth=1)
        axis.set_title(name, fontsize="medium")
    axes[0].set_ylabel(f"subcarrier, {data.spacing / 1e3:g} kHz apart")
    every = f"report, every {1e3 * data.interval:.3g} ms"
    figure.supxlabel(f"{every}; the predicted ones are 1 to {predicted.shape[2]}", fontsize="medium")
    condition = f"CDL {row['model']}, {row['delay_spread']:g} ns, {row['speed']:g} m/s, {disturbance.name}"
    figure.suptitle(
        f"{condition}: NMSE {_db(errors[antenna]):.1f} dB at antenna {antenna}", fontsize="medium"
    )
    figure.colorbar(image, ax=axes.tolist(), label="magnitude of the channel")
    return figure


def _heat(
    axis: Axes, values: np.ndarray, columns: list[str], rows: list[str], low: float, high: float
) -> Any:
    """Draws numbers ``(rows, columns)`` as colours and text; returns the image."""
    image = axis.imshow(values, cmap="viridis", vmin=low, vmax=high, aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        if np.isfinite(value):
            colour = "black" if value > (low + high) / 2 else "white"
            axis.text(column, row, f"{value:.1f}", ha="center", va="center", fontsize="small", color=colour)
    axis.set_xticks(range(len(columns)), columns)
    axis.set_yticks(range(len(rows)), rows)
    return image


def _range(tables: list[np.ndarray]) -> tuple[float, float]:
    values = np.concatenate([table.ravel() for table in tables])
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    return (low, high) if low < high else (low - 1, high + 1)


def _decibel(ratios: Any) -> Any:
    """Ten times the logarithm of a table or column of ratios."""
    return 10 * np.log10(ratios.clip(lower=FLOOR))


def _db(ratio: float) -> float:
    return float(10 * np.log10(max(ratio, FLOOR)))
