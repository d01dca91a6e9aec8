"""From the boxes and scores of a network to objects: the likely ones, each once.

Imports no torch, so that exported programs are followed by the same code.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tasks.detection.preprocess import unfit
from tasks.detection.results import Detections

CANDIDATES = 30_000
"""Most boxes of an image that are compared with each other, the best ones; as in mmdetection's RTMDet."""


@dataclass(frozen=True)
class Limits:
    """Which boxes count.

    Attributes:
        score: A box counts above this score.
        iou: Of two boxes that overlap by more than this, the one with the lower score goes.
        max_detections: Most boxes in an image.
        multi_label: Every class of a place above the score counts, not only the best one.
        agnostic: Boxes of different classes suppress each other too.
        classes: Positions of the classes that count; ``None`` for all. Boxes of others suppress nothing.
    """

    score: float = 0.3
    iou: float = 0.65
    max_detections: int = 300
    multi_label: bool = False
    agnostic: bool = False
    classes: Sequence[int] | None = None


def select(
    boxes: np.ndarray, scores: np.ndarray, scale: float, size: tuple[int, int], limits: Limits
) -> tuple[Detections, np.ndarray]:
    """Returns the objects that a network found in one image, and where it found them.

    Boxes are cut to the image first, and those without area go, as in mmdetection.

    Args:
        boxes: ``(P, 4)`` corners, pixels of the fitted image.
        scores: ``(P, C)``.
        scale: Factor of the fitted image, see :func:`tasks.detection.preprocess.fit`.
        size: Height and width of the image, pixels.
        limits: Which count.

    Returns:
        The objects, without masks, and their places ``(N,)`` among the P.
    """
    places, labels = _candidates(scores, limits)
    found = Detections(unfit(boxes[places], scale, size), scores[places, labels], labels)
    left = solid(found.boxes)
    found, places = found.take(left), places[left]
    kept = suppress(found, limits)
    return found.take(kept), places[kept]


def suppress(found: Detections, limits: Limits) -> np.ndarray:
    """Returns the positions of the boxes that are left by greedy non-maximum suppression, the best one first.

    As soon as ``limits.max_detections`` are found the search ends, which makes it as fast as compiled ones.
    """
    order = np.argsort(-found.scores, kind="stable")
    boxes = found.boxes[order]
    groups = np.zeros_like(found.labels) if limits.agnostic else found.labels[order]
    kept: list[int] = []
    while len(order) and len(kept) < limits.max_detections:
        kept.append(int(order[0]))
        rest = (overlaps(boxes[0], boxes[1:]) <= limits.iou) | (groups[1:] != groups[0])
        order, boxes, groups = order[1:][rest], boxes[1:][rest], groups[1:][rest]
    return np.array(kept, np.int64)


def intersections(box: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Returns the areas ``(N,)`` that a box ``(4,)`` shares with others ``(N, 4)``."""
    sides = np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2])
    return sides.clip(0).prod(1)


def areas(boxes: np.ndarray) -> np.ndarray:
    """Returns the areas ``(...)`` of boxes ``(..., 4)``."""
    return (boxes[..., 2:] - boxes[..., :2]).prod(-1)


def solid(boxes: np.ndarray) -> np.ndarray:
    """Tells ``(N,)`` which boxes ``(N, 4)`` have an area."""
    return np.all(boxes[:, 2:] > boxes[:, :2], axis=1)


def overlaps(box: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Returns intersection over union ``(N,)`` of a box ``(4,)`` with others ``(N, 4)``, all of some area."""
    shared = intersections(box, boxes)
    return shared / (areas(box) + areas(boxes) - shared)


def _candidates(scores: np.ndarray, limits: Limits) -> tuple[np.ndarray, np.ndarray]:
    """Returns places and labels ``(N,)`` of the boxes that are likely enough."""
    if limits.multi_label:
        places, labels = np.nonzero(scores > limits.score)
    else:
        labels = scores.argmax(1)
        places = np.flatnonzero(scores.max(1) > limits.score)
        labels = labels[places]
    if limits.classes is not None:
        asked = np.isin(labels, limits.classes)
        places, labels = places[asked], labels[asked]
    if len(places) > CANDIDATES:
        best = np.argpartition(-scores[places, labels], CANDIDATES)[:CANDIDATES]
        best.sort()
        places, labels = places[best], labels[best]
    return places, labels
