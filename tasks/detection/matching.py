"""Which detection finds which object, by the rules of COCO's evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tasks.detection.coco_eval import with_size
from tasks.detection.data.dataset import ImageSet
from tasks.detection.results import Detections

IOUS = np.linspace(0.5, 0.95, 10)
"""Overlaps from which a box counts as found."""
MOST = 100
"""Detections of a class in an image that are looked at, the most certain ones."""


@dataclass(frozen=True)
class Matches:
    """The detections of all images in one row of ``N``, those of an image and class together, most certain first.

    Attributes:
        image: ``(N,)`` position of the image.
        position: ``(N,)`` position in the image's :class:`Detections`.
        label: ``(N,)`` class.
        score: ``(N,)``.
        right: ``(10, N)`` bool, whether it is the one detection of an object at each of :data:`IOUS`.
        ignored: ``(10, N)`` bool, whether it lies in a crowd and is neither right nor wrong.
        truth: ``(N,)`` position in the image of the object that it finds at IoU 0.5, or -1.
        iou: ``(N,)`` overlap with it, or 0.
        counts: ``(I, C)`` objects of each class in each image, crowds left out.
    """

    image: np.ndarray
    position: np.ndarray
    label: np.ndarray
    score: np.ndarray
    right: np.ndarray
    ignored: np.ndarray
    truth: np.ndarray
    iou: np.ndarray
    counts: np.ndarray

    def false(self) -> np.ndarray:
        """Returns ``(10, N)`` bool, whether a detection is wrong."""
        return ~(self.right | self.ignored)


def match(truth: ImageSet, found: Sequence[Detections], classes: int, most: int = MOST) -> Matches:
    """Gives each object to the most certain detection of its class that overlaps it enough.

    Args:
        truth: ``I`` images and what is in them.
        found: What was found in each.
        classes: Number ``C`` of classes.
        most: Detections of a class in an image that are looked at.
    """
    counts = np.zeros((len(truth), classes), np.int64)
    rows: list[tuple[np.ndarray, ...]] = []
    for i, each in enumerate(found):
        targets = truth.targets(i)
        np.add.at(counts[i], targets.labels[~targets.crowd], 1)
        order = np.argsort(-each.scores, kind="stable")
        for label in np.unique(each.labels):
            mine = order[each.labels[order] == label][:most]
            objects = np.flatnonzero(targets.labels == label)
            crowd = targets.crowd[objects]
            overlap = overlaps(each.boxes[mine], targets.boxes[objects], crowd)
            chosen, ignored = _assign(overlap, crowd)
            hit = chosen[0] >= 0
            iou = np.zeros(len(mine))
            iou[hit] = overlap[hit, chosen[0][hit]]
            which = np.full(len(mine), -1)
            which[hit] = objects[chosen[0][hit]]
            where = np.full(len(mine), i)
            same = np.full(len(mine), label)
            rows.append(
                (where, mine, same, each.scores[mine], (chosen >= 0).T, ignored.T, which, iou),
            )
    if not rows:
        none, flags = np.zeros(0, np.int64), np.zeros((len(IOUS), 0), bool)
        return Matches(none, none, none, np.zeros(0), flags, flags, none, np.zeros(0), counts)
    image, position, labels, score, right, ignored, which, iou = map(np.concatenate, zip(*rows, strict=True))
    return Matches(image, position, labels, score, right.T, ignored.T, which, iou, counts)


def overlaps(found: np.ndarray, true: np.ndarray, crowd: np.ndarray | None = None) -> np.ndarray:
    """Returns the IoU of boxes ``(N, 4)`` and ``(G, 4)``, ``(N, G)``; with a crowd, the share of the box inside it.

    Args:
        found: Left, top, right, bottom, pixels.
        true: The same.
        crowd: ``(G,)`` bool, which of them are crowds.
    """
    from faster_coco_eval.core import mask

    if not len(found) or not len(true):
        return np.zeros((len(found), len(true)))
    flags = np.zeros(len(true), np.uint8) if crowd is None else crowd.astype(np.uint8)
    return np.asarray(mask.iou(with_size(found), with_size(true), flags.tolist()))


def _assign(overlap: np.ndarray, crowd: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the object of each detection at each IoU, ``(10, N)`` with -1 for none, and whether it is in a crowd."""
    count = len(overlap)
    chosen = np.full((len(IOUS), count), -1)
    ignored = np.zeros((len(IOUS), count), bool)
    free = np.broadcast_to(~crowd, (len(IOUS), len(crowd))).copy()
    levels = np.arange(len(IOUS))
    for d in np.flatnonzero((overlap >= IOUS[0]).any(1)):
        fits = overlap[d] >= IOUS[:, None]
        open_to = fits & free
        hit = open_to.any(1)
        # Of equal overlaps COCO takes the last.
        best = len(crowd) - 1 - np.where(open_to, overlap[d], -1.0)[:, ::-1].argmax(1)
        chosen[hit, d] = best[hit]
        free[levels[hit], best[hit]] = False
        ignored[:, d] = ~hit & (fits & crowd).any(1)
    return chosen, ignored
