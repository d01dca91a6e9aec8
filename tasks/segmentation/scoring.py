"""Scores of a segmenter, or of any other method, on the test cases: one row a case and target."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
from rich.progress import track

from core.task import Evaluation
from tasks.segmentation.checks import apply_options, check_fits
from tasks.segmentation.config import SegScoringConfig
from tasks.segmentation.data.cases import Case, Fold, SegmentationData, Voxels
from tasks.segmentation.labels import IGNORE, Labels
from tasks.segmentation.measures import (
    IOUS,
    Confusion,
    confusion,
    instance_f1,
    instance_precision,
    overlaps,
    roc,
    surface_measures,
)
from tasks.segmentation.outputs import Outputs
from tasks.segmentation.segmenter import Segmentation, Segmenter

VOXELS = 20_000_000
"""Most voxels that a curve is made of; of more, every second, third, ... is taken."""
POOLED = {
    "f1": "F1",
    "se": "sensitivity",
    "sp": "specificity",
    "ac": "accuracy",
    "auc": "AUC",
    "jaccard": "Jaccard",
}
"""Metrics over the voxels of all cases, where there is one target, in words."""

Method = Callable[[Voxels, str], Segmentation]
"""Segments a case of a name without looking at its labels. Its probabilities may be any scores that rise with them."""


def score_segmenter(segmenter: Segmenter, config: Any, data: SegmentationData) -> Evaluation:
    """Scores a trained model.

    A case is segmented by the networks that did not learn from it: in cross-validation by that of its fold, and all of
    them together segment other data. Cases are known by their names. The metrics are shares, distances mm (pixels in
    images), see :func:`score`.

    Raises:
        DataError: The data have other classes or channels than the model.
    """
    matched = check_fits(segmenter, data)
    apply_options(segmenter, config.scoring)
    wants_scores = len(scored(data.labels)) == 1

    def segment(voxels: Voxels, name: str) -> Segmentation:
        folds = segmenter.unseen(name) or None  # members without a fold in common
        return segmenter.segment(voxels, name, folds=folds, keep_probabilities=wants_scores)

    result = score(lambda fold: segment, data, config.scoring, "segmenting")
    result.notes += matched
    known = [
        case.name
        for fold in data.folds
        for case in (data.cases[i] for i in fold.test)
        if segmenter.knows(case.name)
    ]
    if known:
        result.notes.append(f"{len(known)} test cases have names of training cases, such as {known[0]}")
    mirrored = "averaged over mirrored images" if segmenter.mirrors else "without mirrored images"
    result.notes.append(f"segmented {mirrored} (--scoring.mirror {config.scoring.mirror})")
    return result


def scored(labels: Labels) -> list[tuple[str, tuple[int, ...]]]:
    """Returns the targets that are scored; cores of objects only serve to tell objects apart."""
    return labels.targets[:1] if labels.instances else labels.targets


def score(
    methods: Callable[[Fold], Method], data: SegmentationData, scoring: SegScoringConfig, what: str
) -> Evaluation:
    """Scores a method with a progress bar.

    Voxels outside the field of view, and those that the labels ignore, count for nothing. The metrics:

    - ``dice``, ``iou``, ``hd95``, ``surface_dice``: of each target the mean over the cases that have a value, and
      of these the mean; ``<target>/dice`` and so on of each of several targets. A target that a case has not, and
      that was not found, has no value. A distance from or to nothing is infinite and has no value either.
    - ``f1``, ``se``, ``sp``, ``ac``, ``jaccard``, ``auc``: over the voxels of all cases, where there is one
      target (arXiv:1802.06955).
    - ``instance_f1`` and ``instance_ap``: means over the cases, where labels number objects.
    - ``<fold>/dice`` and their standard deviation ``dice_std`` with several folds.

    Args:
        methods: The method of each fold.
        data: Cases.
        scoring: Tolerance and overlap.
        what: Words at the progress bar.
    """
    tested = [data.cases[i] for fold in data.folds for i in fold.test]
    step = -(-sum(math.prod(case.geometry.shape) for case in tested) // VOXELS)
    rows: list[dict[str, Any]] = []
    outputs, pooled = Outputs(), Confusion()
    scores: list[np.ndarray] = []
    positives: list[np.ndarray] = []
    for fold, case, method in track(_jobs(methods, data), what, total=len(tested), transient=True):
        voxels = data.read(case)
        assert voxels.labels is not None, case.name
        found = method(voxels, case.name)
        valid = valid_voxels(voxels)
        counts, own = case_rows(voxels, found, valid, data.labels, scoring)
        rows += [{"case": case.name, "fold": fold.name, **row} for row in own]
        dice = [row["dice"] for row in own if math.isfinite(row["dice"])]
        outputs.add(case, float(np.mean(dice)) if dice else math.nan, found)
        if len(counts) == 1:
            pooled += counts[0]
            if found.probabilities is not None:
                # With softmax the background stands first; with sigmoid, as for objects, the target does.
                channel = 1 if len(found.probabilities) == 2 and not data.labels.instances else 0
                scores.append(found.probabilities[channel][valid][::step].astype(np.float32))
                positives.append(np.isin(voxels.labels[valid][::step], scored(data.labels)[0][1]))
    frame = pd.DataFrame(rows)
    metrics = means(frame, data)
    if len(scored(data.labels)) == 1:
        metrics |= _pooled(pooled)
        outputs.curve = roc(np.concatenate(scores), np.concatenate(positives)) if scores else None
        if outputs.curve is not None:
            metrics["auc"] = outputs.curve.area
    kept = {name: value for name, value in metrics.items() if name == "dice" or math.isfinite(value)}
    return Evaluation(kept, frame, outputs, [*_summary(kept, data, scoring), *_notes(frame)])


def _jobs(methods: Callable[[Fold], Method], data: SegmentationData) -> Iterator[tuple[Fold, Case, Method]]:
    for fold in data.folds:
        method = methods(fold)
        for i in fold.test:
            yield fold, data.cases[i], method


def case_rows(
    voxels: Voxels, found: Segmentation, valid: np.ndarray, labels: Labels, scoring: SegScoringConfig
) -> tuple[list[Confusion], list[dict[str, Any]]]:
    """Returns the counts and the row of each target of a case.

    Args:
        voxels: The case, with labels.
        found: What a method says of it.
        valid: ``(Z, Y, X)`` bool of :func:`valid_voxels`.
        labels: What label maps mean.
        scoring: Tolerance and overlap.
    """
    assert voxels.labels is not None
    counts, rows = [], []
    for name, classes in scored(labels):
        truth, predicted = np.isin(voxels.labels, classes) & valid, np.isin(found.labels, classes) & valid
        count = confusion(truth, predicted, valid)
        distance, near = surface_measures(truth, predicted, voxels.geometry.spacing, scoring.tolerance)
        counts.append(count)
        rows.append(
            {
                "class": name,
                "dice": count.dice,
                "iou": count.iou,
                "hd95": distance,
                "surface_dice": near,
                "voxels_truth": count.truth,
                "voxels_predicted": count.predicted,
            }
        )
    if labels.instances:
        assert voxels.objects is not None and found.objects is not None
        ious = overlaps(voxels.objects * valid, found.objects * valid)
        rows[0] |= {
            "objects_truth": ious.shape[0],
            "objects_predicted": ious.shape[1],
            "instance_f1": instance_f1(ious, scoring.iou),
            "instance_ap": instance_precision(ious),
        }
    return counts, rows


def valid_voxels(voxels: Voxels) -> np.ndarray:
    """Returns the voxels that count, ``(Z, Y, X)`` bool: labelled, and inside the field of view."""
    assert voxels.labels is not None
    counted = voxels.labels != IGNORE
    return counted if voxels.mask is None else counted & voxels.mask


def means(frame: pd.DataFrame, data: SegmentationData) -> dict[str, float]:
    """Returns the metrics that are means over the rows of :func:`score`."""
    measures = ["dice", "iou", "hd95", "surface_dice"]
    by_class = frame.groupby("class", sort=False)[measures].mean()
    metrics = {name: float(by_class[name].mean()) for name in measures}
    if data.labels.instances:
        metrics |= {name: float(frame[name].mean()) for name in ("instance_f1", "instance_ap")}
    for target, values in by_class.iterrows() if len(by_class) > 1 else ():
        metrics |= {f"{target}/{name}": float(values[name]) for name in measures}
    if len(data.folds) > 1:
        folds = frame.groupby(["fold", "class"], sort=False)["dice"].mean().groupby("fold", sort=False).mean()
        metrics |= {f"{name}/dice": float(value) for name, value in folds.items()}
        metrics["dice_std"] = float(folds.std())
    return metrics


def _pooled(counts: Confusion) -> dict[str, float]:
    return {
        "f1": counts.dice,
        "se": counts.sensitivity,
        "sp": counts.specificity,
        "ac": counts.accuracy,
        "jaccard": counts.iou,
    }


def counted(data: SegmentationData) -> str:
    """Says what is counted: ``pixels``, ``voxels``, and whether it is inside a field of view."""
    masked = any(data.cases[i].mask is not None for fold in data.folds for i in fold.test)
    return ("pixels" if data.flat else "voxels") + " inside the field of view" * masked


def _summary(metrics: dict[str, float], data: SegmentationData, scoring: SegScoringConfig) -> list[str]:
    """Says in words what the table of results, which shows Dice alone, leaves out."""
    lines = []
    if "instance_f1" in metrics:
        lines.append(
            f"objects at IoU {scoring.iou:g}: F1 {metrics['instance_f1']:.3f}; "
            f"AP {metrics['instance_ap']:.3f} over IoU {IOUS[0]:g} to {IOUS[-1]:g}"
        )
    known = [f"{words} {metrics[name]:.3f}" for name, words in POOLED.items() if name in metrics]
    if known:
        lines.append(f"{', '.join(known)} over all {counted(data)}")
    return lines


def _notes(frame: pd.DataFrame) -> list[str]:
    notes = []
    for name, rows in frame.groupby("class", sort=False):
        absent = (rows["voxels_truth"] == 0) & (rows["voxels_predicted"] == 0)
        if absent.any():
            notes.append(
                f"{name}: {absent.sum()} of {len(rows)} cases have none and none was found: left out of the means"
            )
        one = (rows["voxels_truth"] == 0) != (rows["voxels_predicted"] == 0)
        if one.any():
            notes.append(
                f"{name}: in {one.sum()} of {len(rows)} cases only the labels or only the result has it: Dice 0, hd95"
                " infinite and left out of its mean"
            )
    return notes
