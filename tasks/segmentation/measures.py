"""Measures of overlap and of distance between label maps. Shares are 0 to 1, distances mm."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.optimize import linear_sum_assignment

IOUS = tuple(round(0.5 + 0.05 * i, 2) for i in range(10))
"""Overlaps that the average precision is the mean over: 0.5, 0.55, ..., 0.95."""


@dataclass(frozen=True)
class Confusion:
    """Counts of voxels of a binary decision; counts of several cases are added with ``+``.

    Every share is nan where its denominator is 0: Dice of a class that neither map has says nothing.

    Attributes:
        tp: Found.
        fp: Found where there is nothing.
        fn: Missed.
        tn: Rightly left out.
    """

    tp: int = 0
    fp: int = 0
    fn: int = 0
    tn: int = 0

    def __add__(self, other: Confusion) -> Confusion:
        return Confusion(self.tp + other.tp, self.fp + other.fp, self.fn + other.fn, self.tn + other.tn)

    @property
    def truth(self) -> int:
        """Voxels of the class in the truth."""
        return self.tp + self.fn

    @property
    def predicted(self) -> int:
        """Voxels of the class in the prediction."""
        return self.tp + self.fp

    @property
    def dice(self) -> float:
        """Dice's coefficient, the same as F1."""
        return _share(2 * self.tp, 2 * self.tp + self.fp + self.fn)

    @property
    def iou(self) -> float:
        """Intersection over union, the same as Jaccard's index."""
        return _share(self.tp, self.tp + self.fp + self.fn)

    @property
    def sensitivity(self) -> float:
        """Share of the class that is found (SE)."""
        return _share(self.tp, self.truth)

    @property
    def specificity(self) -> float:
        """Share of all else that is left out (SP)."""
        return _share(self.tn, self.tn + self.fp)

    @property
    def accuracy(self) -> float:
        """Share of the voxels that are right (AC)."""
        return _share(self.tp + self.tn, self.tp + self.fp + self.fn + self.tn)


def confusion(truth: np.ndarray, predicted: np.ndarray, valid: np.ndarray | None = None) -> Confusion:
    """Counts voxels.

    Args:
        truth: Bool of any shape.
        predicted: Bool of the same shape.
        valid: Voxels that count, bool of the same shape; ``None`` for all.
    """
    if valid is not None:
        truth, predicted = truth[valid], predicted[valid]
    tp = int(np.count_nonzero(truth & predicted))
    fp, fn = int(np.count_nonzero(predicted)) - tp, int(np.count_nonzero(truth)) - tp
    return Confusion(tp, fp, fn, truth.size - tp - fp - fn)


def surface_distances(
    truth: np.ndarray, predicted: np.ndarray, spacing: Sequence[float]
) -> tuple[np.ndarray, np.ndarray]:
    """Returns how far the surfaces of two objects are from each other.

    A surface is the voxels of an object that have a neighbour outside it (by faces; outside the image counts), as in
    MONAI's metrics, whose import alone takes longer than this does for a data set.

    Args:
        truth: ``(Z, Y, X)`` bool, or of one slice, which is taken as an image.
        predicted: The same shape; both have voxels.
        spacing: mm along the axes.

    Returns:
        Distance of each voxel of the truth's surface to the prediction's, and the reverse, mm.
    """
    if truth.shape[0] == 1:
        truth, predicted, spacing = truth[0], predicted[0], spacing[1:]
    # Between points of the box that holds both, nothing outside matters.
    (box,) = ndimage.find_objects((truth | predicted).view(np.uint8))
    surfaces = [mask[box] & ~ndimage.binary_erosion(mask[box]) for mask in (truth, predicted)]
    first, second = (ndimage.distance_transform_edt(~surface, sampling=spacing) for surface in surfaces)
    return second[surfaces[0]], first[surfaces[1]]


def hausdorff95(to_prediction: np.ndarray, to_truth: np.ndarray) -> float:
    """Returns the larger of the 95th percentiles of both :func:`surface_distances`, mm."""
    return float(max(np.percentile(to_prediction, 95), np.percentile(to_truth, 95)))


