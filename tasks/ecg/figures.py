"""Pictures of a classifier's results. Figures are made without pyplot, so nothing global is touched."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure

from core.task import Evaluation
from tasks.ecg.data.dataset import EcgData
from tasks.ecg.measures import BINS, auroc, both_kinds, macro, precision_recall, reliability, roc
from tasks.ecg.scoring import Outputs

if TYPE_CHECKING:
    from tasks.ecg.classifier import Classifier

WORST = 4
"""Records that are printed on paper."""
NAMED = 10
"""Classes with a curve of their own, the most frequent ones."""
CELLS = 20
"""Classes in the picture of what is found where; the most frequent ones."""
MODEL, OTHERS = "tab:blue", ("0.35", "0.65")
"""Colours of the model and of the baselines."""


def draw_all(
    classifier: Classifier, config: Any, data: EcgData, results: dict[str, Evaluation]
) -> Iterator[tuple[str, Figure]]:
    """Yields curves, classes beside the baselines, calibration, what is found where, folds, and the worst errors."""
    ours: Outputs = results["model"].outputs
    if both_kinds(ours.labels).any():
        yield "roc", draw_roc(data, results)
        yield "precision_recall", draw_precision_recall(data, ours)
        yield "classes", draw_classes(data, results)
    yield "calibration", draw_calibration(data, results)
    yield "found", draw_found(data, ours)
    if len(data.folds) > 1:
        yield "folds", draw_folds(data, results)
    for i, row in enumerate(worst_records(ours), 1):
        yield f"worst_{i}", draw_record(data, ours, row)


def draw_roc(data: EcgData, results: dict[str, Evaluation]) -> Figure:
    """Draws sensitivity over false alarms of the most frequent classes, and the mean of all beside the baselines'."""
    figure = Figure(figsize=(7.6, 4.4), layout="constrained")
    axis = figure.subplots()
    ours: Outputs = results["model"].outputs
    areas = auroc(ours.labels, ours.probabilities)
    for c in _frequent(ours, NAMED):
        name = f"{_short(data.classes[c])}, {areas[c]:.3f}"
        axis.step(*_curve(roc, ours, c), where="post", linewidth=1.0, label=name)
    grid = np.linspace(0, 1, 201)
    for name, outputs, colour in _methods(results):
        known = np.flatnonzero(both_kinds(outputs.labels)).tolist()
        mean = np.mean([_at(grid, *_curve(roc, outputs, c)) for c in known], 0)
        area = macro(auroc(outputs.labels, outputs.probabilities))
        axis.plot(grid, mean, color=colour, linewidth=2.5, label=f"mean of all, {name}, {area:.3f}")
    axis.set(xlim=(0, 1), ylim=(0, 1.01), xlabel="false alarms (1 - specificity)", ylabel="sensitivity")
    axis.set_title(_titled(data, f"ROC on {len(ours.records)} test records, with the areas"))
    axis.grid(color="0.9")
    figure.legend(frameon=False, fontsize="small", loc="outside right upper")
    return figure


def draw_precision_recall(data: EcgData, outputs: Outputs) -> Figure:
    """Draws precision over recall of the most frequent classes; dots are their thresholds."""
    figure = Figure(figsize=(7.6, 4.4), layout="constrained")
    axis = figure.subplots()
    for c in _frequent(outputs, NAMED):
        share = outputs.labels[:, c].mean()
        name = f"{_short(data.classes[c])} ({100 * share:.0f} % of the records)"
        (line,) = axis.step(*_curve(precision_recall, outputs, c), where="pre", linewidth=1.0, label=name)
        found, labels = outputs.found[:, c], outputs.labels[:, c]
        if found.any():
            hits = (found & labels).sum()
            axis.plot(hits / labels.sum(), hits / found.sum(), "o", color=line.get_color(), markersize=5)
    axis.set(xlim=(0, 1.01), ylim=(0, 1.03), xlabel="recall (sensitivity)", ylabel="precision")
    axis.set_title(_titled(data, "Precision over recall; dots: thresholds"))
    axis.grid(color="0.9")
    figure.legend(frameon=False, fontsize="small", loc="outside right upper")
    return figure


