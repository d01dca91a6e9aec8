"""From images to the network's input and back: the one place where colours and sizes meet the network.

Imports no torch, so that exported programs are fed by the same code.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, Protocol

import cv2
import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

PADDING = 114
"""Value of the pixels that are no image."""


class Colours(Protocol):
    """What :func:`normalise` reads of a network.

    Attributes:
        pixels: Order of the colours that the network reads.
        mean: Mean of each colour in that order, of 255.
        std: Deviation of each colour in that order, of 255.
    """

    pixels: Literal["bgr", "rgb"]
    mean: Sequence[float]
    std: Sequence[float]


def fitting_scale(width: int, height: int, size: int) -> float:
    """Returns the factor that fits an image into a square of ``size`` pixels, its proportions kept."""
    return min(size / height, size / width)


def scaled_size(width: int, height: int, scale: float) -> tuple[int, int]:
    """Returns width and height times ``scale``, rounded half up, at least 1."""
    return max(1, int(width * scale + 0.5)), max(1, int(height * scale + 0.5))


def fit(image: np.ndarray, size: int) -> tuple[np.ndarray, float]:
    """Resizes an image into a square and pads it on the right and below.

    Args:
        image: ``(H, W, 3)`` uint8.
        size: Side of the square, pixels.

    Returns:
        ``(size, size, 3)`` uint8, and the factor on positions.
    """
    height, width = image.shape[:2]
    scale = fitting_scale(width, height, size)
    new_width, new_height = scaled_size(width, height, scale)
    padded = np.full((size, size, 3), PADDING, np.uint8)
    # Bilinear without smoothing when shrinking too, as the published weights were trained and scored.
    resized = cv2.resize(image, (new_width, new_height), interpolation=cv2.INTER_LINEAR)
    padded[:new_height, :new_width] = resized
    return padded, scale


def unfit(boxes: np.ndarray, scale: float, size: tuple[int, int]) -> np.ndarray:
    """Returns boxes found in a fitted image in pixels of the image itself, cut to it.

    Args:
        boxes: ``(N, 4)``, pixels of what :func:`fit` returned.
        scale: Its factor.
        size: Height and width of the image, pixels.

    Returns:
        ``(N, 4)`` float32; boxes in the padding have no area.
    """
    height, width = size
    new_width, new_height = scaled_size(width, height, scale)
    # Sides were rounded to whole pixels, so that the true factors differ a little from the scale.
    factors = np.array([width / new_width, height / new_height] * 2)
    return np.clip(boxes * factors, 0, [width, height] * 2).astype(np.float32)


def normalise(images: Tensor, network: Colours) -> Tensor:
    """Returns what the network reads.

    Args:
        images: ``(B, 3, H, W)`` RGB of 0 to 255, of any type.
        network: Tells the order of its colours, their means and deviations.

    Returns:
        ``(B, 3, H, W)`` float32.
    """
    images = images.float()
    if network.pixels == "bgr":
        images = images.flip(1)
    mean = images.new_tensor(network.mean).view(3, 1, 1)
    std = images.new_tensor(network.std).view(3, 1, 1)
    return (images - mean) / std
