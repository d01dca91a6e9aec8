"""Curves of a spotter: hits and misses over false alarms, and over the threshold of the detector."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from tasks.speech.data.clips import SpeechData
from tasks.speech.measures import area, both_kinds, equal_error_rate, normal_deviate, one_against_rest, roc
from tasks.speech.scoring import Outputs
from tasks.speech.streaming import OperatingPoints

MODEL, OTHER = "tab:blue", "0.45"
"""Colours of the model and of the baseline."""
NAMED = 10  # words that a legend names
PERCENT = (0.01, 0.1, 0.5, 1, 2, 5, 10, 20, 40, 60, 80, 90)  # ticks of a DET curve
SHOWN = (0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.99)  # thresholds in the table


def style(ours: bool) -> dict[str, Any]:
    """Returns how a line of the model, or of what it is compared with, is drawn."""
    return {"color": MODEL, "linewidth": 2.2} if ours else {"color": OTHER, "linestyle": "--"}


def draw_roc(data: SpeechData, methods: dict[str, Outputs]) -> Figure:
    """Draws hits over false alarms: of each word against all other clips, and of all words micro-averaged.

    Args:
        data: Names of the classes.
        methods: Name to scores; the model comes first, under ``"ours"``.
    """
    figure = Figure(figsize=(7.2, 4.4), layout="constrained")
    axis = figure.subplots()
    ours = methods["ours"]
    least = 0.5 / len(ours.labels)  # where no false alarm is drawn: the axis is logarithmic
    lowest = 1.0
    few = len(data.words) <= NAMED

    def draw(curve: tuple[np.ndarray, np.ndarray], name: str | None, **line: Any) -> None:
        nonlocal lowest
        false_alarms, hits = curve
        label = None if name is None else f"{name}, AUC {area(false_alarms, hits):.4f}"
        axis.step(np.maximum(false_alarms, least), hits, where="post", label=label, **line)
        lowest = min(lowest, hits[np.searchsorted(false_alarms, least, "right") - 1])

    for i, word in enumerate(data.words):
        if word_is_tested(ours, data, [word]):
            colour = f"C{i % 9 + 1}" if few else MODEL
            draw(curve_of(data, ours, [word]), word if few else None, color=colour, linewidth=0.8, alpha=0.6)
    for name, outputs in methods.items():
        title = "all words" if name == "ours" else name
        draw(curve_of(data, outputs, data.words), title, **style(name == "ours"))
    bottom = max(0.0, lowest - 0.05)
    axis.set(xscale="log", xlim=(least, 1), ylim=(bottom, 1 + 0.03 * (1 - bottom)))
    axis.set(xlabel="false alarms, share of the other clips", ylabel="hits, share of the word's clips")
    axis.grid(color="0.9")
    figure.legend(frameon=False, fontsize="small", loc="outside right upper")
    return figure


def curve_of(data: SpeechData, outputs: Outputs, words: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Returns shares of false alarms and of hits, micro-averaged over words."""
    return roc(*one_against_rest(outputs.scores, outputs.labels, _indices(data, words)))[:2]


def word_is_tested(outputs: Outputs, data: SpeechData, words: list[str]) -> bool:
    """Whether there are clips of some of the words, and other clips."""
    return both_kinds(one_against_rest(outputs.scores, outputs.labels, _indices(data, words))[1])


def _indices(data: SpeechData, words: list[str]) -> np.ndarray:
    return np.array([data.classes.index(word) for word in words])


