"""Pictures of a test: truth and prediction, the worst images, precision over recall, and what is taken for what."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import cycle
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from core.task import Evaluation
from tasks.detection.data.dataset import DetectionData
from tasks.detection.data.images import read_rgb
from tasks.detection.detector import Detector
from tasks.detection.rle import decode
from tasks.detection.scoring import Outputs, f1_curve

SAMPLES = 4
WORST = 6
NAMED = 12
"""Classes with a curve, or a name in the matrix, of their own; the most frequent ones."""
ROOM = 0.05
"""Share of an image's height that a name above a box takes."""
LABELLED = 25
"""Boxes of an image that have their class and score beside them."""
PANEL = 3.4
"""Width of a panel, inches."""
VISIBLE = 800
"""Longest side of an image in a figure, pixels."""
RIGHT, WRONG, MISSED = "tab:green", "tab:red", "tab:orange"

Colour = Any


def draw_all(
    detector: Detector, config: Any, data: DetectionData, results: dict[str, Evaluation]
) -> Iterator[tuple[str, Figure]]:
    """Yields test images with truth and prediction, the worst images, curves, and the confusion matrix."""
    result = results["model"]
    assert result.rows is not None
    confidence = config.scoring.confidence
    yield "samples", draw_samples(data, result, confidence)
    if (worst := worst_images(result)).size:
        yield "worst_images", draw_worst(data, result, worst, confidence)
    if result.outputs.matches.counts.any():
        yield "precision_recall", draw_curves(data, results)
    if len(result.outputs.matches.score):
        yield "confidence", draw_confidence(result.outputs, confidence)
    yield "confusion", draw_confusion(data, result.outputs.confusion, confidence)


def draw_samples(data: DetectionData, result: Evaluation, confidence: float) -> Figure:
    """Draws a few test images twice, with the truth and with what was found, spread over the scores of the images."""
    assert result.rows is not None
    # With objects first, then by F1; the sort is stable, so the choice is always the same.
    order = result.rows.sort_values("f1", na_position="last", kind="stable").index.to_numpy()
    filled = order[result.rows["objects"].to_numpy()[order] > 0]
    order = filled if len(filled) else order
    chosen = order[np.linspace(0, len(order) - 1, min(SAMPLES, len(order))).round().astype(int)]
    figure, axes = _grid(data, chosen, columns=2)
    figure.suptitle("Test images from the lowest to the highest F1: truth and prediction")
    colours = palette(len(data.classes))
    for row, i in zip(axes.reshape(-1, 2), chosen, strict=True):
        truth, found = data.test.targets(i), result.outputs.found[i]
        found = found.take(found.scores >= confidence)
        image = shrunk(read_rgb(data.test.path(i)))
        scale = image.shape[1] / data.test.sizes[i][0]
        if found.masks is not None:
            masks = [shrunk(decode(mask).astype(np.uint8)) > 0 for mask in found.masks]
            row[1].imshow(overlay(image, masks, [colours[label] for label in found.labels]))
        for axis in row:
            axis.imshow(image, zorder=-1)
        names = [data.classes[label] for label in truth.labels]
        draw_boxes(row[0], truth.boxes * scale, [colours[label] for label in truth.labels], names)
        names = [
            f"{data.classes[label]} {score:.2f}"
            for label, score in zip(found.labels, found.scores, strict=True)
        ]
        draw_boxes(row[1], found.boxes * scale, [colours[label] for label in found.labels], names)
        row[0].set_title(_short(str(data.test.names[i])), fontsize="small")
        row[1].set_title(f"{len(found)} boxes from score {confidence:g}", fontsize="small")
    return figure


def worst_images(result: Evaluation) -> np.ndarray:
    """Returns the images with mistakes, those with the lowest F1 and the most mistakes first."""
    assert result.rows is not None
    rows = result.rows.assign(mistakes=result.rows["missed"] + result.rows["false"])
    rows = rows[rows["mistakes"] > 0].sort_values(["f1", "mistakes"], ascending=[True, False], kind="stable")
    return rows.index.to_numpy()[:WORST]


