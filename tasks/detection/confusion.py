"""What is taken for what."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tasks.detection.data.dataset import ImageSet, Targets
from tasks.detection.matching import overlaps
from tasks.detection.results import Detections

IOU = 0.5
"""Overlap from which a box and an object are the same thing."""


def confusion_matrix(
    truth: ImageSet, found: Sequence[Detections], classes: int, confidence: float, iou: float = IOU
) -> np.ndarray:
    """Counts the objects of each class that are taken for each class.

    Boxes and objects are joined in pairs whatever their classes, those that overlap most first. Crowds are not counted,
    nor are the boxes inside them.

    Args:
        truth: Images and what is in them.
        found: What was found in each.
        classes: Number ``C`` of classes.
        confidence: Least score of a box that counts.
        iou: Least overlap.

    Returns:
        ``(C + 1, C + 1)`` int64: rows are the truth, columns what was found. The last row is what was found where there
        is nothing, the last column what was missed.
    """
    matrix = np.zeros((classes + 1, classes + 1), np.int64)
    for i, each in enumerate(found):
        _add(matrix, truth.targets(i), each.take(each.scores >= confidence), iou)
    return matrix


def _add(matrix: np.ndarray, targets: Targets, found: Detections, iou: float) -> None:
    background = len(matrix) - 1
    overlap = overlaps(found.boxes, targets.boxes, targets.crowd)
    box, thing = np.nonzero((overlap >= iou) & ~targets.crowd)
    other = found.labels[box] != targets.labels[thing]
    used, seen = np.zeros(len(found), bool), targets.crowd.copy()
    # A box that stands there twice, once for each of two classes, counts with the right one.
    for pair in np.lexsort((-found.scores[box], other, -overlap[box, thing])):
        b, t = box[pair], thing[pair]
        if not used[b] and not seen[t]:
            used[b] = seen[t] = True
            matrix[targets.labels[t], found.labels[b]] += 1
    used |= (overlap[:, targets.crowd] >= iou).any(1)
    np.add.at(matrix[background], found.labels[~used], 1)
    np.add.at(matrix[:, background], targets.labels[~seen], 1)