def draw_det(data: SpeechData, methods: dict[str, Outputs]) -> Figure:
    """Draws misses over false alarms, micro-averaged over the words, on axes of the normal deviate.

    Args:
        data: Names of the classes.
        methods: Name to scores; the model comes first, under ``"ours"``.
    """
    figure = Figure(figsize=(4.8, 5.0), layout="constrained")
    axis = figure.subplots()
    spoken = int(np.isin(methods["ours"].labels, _indices(data, data.words)).sum())
    others = len(methods["ours"].labels) * len(data.words) - spoken
    least = np.array([0.5 / others, 0.5 / spoken])  # where none of them is drawn
    worst = 0.0
    for name, outputs in methods.items():
        false_alarms, hits = curve_of(data, outputs, data.words)
        rate = equal_error_rate(false_alarms, hits)
        points = np.clip([false_alarms, 1 - hits], least[:, None], 0.99)
        label = f"{name}, equal error rate {100 * rate:.2g} %"
        axis.step(*normal_deviate(points), where="post", label=label, **style(name == "ours"))
        crossing = normal_deviate(np.clip([rate, rate], least, 0.99))
        axis.plot(*crossing, "o", color=style(name == "ours")["color"], markersize=5)
        worst = max(worst, rate)
    high = min(0.95, max(0.45, 1.5 * worst))
    for scale, set_limits, low in (
        (axis.xaxis, axis.set_xlim, least[0]),
        (axis.yaxis, axis.set_ylim, least[1]),
    ):
        ticks = np.array([percent for percent in PERCENT if low <= percent / 100 <= high])
        scale.set_ticks(normal_deviate(ticks / 100), [f"{percent:g}" for percent in ticks])
        set_limits(*normal_deviate(np.array([0.8 * low, high])))
    axis.set(xlabel="false alarms, % of the other clips", ylabel="misses, % of the word's clips")
    axis.grid(color="0.9")
    figure.legend(frameon=False, fontsize="small", loc="outside upper left")
    return figure


def draw_thresholds(outputs: Outputs, budget: float) -> Figure:
    """Draws what thresholds of the detector find and cost, and a table of some of them."""
    figure = Figure(figsize=(8.2, 5.6), layout="constrained")
    axes = figure.subplot_mosaic([["left", "right"], ["table", "table"]], height_ratios=[1.25, 1])
    left, right = axes["left"], axes["right"]
    curves = {
        _source(points): points for points in (outputs.calibration, outputs.stream) if points is not None
    }
    for i, (name, points) in enumerate(curves.items()):
        line = style(i == len(curves) - 1)
        left.plot(points.thresholds, 100 * np.array(points.recall), label=name, **line)
        right.plot(points.thresholds, points.false_alarms, label=f"{name} ({points.hours:.2g} h)", **line)
    right.axhline(budget, color="tab:red", lw=0.9, ls=":", label=f"budget: {budget:g} an hour")
    for axis in (left, right):
        axis.axvline(outputs.threshold, color="tab:red", lw=0.9)
        axis.set(xlabel=f"threshold (line: {outputs.threshold:g}, chosen)", xlim=(0, 1.02))
        axis.grid(color="0.9")
        axis.legend(framealpha=0.9, edgecolor="none", fontsize="x-small")
    left.set(ylabel="words detected, %", ylim=(0, 102))
    right.set(ylabel="false alarms an hour", yscale="symlog")
    right.set_ylim(0)
    _table(axes["table"], outputs, list(curves.values()))
    return figure


def _table(axis: Axes, outputs: Outputs, curves: list[OperatingPoints]) -> None:
    """Writes operating points below each other; the chosen one stands out."""
    axis.set_axis_off()
    chosen = outputs.threshold
    thresholds = sorted({*SHOWN, chosen})
    columns = ["threshold"]
    for points in curves:
        columns += [f"{_source(points)}:\nwords detected", "false alarms\nan hour"]
    rows = [
        [f"{t:g}"]
        + [c for p in curves for c in (f"{100 * p.recall_at(t):.1f} %", f"{_rate(p.false_alarms_at(t))}")]
        for t in thresholds
    ]
    table = axis.table(
        rows,
        colLabels=columns,
        loc="center",
        cellLoc="center",
        edges="horizontal",
        bbox=Bbox.from_bounds(0.02, 0, 0.96, 1),
    )
    table.auto_set_font_size(False)
    table.set_fontsize(8)
    for (row, _), cell in table.get_celld().items():
        cell.set_edgecolor("0.85")
        if row == 0:
            cell.set_height(2 * cell.get_height())
        if row - 1 == thresholds.index(chosen):
            cell.set_text_props(weight="bold", color="tab:red")


def _source(points: OperatingPoints) -> str:
    return points.source.split(",")[0]


def _rate(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