def surface_dice(to_prediction: np.ndarray, to_truth: np.ndarray, tolerance: float) -> float:
    """Returns the share of both surfaces that is no further than ``tolerance`` mm from the other (arXiv:1809.04430)."""
    near = np.count_nonzero(to_prediction <= tolerance) + np.count_nonzero(to_truth <= tolerance)
    return float(near / (to_prediction.size + to_truth.size))


def surface_measures(
    truth: np.ndarray, predicted: np.ndarray, spacing: Sequence[float], tolerance: float
) -> tuple[float, float]:
    """Returns :func:`hausdorff95` and :func:`surface_dice` of two objects.

    Without voxels in both, both are nan; with voxels in one alone the distance, which is infinite, is nan and the share
    is 0.

    Args:
        truth: ``(Z, Y, X)`` bool.
        predicted: The same shape.
        spacing: mm along the axes.
        tolerance: mm.
    """
    both = bool(truth.any()), bool(predicted.any())
    if not all(both):
        return math.nan, 0.0 if any(both) else math.nan
    distances = surface_distances(truth, predicted, spacing)
    return hausdorff95(*distances), surface_dice(*distances, tolerance)


def overlaps(truth: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Returns the intersection over union of all pairs of objects.

    Args:
        truth: Numbers of objects, 0 for none; any shape, any gaps in the numbers.
        predicted: The same shape.

    Returns:
        ``(T, P)`` for T true and P predicted objects.
    """
    true_numbers, rows = np.unique(truth, return_inverse=True)
    found_numbers, columns = np.unique(predicted, return_inverse=True)
    shape = (len(true_numbers), len(found_numbers))
    counts = np.bincount(rows.ravel() * shape[1] + columns.ravel(), minlength=shape[0] * shape[1]).reshape(
        shape
    )
    union = counts.sum(1, keepdims=True) + counts.sum(0, keepdims=True) - counts
    return (counts / union)[true_numbers != 0][:, found_numbers != 0]


def matches(ious: np.ndarray, threshold: float) -> int:
    """Returns the largest number of pairs of objects, each in one pair, that overlap by ``threshold`` or more.

    Args:
        ious: ``(T, P)`` of :func:`overlaps`.
        threshold: Intersection over union.
    """
    if not ious.size:
        return 0
    near = ious >= threshold
    return int(near[linear_sum_assignment(near, maximize=True)].sum())


def instance_f1(ious: np.ndarray, threshold: float) -> float:
    """Returns F1 of finding objects, each once, at an overlap; nan where there are none and none were found."""
    return _share(2 * matches(ious, threshold), sum(ious.shape))


def instance_precision(ious: np.ndarray) -> float:
    """Returns the mean of TP / (TP + FP + FN) of objects over :data:`IOUS`, as in the Data Science Bowl of 2018.

    It is nan where there are no objects and none were found.
    """
    found = [matches(ious, threshold) for threshold in IOUS]
    return float(np.mean([_share(tp, sum(ious.shape) - tp) for tp in found]))


@dataclass(frozen=True)
class Curve:
    """Receiver operating characteristic over voxels.

    Attributes:
        false_alarms: Share of the background at or above a threshold, rising from 0 to 1.
        hits: Share of the class at or above it.
        area: Area under the whole curve (AUC).
    """

    false_alarms: np.ndarray
    hits: np.ndarray
    area: float


def roc(scores: np.ndarray, positives: np.ndarray, points: int = 512) -> Curve | None:
    """Returns the curve, thinned to be drawn; ``None`` unless there are voxels of both kinds.

    Args:
        scores: ``(N,)``, higher for the class.
        positives: ``(N,)`` bool.
        points: Most points that are kept.
    """
    from sklearn.metrics import auc, roc_curve

    if positives.all() or not positives.any():
        return None
    false_alarms, hits, _ = roc_curve(positives, scores)
    area = float(auc(false_alarms, hits))
    # Points that are even in the length along the curve, which both its steep and its flat part have.
    along = false_alarms + hits
    kept = np.unique(np.searchsorted(along, np.linspace(0, 2, points)).clip(0, len(along) - 1))
    return Curve(false_alarms[kept], hits[kept], area)


def _share(part: float, whole: float) -> float:
    return float(part / whole) if whole else math.nan
