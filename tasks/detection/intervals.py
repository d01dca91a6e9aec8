"""How far an average precision could be off because the test set is small."""

from __future__ import annotations

import numpy as np

from tasks.detection.matching import IOUS, Matches

RECALLS = np.linspace(0, 1, 101)
COVERED = 95.0
"""Percent of the resamplings inside an interval."""


def average_precision(matches: Matches, weights: np.ndarray | None = None) -> np.ndarray:
    """Returns COCO's average precision of each IoU and class, ``(10, C)``; nan where a class has no object.

    Args:
        matches: Detections and what they find.
        weights: ``(I,)`` how many times an image is there; once by default. Copies of an image change nothing between
            the last copies of its detections, so that the result is that of a test set with the copies in it.
    """
    return _precision(matches, _by_class(matches), weights)


def bootstrap(matches: Matches, count: int, seed: int) -> dict[str, tuple[float, float]]:
    """Returns 95 % intervals of ``map`` and ``map50``: percentiles over test sets drawn from the images.

    Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 13. Says nothing about other trainings.

    Args:
        matches: Detections and what they find.
        count: Number of drawings, 1 or more.
        seed: Seed of the drawing.
    """
    rng = np.random.default_rng(seed)
    images = len(matches.counts)
    groups = _by_class(matches)
    values = []
    for weights in rng.multinomial(images, np.full(images, 1 / images), size=count):
        ap = _precision(matches, groups, weights)
        known = ~np.isnan(ap[0])
        if known.any():
            values.append((ap[:, known].mean(), ap[0, known].mean()))
    if not values:
        return {}
    tail = (100 - COVERED) / 2
    low, high = np.percentile(values, [tail, 100 - tail], axis=0)
    return {name: (float(low[k]), float(high[k])) for k, name in enumerate(("map", "map50"))}


def _by_class(matches: Matches) -> list[np.ndarray]:
    """Returns the detections of each class, the most certain first."""
    order = np.argsort(-matches.score, kind="stable")
    return [order[matches.label[order] == label] for label in range(matches.counts.shape[1])]


def _precision(matches: Matches, groups: list[np.ndarray], weights: np.ndarray | None) -> np.ndarray:
    counts = matches.counts if weights is None else matches.counts * weights[:, None]
    false = matches.false()
    result = np.full((len(IOUS), len(groups)), np.nan)
    for label, (total, mine) in enumerate(zip(counts.sum(0), groups, strict=True)):
        if not total:
            continue
        times = 1 if weights is None else weights[matches.image[mine]]
        hits = np.cumsum(matches.right[:, mine] * times, 1)
        misses = np.cumsum(false[:, mine] * times, 1)
        precision = hits / (hits + misses + np.spacing(1))
        highest = np.maximum.accumulate(precision[:, ::-1], 1)[:, ::-1]
        for level in range(len(IOUS)):
            first = np.searchsorted(hits[level] / total, RECALLS)
            reached = first[first < len(mine)]
            result[level, label] = highest[level, reached].sum() / len(RECALLS)
    return result
