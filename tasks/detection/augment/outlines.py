"""Outlines of objects: cut to a rectangle, and as masks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

STRIDE, FIRST = 4, 2
"""Masks are compared at every fourth pixel from the third on (RTMDet-Ins)."""


def clip_ring(ring: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Cuts an outline to a rectangle (Sutherland and Hodgman, 1974).

    Parts that the cut separates stay joined by lines along the border, which enclose nothing.

    Args:
        ring: ``(N, 2)``, closed by its first point.
        low: ``(2,)``, left and top of the rectangle.
        high: ``(2,)``, right and bottom.

    Returns:
        ``(M, 2)`` float32; ``M`` is 0 where nothing is left.
    """
    for axis in (0, 1):
        for limit, sign in ((low[axis], 1), (high[axis], -1)):
            depth = sign * (ring[:, axis] - limit)
            if (depth < 0).any():
                ring = _clip_half_plane(ring, depth)
    # Crossings are on the border but for rounding.
    return np.clip(ring, low, high).astype(np.float32)


def _clip_half_plane(ring: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """Keeps where ``depth (N,)``, the distance from the border, is not negative."""
    following, inside = np.roll(ring, -1, axis=0), depth >= 0
    next_depth, next_inside = np.roll(depth, -1), np.roll(inside, -1)
    crosses = inside != next_inside
    share = np.divide(depth, depth - next_depth, out=np.zeros(len(ring)), where=crosses)
    crossing = ring + share[:, None] * (following - ring)
    # Of each side its crossing, if any, then its end, if it is inside.
    points, kept = np.stack([crossing, following], axis=1), np.stack([crosses, next_inside], axis=1)
    return points[kept]


def sampled_masks(outlines: Sequence[Sequence[np.ndarray]], side: int) -> np.ndarray:
    """Returns the masks of objects at the pixels ``[2::4, 2::4]`` of a picture.

    Args:
        outlines: Rings ``(N, 2)`` of each of K objects, whose union it is, pixels.
        side: Of the picture, pixels.

    Returns:
        ``(K, side / 4, side / 4)`` uint8: 1 where the pixel's centre is inside.
    """
    centres = np.arange(FIRST, side, STRIDE) + 0.5
    masks = np.zeros((len(outlines), len(centres), len(centres)), np.uint8)
    for mask, rings in zip(masks, outlines, strict=True):
        for ring in rings:
            mask |= inside_ring(ring, centres, centres)
    return masks


def inside_ring(ring: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Tells which points of a grid lie inside an outline, by the number of sides to their left.

    Args:
        ring: ``(N, 2)``, closed by its first point.
        x: ``(W,)``, ascending.
        y: ``(H,)``.

    Returns:
        ``(H, W)`` uint8, 0 or 1.
    """
    following = np.roll(ring, -1, axis=0)
    above, next_above = ring[:, 1] <= y[:, None], following[:, 1] <= y[:, None]
    rows, sides = np.nonzero(above != next_above)
    start, way = ring[sides], following[sides] - ring[sides]
    crossing = start[:, 0] + (y[rows] - start[:, 1]) * way[:, 0] / way[:, 1]
    changes = np.zeros((len(y), len(x) + 1), np.uint8)
    np.bitwise_xor.at(changes, (rows, np.searchsorted(x, crossing, side="right")), 1)
    return np.bitwise_xor.accumulate(changes[:, :-1], axis=1)