def draw_worst(data: DetectionData, result: Evaluation, worst: np.ndarray, confidence: float) -> Figure:
    """Draws the images with the lowest F1, and in them what is right, wrong and missed at IoU 0.5."""
    assert result.rows is not None
    matches = result.outputs.matches
    sure = matches.score >= confidence
    figure, axes = _grid(data, worst, columns=3)
    figure.suptitle(f"{len(worst)} worst of {len(data.test)} test images (score {confidence:g}, IoU 0.5)")
    for axis, i in zip(axes.flat, worst, strict=False):
        mine = sure & (matches.image == i)
        hit, false = mine & matches.right[0], mine & matches.false()[0]
        targets, found = data.test.targets(i), result.outputs.found[i]
        lost = np.setdiff1d(np.flatnonzero(~targets.crowd), matches.truth[hit])
        image = shrunk(read_rgb(data.test.path(i)))
        scale = image.shape[1] / data.test.sizes[i][0]
        axis.imshow(image)
        wrong = matches.position[false]
        draw_boxes(axis, found.boxes[matches.position[hit]] * scale, [RIGHT] * int(hit.sum()))
        missed_names = [data.classes[label] for label in targets.labels[lost]]
        draw_boxes(axis, targets.boxes[lost] * scale, [MISSED] * len(lost), missed_names)
        names = [f"{data.classes[found.labels[k]]} {found.scores[k]:.2f}" for k in wrong]
        draw_boxes(axis, found.boxes[wrong] * scale, [WRONG] * len(wrong), names)
        f1 = result.rows["f1"].iloc[i]
        axis.set_title(f"{_short(str(data.test.names[i]))}: F1 {f1:.2f}", fontsize="small")
    kinds = {"right": RIGHT, "wrong": WRONG, "missed": MISSED}
    handles = [Line2D([], [], color=colour, linewidth=2, label=name) for name, colour in kinds.items()]
    figure.legend(handles=handles, ncols=3, frameon=False, loc="outside lower center")
    return figure


def draw_curves(data: DetectionData, results: dict[str, Evaluation]) -> Figure:
    """Draws precision over recall at IoU 0.5 of the most frequent classes, and the mean of all of each method."""
    from tasks.detection.task import TASK

    outputs: Outputs = results["model"].outputs
    figure = Figure(figsize=(6.4, 4.4), layout="constrained")
    axis = figure.subplots()
    present = _frequent(outputs.matches.counts.sum(0))
    colours = palette(len(data.classes))
    if len(present) > 1:
        for label in present:
            area = outputs.result.ap50[label]
            axis.plot(
                outputs.result.recalls,
                outputs.result.precision[0, :, label],
                color=colours[label],
                linewidth=1,
                label=f"{_short(data.classes[label])} {area:.3f}",
            )
    for name, line in zip(results, cycle(("-", "--", ":", "-.")), strict=False):
        result = results[name]
        curve = np.nanmean(result.outputs.result.precision[0], axis=1)
        model = name == "model"
        label = f"{TASK.title if model else name}, mean {result.metrics['map50']:.3f}"
        colour, width = ("black", 2.2) if model else ("0.5", 1.2)
        axis.plot(outputs.result.recalls, curve, line, color=colour, linewidth=width, label=label)
    axis.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02))
    axis.set_title(f"AP50 on {len(data.test)} test images", fontsize="medium")
    axis.grid(color="0.9")
    figure.legend(frameon=False, fontsize="small", loc="outside right upper")
    return figure


def draw_confidence(outputs: Outputs, confidence: float) -> Figure:
    """Draws F1 over the least score of a box, at IoU 0.5 and over the boxes of all images."""
    scores, f1 = f1_curve(outputs.matches)
    figure = Figure(figsize=(5.2, 3.6), layout="constrained")
    axis = figure.subplots()
    axis.plot(scores, f1, color="tab:blue", linewidth=2)
    axis.axvline(confidence, color="0.6", linestyle="--", linewidth=1, label=f"score {confidence:g}")
    best = int(f1.argmax())
    axis.plot(scores[best], f1[best], "o", color="tab:blue", label=f"{f1[best]:.3f} at {scores[best]:.2f}")
    axis.set(xlabel="least score", ylabel="F1 at IoU 0.5", xlim=(0, 1), ylim=(0, 1.02))
    axis.grid(color="0.9")
    axis.legend(frameon=False, fontsize="small")
    return figure


