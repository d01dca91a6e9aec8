"""Pictures of a test: the worst cases with their errors, Dice of each case, and the ROC curve."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from core.task import Evaluation
from tasks.segmentation.data.cases import SegmentationData, Voxels
from tasks.segmentation.outputs import Outputs, Shown
from tasks.segmentation.overlays import (
    ERRORS,
    OTHER_OBJECT,
    PANEL,
    Scene,
    add_legend,
    draw_scene,
    error_kinds,
    legend_of,
    palette,
    views_of,
)
from tasks.segmentation.scoring import counted, scored, valid_voxels
from tasks.segmentation.segmenter import Segmenter

VOLUMES = 2
"""Worst volumes that are drawn; they take more room than images."""
MODEL, OTHER = "tab:blue", "0.55"
LONGEST = 24
"""Characters of a name; longer ones lose their middle."""


def draw_all(
    segmenter: Segmenter, config: Any, data: SegmentationData, results: dict[str, Evaluation]
) -> Iterator[tuple[str, Figure]]:
    """Yields the worst cases beside the best, Dice by class and case, and the ROC curve where there is one target."""
    outputs: Outputs = results["model"].outputs
    yield "worst_cases", draw_worst(data, outputs)
    yield "dice", draw_dice(data, results)
    if outputs.curve is not None:
        yield "roc", draw_roc(data, results)


def draw_worst(data: SegmentationData, outputs: Outputs) -> Figure:
    """Draws image, truth, prediction and errors of the cases with the lowest Dice, and of the one with the highest."""
    worst = outputs.worst if data.flat else outputs.worst[:VOLUMES]
    shown = [*worst, *([outputs.best] if outputs.best else [])]
    scenes = [_scene(data, each) for each in shown]
    rows = [len(views_of(scene)) for scene in scenes]
    heights = [PANEL * n + 0.5 for n in rows]
    figure = Figure(figsize=(4 * PANEL + 0.4, sum(heights) + 0.9), layout="constrained")
    count = sum(len(fold.test) for fold in data.folds)
    figure.suptitle(f"{len(worst)} worst{' and the best' * (outputs.best is not None)} of {count}")
    colours = palette(len(data.labels.names) - 1)
    parts = figure.subfigures(len(shown), 1, squeeze=False, height_ratios=heights)[:, 0]
    for part, each, scene in zip(parts, shown, scenes, strict=True):
        best = "the best: " if each is outputs.best else ""
        dice = "nothing there, nothing found" if np.isnan(each.dice) else f"Dice {each.dice:.3f}"
        part.suptitle(f"{best}{short(each.case.name, 48)}: {dice}", fontsize="medium")
        draw_scene(part, scene, colours)
    kinds = dict(ERRORS)
    if data.labels.instances:
        *_, last = kinds
        kinds[OTHER_OBJECT] = kinds.pop(last)
    elif len(data.labels.names) == 2:
        kinds.popitem()
    names = () if data.labels.instances else data.labels.names
    add_legend(figure, legend_of(names, colours, kinds))
    return figure


def _scene(data: SegmentationData, shown: Shown) -> Scene:
    voxels: Voxels = data.read(shown.case)
    assert voxels.labels is not None
    objects = data.labels.instances
    truth = voxels.objects if objects else voxels.labels
    predicted = shown.objects if objects else shown.labels.astype(np.int32)
    assert truth is not None and predicted is not None
    errors = error_kinds(truth, predicted, valid_voxels(voxels), objects)
    return Scene(voxels.image, voxels.geometry.spacing, {"truth": truth, "prediction": predicted}, errors)


@dataclass(frozen=True)
class Column:
    """A column of :func:`draw_dice`.

    Attributes:
        caption: Below it.
        target: Whose rows are drawn.
        measure: Of the rows.
        metric: Its mean.
    """

    caption: str
    target: str
    measure: str
    metric: str


def columns_of(data: SegmentationData) -> list[Column]:
    """Returns a column for each target, and of objects one for how many of them are found."""
    names = [name for name, _ in scored(data.labels)]
    if data.labels.instances:
        return [
            Column("Dice", names[0], "dice", "dice"),
            Column("instance F1", names[0], "instance_f1", "instance_f1"),
        ]
    return [Column(name, name, "dice", f"{name}/dice" if len(names) > 1 else "dice") for name in names]


def draw_dice(data: SegmentationData, results: dict[str, Evaluation]) -> Figure:
    """Draws the Dice of each case as a dot, with box plots of each class and the means of the first baseline.

    Of objects their F1 stands beside it.
    """
    frame = results["model"].rows
    assert frame is not None
    columns = columns_of(data)
    baseline = next((name for name in results if name != "model"), None)
    figure = Figure(figsize=(2.6 + 1.5 * len(columns), 4.2), layout="constrained")
    axis = figure.subplots()
    rng = np.random.default_rng(0)
    for i, column in enumerate(columns):
        rows = frame[frame["class"] == column.target].dropna(subset=column.measure)
        values = rows[column.measure].to_numpy()
        if not len(values):
            continue
        axis.boxplot(values, positions=[i], widths=0.5, showfliers=False, medianprops={"color": MODEL})
        axis.scatter(i + rng.uniform(-0.15, 0.15, len(values)), values, s=9, color=MODEL, alpha=0.5, zorder=3)
        worst = rows.iloc[int(values.argmin())]
        axis.annotate(
            f"{short(str(worst['case']))} {values.min():.2f}",
            (i, float(values.min())),
            textcoords="offset points",
            xytext=(0, -12),
            ha="center",
            fontsize="x-small",
            annotation_clip=False,
        )
        if baseline and (other := results[baseline].metrics.get(column.metric)) is not None:
            label = f"{baseline}, mean" if i == 0 else None
            axis.plot([i - 0.35, i + 0.35], [other, other], "--", color=OTHER, label=label)
    axis.set_xticks(range(len(columns)), [short(column.caption, 16) for column in columns])
    if len(columns) > 5:
        axis.tick_params(axis="x", rotation=90)
    what = " and instance F1" * data.labels.instances
    axis.set(ylabel=f"Dice{what}", ylim=(-0.08, 1.02), xlim=(-0.6, len(columns) - 0.4))
    means = [results["model"].metrics[name] for name in ("dice", "instance_f1") if what or name == "dice"]
    axis.set_title(
        f"Dice{what} of {frame['case'].nunique()} test cases:\nmean {', '.join(f'{mean:.3f}' for mean in means)}"
    )
    axis.grid(axis="y", color="0.9")
    if axis.get_legend_handles_labels()[0]:
        figure.legend(frameon=False, fontsize="small", loc="outside lower center")
    return figure


def draw_roc(data: SegmentationData, results: dict[str, Evaluation]) -> Figure:
    """Draws the receiver operating characteristic over the voxels of all cases, for the model and the baselines."""
    from tasks.segmentation.task import TASK

    figure = Figure(figsize=(4.6, 4.4), layout="constrained")
    axis = figure.subplots()
    axis.plot([0, 1], [0, 1], color="0.85", linewidth=1)
    for i, (name, result) in enumerate(results.items()):
        curve = result.outputs.curve if result.outputs is not None else None
        if curve is not None:
            label = f"{TASK.title if name == 'model' else name}, AUC {curve.area:.4f}"
            width = 2.2 if name == "model" else 1
            axis.plot(curve.false_alarms, curve.hits, color=f"C{i}", linewidth=width, label=label)
    axis.set(xlabel="1 - specificity", ylabel="sensitivity", aspect="equal")
    axis.set_title(f"ROC over all {counted(data)}", fontsize="medium")
    axis.grid(color="0.9")
    axis.legend(frameon=False, fontsize="small", loc="lower right")
    return figure


def short(text: str, most: int = LONGEST) -> str:
    """Returns a name that is not longer than ``most`` characters."""
    return text if len(text) <= most else f"{text[: most // 2 - 1]}…{text[-(most // 2) :]}"