def draw_classes(data: EcgData, results: dict[str, Evaluation]) -> Figure:
    """Draws the area under each class's ROC with its interval, the model beside the baselines."""
    ours: Outputs = results["model"].outputs
    areas = auroc(ours.labels, ours.probabilities)
    order = np.array([c for c in np.argsort(-areas, kind="stable") if not np.isnan(areas[c])])
    methods = list(_methods(results))
    figure = Figure(figsize=(7.6, 1.4 + 0.34 * len(order)), layout="constrained")
    axis = figure.subplots()
    places = np.arange(len(order))
    lowest = 0.5
    for k, (name, outputs, colour) in enumerate(methods):
        values = auroc(outputs.labels, outputs.probabilities)[order]
        spread = None
        if outputs.intervals is not None:
            limits = outputs.intervals.auroc[order]
            spread = np.nan_to_num(np.abs(limits.T - values))
            lowest = min(lowest, float(np.nanmin(limits, initial=0.5)))
        lowest = min(lowest, float(values.min()))
        shifted = places + 0.22 * (k - (len(methods) - 1) / 2)
        style: dict[str, Any] = {"fmt": "o" if k == 0 else "s", "markersize": 5 if k == 0 else 3.5}
        axis.errorbar(
            values, shifted, xerr=spread, color=colour, label=f"{name}, mean {values.mean():.3f}", **style
        )
    counts = ours.labels.sum(0)
    axis.set_yticks(places, [f"{_short(data.classes[c])} ({counts[c]})" for c in order], fontsize="small")
    axis.invert_yaxis()
    axis.set(xlim=(max(0.0, lowest - 0.02), 1.01), xlabel="area under the ROC, 95 % interval")
    axis.set_title(_titled(data, "Classes (and their positive test records)"))
    axis.grid(axis="x", color="0.9")
    figure.legend(frameon=False, fontsize="small", loc="outside lower center", ncols=3)
    return figure


