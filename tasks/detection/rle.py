"""Masks of objects as COCO's compressed run lengths."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from faster_coco_eval.core import mask as coco


def encode(mask: np.ndarray) -> dict[str, Any]:
    """Returns a mask ``(H, W)`` of bool or of 0 and 1 as ``{"size": [H, W], "counts": str}``."""
    runs = coco.encode(np.asfortranarray(mask, np.uint8))
    counts = runs["counts"]
    return {
        "size": [int(side) for side in runs["size"]],
        "counts": counts.decode() if isinstance(counts, bytes) else counts,
    }


def encode_resized(values: np.ndarray, height: int, x: int, y: int, size: tuple[int, int]) -> dict[str, Any]:
    """Returns what :func:`encode` makes of where values are above 0 after bilinear resizing of their columns.

    Neither the resized values nor the mask are made: between two values the resized ones lie on a line, so that it is
    known where they pass 0.

    Args:
        values: ``(h, w)``, in columns that are as wide as pixels of the mask.
        height: Of the resized values, pixels of the mask.
        x: Left of the values in the mask, which is empty around them, pixels.
        y: Top of the values in the mask, pixels.
        size: Height and width of the mask.
    """
    side, width = values.shape
    # Runs go down the columns; an empty row below the last one ends those of each column.
    positive = np.zeros((width, side + 1), bool)
    positive[:, :side] = values.T > 0
    column, row = np.divmod(np.flatnonzero(np.diff(positive.ravel(), prepend=False)), side + 1)
    before = values[np.maximum(row - 1, 0), column].astype(np.float64)
    after = values[np.minimum(row, side - 1), column].astype(np.float64)
    inner = (row > 0) & (row < side)
    steps = np.divide(before, before - after, out=np.zeros_like(before), where=inner)
    passed = (row - 0.5 + steps) * (height / side) - 0.5
    # Runs begin above 0, so behind the place where values are 0, and end there.
    passed[::2], passed[1::2] = np.floor(passed[::2]) + 1, np.ceil(passed[1::2])
    down = np.where(inner, passed.clip(0, height), np.where(row > 0, height, 0)).astype(np.int64)
    # A place that is passed twice is none: runs without pixels, and those that go on in the next column.
    changes, times = np.unique((x + column) * size[0] + y + down, return_counts=True)
    pixels = size[0] * size[1]
    runs = np.diff([0, *changes[times % 2 == 1], pixels])
    counts = runs[:-1] if len(runs) > 1 and runs[-1] == 0 else runs
    stored = coco.frPyObjects({"size": list(size), "counts": counts.tolist()}, *size)
    return {"size": list(size), "counts": stored["counts"].decode()}


def decode(runs: Mapping[str, Any]) -> np.ndarray:
    """Returns the mask ``(H, W)`` bool of what :func:`encode` made."""
    counts = runs["counts"]
    stored = {"size": list(runs["size"]), "counts": counts.encode() if isinstance(counts, str) else counts}
    return coco.decode(stored).astype(bool)


def area(runs: Mapping[str, Any]) -> float:
    """Returns the pixels of what :func:`encode` made."""
    return float(decode(runs).sum())
