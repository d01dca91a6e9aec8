"""``predict`` of the denoising task: what is said of an image's noise."""

from __future__ import annotations

import itertools

import numpy as np

from core.data.images.degrade import estimate_sigma
from core.data.images.files import Picture, to_float
from core.infer.files import restore_files
from core.infer.restorer import Restorer
from tasks.denoising.config import DenoisingPredictConfig

FAR = 1.5  # factor between two noise levels from which a model of one is said not to fit the other
CROP = 512
"""Side in pixels of the crops that the noise level is estimated on: enough values, and no copy of a large image."""


def predict_files(restorer: Restorer, config: DenoisingPredictConfig) -> list[str]:
    """Denoises a file or a folder; returns one line for each file that could not be used."""

    def describe(picture: Picture) -> str:
        if config.sigma is None:
            sigma, how = noise_level(picture.pixels), "estimated"
        else:
            sigma, how = config.sigma, "given"
        return f", noise level {sigma:.1f} of 255 ({how}){misfit(restorer, sigma)}"

    return restore_files(restorer, config, describe)


def noise_level(pixels: np.ndarray) -> float:
    """Estimates the noise level of an image of any size, see :func:`core.data.images.degrade.estimate_sigma`.

    Args:
        pixels: ``(H, W, C)`` uint8, uint16 or float32.

    Returns:
        Median over at most four crops, in units of 0 to 255. Flat crops, such as a white sky, tell nothing and are
        left out; 0 when all are flat.
    """
    height, width = pixels.shape[:2]
    levels = [
        estimate_sigma(to_float(pixels[top : top + CROP, left : left + CROP]))
        for top, left in itertools.product(_starts(height), _starts(width))
    ]
    return float(np.median([level for level in levels if level > 0] or [0.0]))


def _starts(length: int) -> list[int]:
    """Where crops begin: in the middle of each half, as far as they fit."""
    if length <= CROP:
        return [0]
    return [min(max(length * part // 4 - CROP // 2, 0), length - CROP) for part in (1, 3)]


def misfit(restorer: Restorer, sigma: float) -> str:
    """Returns what a user should know where the model was trained for other noise; nothing where it fits."""
    trained = restorer.metadata.get("degradation", {})
    level = trained.get("sigma")
    if level is None or not {"gaussian", "clipped"} & set(trained.get("kinds", ())):
        return ""
    low, high = level if isinstance(level, list) else (level / FAR, level * FAR)
    if low <= sigma <= high:
        return ""
    what = f"{level[0]:g} to {level[1]:g}" if isinstance(level, list) else f"{level:g}"
    return f"; this model is for {what}"