def draw_calibration(data: EcgData, results: dict[str, Evaluation]) -> Figure:
    """Draws how often probabilities come true, over all decisions together, above how many there are of each."""
    figure = Figure(figsize=(5.2, 5.4), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    upper.plot([0, 1], [0, 1], color="0.8", linewidth=1)
    edges = np.linspace(0, 1, BINS + 1)
    for name, outputs, colour in _methods(results):
        said, came, counts = reliability(outputs.labels, outputs.probabilities)
        some = counts > 0
        upper.plot(said[some], came[some], "o-", color=colour, markersize=4, label=name)
        lower.stairs(counts, edges, color=colour)
    error = results["model"].metrics["ece"]
    upper.set(xlim=(0, 1), ylim=(0, 1.02), ylabel="share of positives")
    upper.set_title(_titled(data, f"Calibration; expected error of the model {error:.3f}"), fontsize="medium")
    upper.legend(frameon=False, fontsize="small")
    upper.grid(color="0.9")
    lower.set(yscale="log", xlabel="probability", ylabel="decisions")
    return figure


def draw_found(data: EcgData, outputs: Outputs) -> Figure:
    """Draws in which share of the records with a class each class is found; a record may have several of both."""
    order = _frequent(outputs, CELLS) or list(range(min(CELLS, len(data.classes))))
    truth, found = outputs.labels[:, order].astype(float), outputs.found[:, order].astype(float)
    counts = truth.sum(0)
    shares = 100 * (truth.T @ found) / np.maximum(counts, 1)[:, None]
    names = [_short(data.classes[c]) for c in order]
    side, margin = max(2.6, 0.4 * len(order)), 0.085 * max(map(len, names))
    figure = Figure(figsize=(side + margin + 2.0, side + margin + 1.0), layout="constrained")
    axis = figure.subplots()
    image = axis.imshow(shares, cmap="Blues", vmin=0, vmax=100)
    for row in range(len(order)):
        for column in range(len(order)):
            colour = "white" if shares[row, column] > 55 else "black"
            text = f"{shares[row, column]:.0f}"
            axis.text(column, row, text, ha="center", va="center", fontsize="x-small", color=colour)
    axis.set_xticks(range(len(order)), names, rotation=90, fontsize="small")
    labelled = [f"{name} ({count:.0f})" for name, count in zip(names, counts, strict=True)]
    axis.set_yticks(range(len(order)), labelled, fontsize="small")
    axis.set(xlabel="found", ylabel="in the labels (records)", title=_titled(data, "What is found where"))
    figure.colorbar(image, label="% of the row's records", shrink=0.7)
    return figure


def draw_folds(data: EcgData, results: dict[str, Evaluation]) -> Figure:
    """Draws the mean area of each fold, the model beside the baselines, with means and deviations."""
    names = [fold.name for fold in data.folds]
    figure = Figure(figsize=(2.2 + 0.9 * len(names), 3.8), layout="constrained")
    axis = figure.subplots()
    for k, (method, _, colour) in enumerate(_methods(results)):
        metrics = results["model" if method == "ours" else method].metrics
        values = [metrics.get(f"{name}/macro_auroc", np.nan) for name in names]
        mean, deviation = np.nanmean(values), np.nanstd(values, ddof=1)
        label = f"{method}: {mean:.3f} ± {deviation:.3f}"
        axis.bar(np.arange(len(names)) + 0.27 * (k - 1), values, 0.25, color=colour, label=label)
    axis.set_xticks(range(len(names)), names, rotation=45 if max(map(len, names)) > 8 else 0)
    axis.set(ylabel="area under the ROC, mean of the classes", ylim=(0.4, 1))
    axis.set_title(_titled(data, "Folds"))
    figure.legend(frameon=False, fontsize="small", loc="outside lower center", ncols=3)
    return figure


def worst_records(outputs: Outputs) -> np.ndarray:
    """Returns the rows with the largest error among the wrong decisions, the worst first, at most four."""
    wrong = outputs.found != outputs.labels
    errors = (np.abs(outputs.probabilities - outputs.labels) * wrong).max(1, initial=0)
    order = np.argsort(-errors, kind="stable")[:WORST]
    return order[wrong[order].any(1)]


def draw_record(data: EcgData, outputs: Outputs, row: int) -> Figure:
    """Prints a test record on ECG paper, with what is in its labels and what was found."""
    from tasks.ecg.page import draw_page

    record = int(outputs.records[row])
    truth = [data.classes[c] for c in np.flatnonzero(outputs.labels[row])]
    found = [
        f"{data.classes[c]} {outputs.probabilities[row, c]:.2f}" for c in np.flatnonzero(outputs.found[row])
    ]
    missed = [
        f"{data.classes[c]} {outputs.probabilities[row, c]:.2f}"
        for c in np.flatnonzero(outputs.labels[row] & ~outputs.found[row])
    ]
    text = f"labels: {', '.join(truth) or 'none'}   found: {', '.join(found) or 'none'}"
    if missed:
        text += f"   missed: {', '.join(missed)}"
    return draw_page(
        data.signals[record],
        data.rate,
        data.leads,
        data.names[record],
        text,
        present=data.present[record],
        synthetic=data.synthetic,
    )


def _methods(results: dict[str, Evaluation]) -> Iterator[tuple[str, Outputs, str]]:
    """Yields name, outputs and colour of the model and of at most two baselines."""
    yield "ours", results["model"].outputs, MODEL
    others = [(name, result.outputs) for name, result in results.items() if name != "model"]
    for (name, outputs), colour in zip(others, OTHERS, strict=False):
        yield name, outputs, colour


def _frequent(outputs: Outputs, most: int) -> list[int]:
    """Returns the most frequent classes with positive and negative records, in the order of the data."""
    counts = outputs.labels.sum(0) * both_kinds(outputs.labels)
    return sorted(np.argsort(-counts, kind="stable")[: min(most, int((counts > 0).sum()))].tolist())


def _curve(
    kind: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]], outputs: Outputs, c: int
) -> tuple[np.ndarray, np.ndarray]:
    return kind(outputs.labels[:, c], outputs.probabilities[:, c])


def _at(grid: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Returns the highest ``y`` at each place, on the straight lines between the points of a ROC."""
    last = np.append(np.diff(x) > 0, True)
    return np.interp(grid, x[last], y[last])


def _titled(data: EcgData, text: str) -> str:
    return f"{text} (synthetic)" if data.synthetic else text


def _short(text: str, most: int = 28) -> str:
    return text if len(text) <= most else f"{text[: most // 2 - 1]}…{text[-(most // 2) :]}"