def draw_confusion(data: DetectionData, matrix: np.ndarray, confidence: float) -> Figure:
    """Draws which share of the objects of a class is taken for which; the numbers are counts."""
    frequent = np.sort(_frequent(matrix[:-1].sum(1)))
    shown = np.append(frequent, len(data.classes))
    names = [_short(data.classes[label], 14) for label in frequent]
    part = matrix[np.ix_(shown, shown)]
    share = part / np.maximum(matrix[shown].sum(1, keepdims=True), 1)
    side = 2.2 + 0.55 * len(shown)
    figure = Figure(figsize=(side + 0.6, side), layout="constrained")
    axis = figure.subplots()
    axis.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(part):
        if count:
            colour = "white" if share[row, column] > 0.5 else "black"
            axis.text(column, row, str(count), ha="center", va="center", color=colour, fontsize="small")
    axis.set_xticks(range(len(shown)), [*names, "missed"], rotation=90)
    axis.set_yticks(range(len(shown)), [*names, "nothing"])
    axis.set(xlabel="found", ylabel="truth")
    axis.set_title(f"score {confidence:g}, IoU 0.5", fontsize="medium")
    return figure


def draw_boxes(axis: Axes, boxes: np.ndarray, colours: Sequence[Colour], names: Sequence[str] = ()) -> None:
    """Draws boxes ``(N, 4)`` in their colours, and the first ones' names where there are any."""
    for box, colour in zip(boxes, colours, strict=True):
        left, top, right, bottom = (float(side) - 0.5 for side in box)  # pixel centres have whole numbers
        axis.add_patch(
            Rectangle((left, top), right - left, bottom - top, fill=False, edgecolor=colour, linewidth=1.3)
        )
    for box, colour, name in list(zip(boxes, colours, names, strict=False))[:LABELLED]:
        # Inside the box where there is no room above it.
        high = float(box[1]) < ROOM * (axis.get_ylim()[0] + 0.5)
        axis.text(
            max(0.0, float(box[0])),
            max(0.0, float(box[1])),
            name,
            color="white",
            fontsize=5.5,
            verticalalignment="top" if high else "bottom",
            clip_on=True,
            bbox={"facecolor": colour, "edgecolor": "none", "pad": 0.8},
        )


def overlay(image: np.ndarray, masks: Sequence[np.ndarray], colours: Sequence[Colour]) -> np.ndarray:
    """Returns an image ``(H, W, 3)`` uint8 under masks ``(H, W)`` bool that let half of it through."""
    mixed = image.astype(np.float32)
    for mask, colour in zip(masks, colours, strict=True):
        mixed[mask] = 0.5 * mixed[mask] + 127.5 * np.asarray(colour[:3], np.float32)
    return mixed.round().astype(np.uint8)


def shrunk(image: np.ndarray) -> np.ndarray:
    """Returns every second, third, ... pixel of an image that is larger than a figure can show."""
    step = -(-max(image.shape[:2]) // VISIBLE)
    return image[::step, ::step]


def palette(count: int) -> list[Colour]:
    """Returns colours that differ, RGBA."""
    if count <= 10:
        return [colormaps["tab10"](i) for i in range(count)]
    return [colormaps["hsv"](i / count) for i in range(count)]


def _grid(data: DetectionData, shown: np.ndarray, columns: int) -> tuple[Figure, np.ndarray]:
    """Returns a figure with as many panels as images, twice as many for two columns, of their mean shape."""
    rows = len(shown) if columns == 2 else -(-len(shown) // columns)
    width, height = data.test.sizes[shown].mean(0)
    ratio = float(np.clip(height / width, 0.4, 1.8))
    figure = Figure(figsize=(PANEL * columns, (PANEL * ratio + 0.3) * rows + 0.8), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    return figure, axes


def _frequent(counts: np.ndarray) -> np.ndarray:
    """Returns the classes that are there, the most frequent first, at most so many."""
    order = np.argsort(-counts, kind="stable")[:NAMED]
    return order[counts[order] > 0]


def _short(text: str, most: int = 28) -> str:
    return text if len(text) <= most else f"{text[: most // 2 - 1]}…{text[-(most // 2) :]}"
