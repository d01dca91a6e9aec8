"""Random colours."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

HUES = 180


def shift_hsv(image: np.ndarray, largest: Sequence[float], rng: np.random.Generator) -> np.ndarray:
    """Adds a random number to hue, saturation and value, each with probability one half (YOLOX, RTMDet).

    Args:
        image: ``(H, W, 3)`` uint8 RGB.
        largest: Largest shift of hue, of 180, and of saturation and value, of 255.
        rng: Draws.

    Returns:
        The same shape, uint8.
    """
    shifts = np.trunc(rng.uniform(-1, 1, 3) * largest * rng.integers(0, 2, 3)).astype(np.int64)
    if not shifts.any():
        return image
    table = np.clip(np.arange(256)[:, None] + shifts, 0, 255)
    table[:, 0] = (np.arange(256) + shifts[0]) % HUES
    hsv = cv2.LUT(cv2.cvtColor(image, cv2.COLOR_RGB2HSV), table.astype(np.uint8)[None])
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
