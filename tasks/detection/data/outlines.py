"""Outlines of objects: polygons and masks of files to rings of points, and rings to arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from faster_coco_eval.core import mask as coco_mask

from tasks.detection.data.dataset import Polygons


def ring(values: Sequence[Any]) -> np.ndarray | None:
    """Returns the points of a polygon written as x, y, x, y, ..., ``(N, 2)`` float32.

    Returns:
        ``None`` where there are fewer than three points, half a point, or what is no finite number.
    """
    try:
        points = np.array(values, np.float64)
    except (TypeError, ValueError):
        return None
    if points.ndim != 1 or len(points) < 6 or len(points) % 2 or not np.isfinite(points).all():
        return None
    return points.reshape(-1, 2).astype(np.float32)


def decode_mask(encoded: dict[str, Any], size: tuple[int, int] | None) -> np.ndarray | None:
    """Decodes a mask of COCO's run-length encoding, as counts or as text.

    Args:
        encoded: ``size``, which is height and width, and ``counts``.
        size: Width and height of the image, if they are known.

    Returns:
        ``(H, W)`` uint8, or ``None`` where the encoding is damaged or made for another size.
    """
    counts, sides = encoded.get("counts"), encoded.get("size")
    if not isinstance(counts, str | list) or not isinstance(sides, list) or len(sides) != 2:
        return None
    height, width = sides
    if size not in (None, (width, height)):
        return None
    try:
        packed = coco_mask.frPyObjects(encoded, height, width) if isinstance(counts, list) else encoded
        return np.asarray(coco_mask.decode(packed)).reshape(height, width)
    # Damaged runs and sizes raise one or the other.
    except (TypeError, ValueError, RuntimeError):
        return None


def mask_rings(mask: np.ndarray) -> list[np.ndarray]:
    """Returns the outer borders of a mask, which run between the pixels; holes are filled.

    Args:
        mask: ``(H, W)`` uint8, 0 outside of the object.

    Returns:
        Rings ``(N, 2)`` float32 in pixels from the corner of the image, so that one pixel is a square of side 1.
    """
    columns, rows = np.nonzero(mask.any(0))[0], np.nonzero(mask.any(1))[0]
    if not len(rows):
        return []
    left, top = int(columns[0]), int(rows[0])
    part = mask[top : rows[-1] + 1, left : columns[-1] + 1]
    # OpenCV's borders run through the outermost cells. On a grid of half pixels, where a pixel is the three by three
    # cells from corner to corner, these are the corners of pixels.
    grid = np.zeros((2 * part.shape[0] + 1, 2 * part.shape[1] + 1), np.uint8)
    grid[1::2, 1::2] = part != 0
    grid = cv2.dilate(grid, np.ones((3, 3), np.uint8))
    borders, _ = cv2.findContours(grid, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    corner = np.array([left, top], np.float32)
    return [border.reshape(-1, 2).astype(np.float32) / 2 + corner for border in borders]


def ring_areas(points: np.ndarray, lengths: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Returns the area inside the rings of each object (shoelace formula), as if no two rings overlapped.

    Args:
        points: ``(P, 2)``.
        lengths: ``(R,)`` points of each ring, none of them 0.
        counts: ``(K,)`` rings of each object.

    Returns:
        ``(K,)`` float64; 0 where there is no ring.
    """
    ring = np.repeat(np.arange(len(lengths)), lengths)
    first = np.cumsum(lengths) - lengths
    following = np.arange(1, len(points) + 1)
    following[first + lengths - 1] = first
    # Around the first point of the ring: far from the corner of the image, float products lose the small differences.
    local = points.astype(np.float64) - points[first[ring]]
    cross = local[:, 0] * local[following, 1] - local[following, 0] * local[:, 1]
    areas = np.abs(np.bincount(ring, cross, len(lengths))) / 2
    return np.bincount(np.repeat(np.arange(len(counts)), counts), areas, len(counts))


def pick_outlines(points: np.ndarray, lengths: np.ndarray, counts: np.ndarray, order: np.ndarray) -> Polygons:
    """Returns the outlines of some objects.

    Args:
        points: ``(P, 2)``.
        lengths: ``(R,)`` points of each ring.
        counts: ``(K,)`` rings of each object.
        order: Positions of the objects that are wanted.
    """
    rings = _spans((np.cumsum(counts) - counts)[order], counts[order])
    picked = _spans((np.cumsum(lengths) - lengths)[rings], lengths[rings])
    return Polygons(points[picked], _bounds(lengths[rings]), _bounds(counts[order]))


def _spans(first: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Returns the numbers ``first[k]`` to ``first[k] + counts[k] - 1`` of all k, one after the other."""
    return np.repeat(first - (np.cumsum(counts) - counts), counts) + np.arange(counts.sum())


def _bounds(counts: np.ndarray) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
