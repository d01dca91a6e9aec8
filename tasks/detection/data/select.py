"""Parts of image sets: some of the images, or some of the objects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from tasks.detection.data.dataset import ImageSet, Polygons


def subset(images: ImageSet, positions: Sequence[int] | np.ndarray) -> ImageSet:
    """Returns the images at these positions, in this order."""
    chosen = np.asarray(positions, np.int64)
    objects, start = _rows(images.start, chosen)
    return replace(
        _objects(images, objects),
        names=images.names[chosen],
        sizes=images.sizes[chosen],
        ids=images.ids[chosen],
        start=start,
    )


def relabel(images: ImageSet, labels: np.ndarray) -> ImageSet:
    """Gives objects other classes; images that lose all of them stay.

    Args:
        images: The set.
        labels: ``(C,)`` int64, for each class its new number, or -1 to leave its objects out.
    """
    renamed = labels[images.labels]
    kept = renamed >= 0
    counted = np.concatenate([[0], np.cumsum(kept)])
    changed = _objects(images, np.flatnonzero(kept))
    return replace(changed, start=counted[images.start], labels=renamed[kept])


def _objects(images: ImageSet, rows: np.ndarray) -> ImageSet:
    """Returns these objects, with ``start`` as it was."""
    return replace(
        images,
        boxes=images.boxes[rows],
        labels=images.labels[rows],
        crowd=images.crowd[rows],
        area=images.area[rows],
        polygons=None if images.polygons is None else _outlines(images.polygons, rows),
    )


def _outlines(polygons: Polygons, rows: np.ndarray) -> Polygons:
    rings, objects = _rows(polygons.objects, rows)
    points, starts = _rows(polygons.rings, rings)
    return Polygons(polygons.points[points], starts, objects)


def _rows(start: np.ndarray, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the rows of the chosen groups, one group after the other, and where each begins among them.

    Args:
        start: ``(N + 1,)`` int64; group i has the rows ``start[i]`` to ``start[i + 1]``.
        chosen: ``(M,)`` int64.
    """
    lengths = np.diff(start)[chosen]
    begins = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return np.arange(begins[-1]) + np.repeat(start[chosen] - begins[:-1], lengths), begins
