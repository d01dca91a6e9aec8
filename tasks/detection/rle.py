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


def decode(runs: Mapping[str, Any]) -> np.ndarray:
    """Returns the mask ``(H, W)`` bool of what :func:`encode` made."""
    counts = runs["counts"]
    stored = {"size": list(runs["size"]), "counts": counts.encode() if isinstance(counts, str) else counts}
    return coco.decode(stored).astype(bool)


def area(runs: Mapping[str, Any]) -> float:
    """Returns the pixels of what :func:`encode` made."""
    return float(decode(runs).sum())


def moved(runs: Mapping[str, Any], x: int, y: int, size: tuple[int, int]) -> dict[str, Any]:
    """Returns a mask of a part of an image as one of the image.

    Args:
        runs: The mask.
        x: Left of the part, pixels.
        y: Top of the part, pixels.
        size: Height and width of the image.
    """
    part = decode(runs)
    whole = np.zeros(size, np.uint8)
    whole[y : y + part.shape[0], x : x + part.shape[1]] = part
    return encode(whole)
