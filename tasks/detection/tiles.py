"""Large images in overlapping parts, whose boxes become one list.

What was found in parts and in the whole image is merged by non-maximum suppression (the idea of slicing aided
inference, Akyon et al., arXiv:2202.06934, section 3). Before that go the boxes that the border of a part cuts, where
another part or the whole image holds the object uncut: overlap with the whole object may be too small for suppression,
and the piece may have the higher score.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from tasks.detection.postprocess import Limits, areas, intersections, suppress
from tasks.detection.results import Detections
from tasks.detection.rle import moved

NEAR = 0.01
"""A box that ends so close to the border of a part, as a share of the part's side, is taken to be cut by it."""

COVERED = 0.7
"""A cut box goes when an uncut one of its class covers so much of its area."""

Part = tuple[int, int, int, int]
"""Left, top, right and bottom of a part of an image, pixels."""


def parts_of(size: tuple[int, int], tile: int, overlap: float) -> list[Part]:
    """Returns the parts of an image that are searched: the whole first, then tiles row by row.

    Args:
        size: Height and width of the image, pixels.
        tile: Side of a tile, pixels; 0 for the whole image alone, as for images that are no larger than a tile.
        overlap: Least share of a tile that the next one repeats.
    """
    height, width = size
    parts = [(0, 0, width, height)]
    if tile and max(size) > tile:
        across, down = _starts(width, tile, overlap), _starts(height, tile, overlap)
        parts += [(x, y, min(x + tile, width), min(y + tile, height)) for y in down for x in across]
    return parts


def merge(
    found: Sequence[Detections], parts: Sequence[Part], size: tuple[int, int], limits: Limits
) -> Detections:
    """Returns what was found in the parts of an image as one list.

    Args:
        found: What was found in each part, in its pixels.
        parts: The parts.
        size: Height and width of the image, pixels.
        limits: How boxes suppress each other, and how many there may be.
    """
    boxes = np.concatenate(
        [
            each.boxes + np.array([*part[:2], *part[:2]], np.float32)
            for each, part in zip(found, parts, strict=True)
        ]
    )
    owner = np.repeat(np.arange(len(parts)), [len(each) for each in found])
    together = Detections(
        boxes,
        np.concatenate([each.scores for each in found]),
        np.concatenate([each.labels for each in found]),
    )
    cut = np.concatenate([_cut(each.boxes, part, size) for each, part in zip(found, parts, strict=True)])
    left = np.flatnonzero(~_pieces(together, cut, limits.agnostic))
    kept = left[suppress(together.take(left), limits)]
    merged = together.take(kept)
    if found[0].masks is None:
        return merged
    # Masks of the size of the image only for what is left.
    first = np.cumsum([0, *map(len, found)])
    masks = []
    for i in kept:
        each, part = found[owner[i]], parts[owner[i]]
        assert each.masks is not None
        masks.append(moved(each.masks[i - first[owner[i]]], part[0], part[1], size))
    return Detections(merged.boxes, merged.scores, merged.labels, masks)


def _starts(side: int, tile: int, overlap: float) -> list[int]:
    """Returns where tiles begin along a side, evenly spread."""
    if side <= tile:
        return [0]
    steps = math.ceil((side - tile) / max(1, tile * (1 - overlap)))
    return [round(i * (side - tile) / steps) for i in range(steps + 1)]


def _cut(boxes: np.ndarray, part: Part, size: tuple[int, int]) -> np.ndarray:
    """Tells ``(N,)`` which boxes, in pixels of their part, touch a border of it that is none of the image."""
    left, top, right, bottom = part
    width, height = right - left, bottom - top
    near_x, near_y = max(1.0, NEAR * width), max(1.0, NEAR * height)
    return (
        ((boxes[:, 0] <= near_x) & (left > 0))
        | ((boxes[:, 1] <= near_y) & (top > 0))
        | ((boxes[:, 2] >= width - near_x) & (right < size[1]))
        | ((boxes[:, 3] >= height - near_y) & (bottom < size[0]))
    )


def _pieces(found: Detections, cut: np.ndarray, agnostic: bool) -> np.ndarray:
    """Tells ``(N,)`` which cut boxes lie in an uncut one."""
    result = np.zeros(len(found), bool)
    boxes, labels = found.boxes[~cut], found.labels[~cut]
    for i in np.flatnonzero(cut):
        same = boxes if agnostic else boxes[labels == found.labels[i]]
        shared = intersections(found.boxes[i], same)
        result[i] = bool((shared > COVERED * areas(found.boxes[i])).any())
    return result
