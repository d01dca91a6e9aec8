"""Resizing bit by bit as MATLAB does it, and the careless choices that cost decibels.

Benchmarks of super-resolution make their low-resolution images with MATLAB's ``imresize``; another bicubic
resizer changes the scores by up to 8 dB.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import cv2
import numpy as np
import torch
from PIL import Image
from torch.nn import functional

from core.data.images.files import from_float, peak, to_float
from core.errors import ConfigError


def _cubic(x: np.ndarray) -> np.ndarray:
    """Keys' kernel with a = -1/2 (Keys, IEEE TASSP 29(6), 1981, equation 15)."""
    x = np.abs(x)
    near = 1.5 * x**3 - 2.5 * x**2 + 1
    far = -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return near * (x <= 1) + far * ((x > 1) & (x <= 2))


def _triangle(x: np.ndarray) -> np.ndarray:
    return np.maximum(1 - np.abs(x), 0)


Kernel = Callable[[np.ndarray], np.ndarray]
KERNELS: dict[str, tuple[Kernel, int]] = {"bicubic": (_cubic, 4), "bilinear": (_triangle, 2)}
"""Name to kernel and its width in pixels."""


def imresize(
    image: np.ndarray, scale: float | tuple[int, int], method: str = "bicubic", antialias: bool = True
) -> np.ndarray:
    """Resizes like MATLAB's ``imresize``, equal in every pixel for whole numbers.

    The axis with the smaller scale goes first, rows on a tie. Whole numbers are rounded half up and clipped
    after each of the two passes, which common ports in Python leave out. Beyond the border the image is
    mirrored, its last pixel included.

    Args:
        image: ``(H, W, C)`` uint8, uint16 or float.
        scale: Factor, giving ``ceil(size * scale)`` pixels; or the output's ``(height, width)``.
        method: ``bicubic`` or ``bilinear``.
        antialias: Widens the kernel by ``1 / scale`` when the image shrinks.

    Returns:
        ``(H', W', C)`` of the same type; float is neither rounded nor clipped.

    Raises:
        ConfigError: The method is unknown, or the scale is not positive.
    """
    if method not in KERNELS:
        raise ConfigError(f"resizing has no method {method!r}; use one of {', '.join(KERNELS)}")
    if isinstance(scale, tuple):
        sizes = scale
        scales = (scale[0] / image.shape[0], scale[1] / image.shape[1])
    else:
        sizes = _sizes(image, scale)
        scales = (scale, scale)
    if min(scales) <= 0:
        raise ConfigError(f"resizing by {scale} leaves nothing; give a positive scale or size")
    order = (0, 1) if scales[0] <= scales[1] else (1, 0)
    for axis in order:
        image = _pass(image, axis, sizes[axis], scales[axis], method, antialias)
    return image


def _sizes(image: np.ndarray, scale: float) -> tuple[int, int]:
    return math.ceil(image.shape[0] * scale), math.ceil(image.shape[1] * scale)


def _pass(image: np.ndarray, axis: int, size: int, scale: float, method: str, antialias: bool) -> np.ndarray:
    weights, indices = _contributions(image.shape[axis], size, scale, method, antialias)
    shape = [1, 1, 1]
    shape[axis] = size
    total = np.zeros((*image.shape[:axis], size, *image.shape[axis + 1 :]))
    for tap in range(weights.shape[1]):
        total += weights[:, tap].reshape(shape) * image.take(indices[:, tap], axis=axis)
    if image.dtype.kind == "f":
        return total.astype(image.dtype)
    return np.floor(np.clip(total, 0, peak(image.dtype)) + 0.5).astype(image.dtype)


def _contributions(
    length: int, size: int, scale: float, method: str, antialias: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Weights and input positions ``(size, taps)`` of each output position along one axis."""
    kernel, width = KERNELS[method]
    stretch = scale if antialias and scale < 1 else 1.0
    support = width / stretch
    # MATLAB counts from 1; the centres of the first pixels coincide at 0.5 / scale.
    centre = np.arange(1, size + 1) / scale + 0.5 * (1 - 1 / scale)
    left = np.floor(centre - support / 2)
    indices = left[:, None] + np.arange(math.ceil(support) + 2)
    weights = stretch * kernel(stretch * (centre[:, None] - indices))
    weights /= weights.sum(axis=1, keepdims=True)
    used = np.any(weights != 0, axis=0)
    mirrored = np.concatenate([np.arange(length), np.arange(length)[::-1]])
    return weights[:, used], mirrored[(indices[:, used].astype(np.intp) - 1) % (2 * length)]


def modcrop(image: np.ndarray, scale: int) -> np.ndarray:
    """Cuts ``(H, W, C)`` at the bottom and the right to multiples of ``scale`` pixels."""
    return image[: image.shape[0] // scale * scale, : image.shape[1] // scale * scale]


def _cv2(image: np.ndarray, scale: float, interpolation: int) -> np.ndarray:
    height, width = _sizes(image, scale)
    # Gray comes back without its axis.
    return cv2.resize(image, (width, height), interpolation=interpolation).reshape(height, width, -1)


def cv2_cubic(image: np.ndarray, scale: float) -> np.ndarray:
    """Resizes ``(H, W, C)`` by OpenCV's ``INTER_CUBIC``: a = -0.75 and no antialiasing."""
    return _cv2(image, scale, cv2.INTER_CUBIC)


def cv2_area(image: np.ndarray, scale: float) -> np.ndarray:
    """Resizes ``(H, W, C)`` by OpenCV's ``INTER_AREA``: the mean of each cell."""
    return _cv2(image, scale, cv2.INTER_AREA)


def pil_bicubic(image: np.ndarray, scale: float) -> np.ndarray:
    """Resizes ``(H, W, C)`` by Pillow's ``BICUBIC``, with antialiasing."""
    height, width = _sizes(image, scale)
    planes = [
        image[..., c] if image.dtype == np.uint8 else to_float(image[..., c]) for c in range(image.shape[2])
    ]
    resized = [
        np.asarray(Image.fromarray(p).resize((width, height), Image.Resampling.BICUBIC)) for p in planes
    ]
    result = np.stack(resized, axis=-1)
    return result if result.dtype == image.dtype else from_float(result, image.dtype)


def torch_antialias(image: np.ndarray, scale: float) -> np.ndarray:
    """Resizes ``(H, W, C)`` by torch's ``interpolate`` with ``antialias=True`` in float32."""
    values = torch.from_numpy(to_float(image)).movedim(-1, 0)[None]
    resized = functional.interpolate(values, size=_sizes(image, scale), mode="bicubic", antialias=True)
    return from_float(resized[0].movedim(0, -1).numpy(), image.dtype)


RESIZERS: dict[str, Callable[[np.ndarray, float], np.ndarray]] = {
    "matlab": imresize,
    "cv2_cubic": cv2_cubic,
    "cv2_area": cv2_area,
    "pil_bicubic": pil_bicubic,
    "torch_antialias": torch_antialias,
}
"""Name to a function ``(image, scale) -> image``, to measure what the choice costs."""
