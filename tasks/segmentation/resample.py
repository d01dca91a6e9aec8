"""Between the spacing of a file and that of a plan, as nnU-Net resamples (Isensee et al., Nature Methods 2021)."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from scipy import ndimage, special
from torch import Tensor
from torch.nn import functional as F

from tasks.segmentation.frame import Frame
from tasks.segmentation.labels import Labels

ANISOTROPY = 3.0
"""Ratio of spacings above which the slices of a volume are not interpolated between."""
HALF = 0.5 - 1e-9
"""A tie counts for the class, whichever way it was rounded."""


def new_shape(
    shape: Sequence[int], spacing: Sequence[float], new_spacing: Sequence[float]
) -> tuple[int, ...]:
    """Returns the voxels along each axis that cover the same length at another spacing; at least one."""
    return tuple(
        max(1, round(old / new * size)) for size, old, new in zip(shape, spacing, new_spacing, strict=True)
    )


def separate_axis(spacing: Sequence[float], new_spacing: Sequence[float]) -> int | None:
    """Returns the axis that slices are stacked along, where they are too far apart to interpolate between.

    Decided by the present spacing, and by the new one if the present one is even; a single axis must be the coarsest.
    """
    for each in (spacing, new_spacing):
        if max(each) / min(each) > ANISOTROPY:
            coarsest = [axis for axis, size in enumerate(each) if size == max(each)]
            return coarsest[0] if len(coarsest) == 1 else None
    return None


def resample(
    array: np.ndarray,
    shape: Sequence[int],
    spacing: Sequence[float],
    new_spacing: Sequence[float],
    order: int,
) -> np.ndarray:
    """Resamples the channels of an image one by one.

    Args:
        array: ``(C, Z, Y, X)`` float32.
        shape: New ``(Z, Y, X)``.
        spacing: Present spacing, mm.
        new_spacing: Spacing after it, mm.
        order: 3 (cubic splines) for images, 1 (linear) for probabilities.

    Returns:
        ``(C, *shape)`` float32; ``array`` itself if the shape is right.
    """
    if array.shape[1:] == tuple(shape):
        return array
    axis = separate_axis(spacing, new_spacing)
    result = np.empty((len(array), *shape), np.float32)
    for channel, out in zip(array, result, strict=True):
        out[:] = _interpolate(channel, shape, axis, order)
    return result


def resample_labels(
    labels: np.ndarray, shape: Sequence[int], spacing: Sequence[float], new_spacing: Sequence[float]
) -> np.ndarray:
    """Resamples a label map ``(Z, Y, X)``, or a mask, to ``shape``.

    Each class is interpolated linearly and holds where it is at least one half; ``IGNORE`` is treated like a class.
    """
    if labels.shape == tuple(shape):
        return labels
    axis = separate_axis(spacing, new_spacing)
    result = np.zeros(shape, labels.dtype)
    for value in np.unique(labels):
        if value:
            # Double precision, since a size that is halved puts half of the borders on ties.
            share = _interpolate((labels == value).astype(np.float64), shape, axis, 1)
            result[share >= HALF] = value
    return result


def nearest(labels: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Resamples ``(Z, Y, X)`` to ``shape`` by the nearest voxel."""
    return labels[np.ix_(*(_nearest(old, new) for old, new in zip(labels.shape, shape, strict=True)))]


def resample_argmax(logits: np.ndarray | Tensor, frame: Frame, labels: Labels) -> np.ndarray:
    """Turns logits of a preprocessed case into a label map of its file.

    Channel by channel with a running maximum, so that all channels never stand in memory at the size of the file.

    Args:
        logits: ``(labels.outputs, *frame.new_shape)``, on the CPU.
        frame: Where they lie.
        labels: What they mean: the largest class wins; with regions each over one half, later ones over earlier.

    Returns:
        ``(Z, Y, X)`` int16; what was cropped away is background.
    """
    result = np.zeros(frame.shape, np.int16)
    _decide((_back(channel, frame) for channel in logits), labels, 0.0, frame.to_crop(result))
    return result


def resample_probabilities(logits: np.ndarray | Tensor, frame: Frame, labels: Labels) -> np.ndarray:
    """Turns logits of a preprocessed case into the probabilities of all outputs at the size of its file.

    Args:
        logits: ``(labels.outputs, *frame.new_shape)``, on the CPU.
        frame: Where they lie.
        labels: What they mean: softmax over classes, a sigmoid for each region.

    Returns:
        ``(labels.outputs, Z, Y, X)`` float32; what was cropped away is background.
    """
    result = np.zeros((len(logits), *frame.shape), np.float32)
    if not labels.regions:
        result[0] = 1
    inside = frame.to_crop(result)
    for channel, out in zip(logits, inside, strict=True):
        out[:] = _back(channel, frame)
    if labels.regions:
        special.expit(inside, out=inside)
    else:
        inside -= inside.max(axis=0)
        np.exp(inside, out=inside)
        inside /= inside.sum(axis=0)
    return result


def classify(probabilities: np.ndarray, labels: Labels) -> np.ndarray:
    """Turns probabilities ``(labels.outputs, Z, Y, X)`` into a label map ``(Z, Y, X)`` int16."""
    result = np.zeros(probabilities.shape[1:], np.int16)
    _decide(probabilities, labels, 0.5, result)
    return result


def _decide(channels: Iterable[np.ndarray], labels: Labels, threshold: float, out: np.ndarray) -> None:
    """Writes the class of each voxel over the zeros of ``out``, one channel at a time."""
    if labels.regions:
        for value, channel in zip(labels.order, channels, strict=True):
            out[channel > threshold] = value
        return
    rest = iter(channels)
    best = next(rest).copy()
    for index in itertools.count(1):
        # Not by `for`, whose variable keeps the last channel in memory while the next is made.
        following = next(rest, None)
        if following is None:
            return
        out[following > best] = index
        np.maximum(best, following, out=best)
        del following


def _back(channel: np.ndarray | Tensor, frame: Frame) -> np.ndarray:
    """One channel at the spacing of the file."""
    array = np.asarray(channel, np.float32)
    if array.shape == frame.cropped:
        return array
    return _interpolate(array, frame.cropped, separate_axis(frame.new_spacing, frame.spacing), 1)


def _interpolate(volume: np.ndarray, shape: Sequence[int], axis: int | None, order: int) -> np.ndarray:
    """Resizes ``(Z, Y, X)``; with an axis only within the slices along it, which are then repeated or left out."""
    if axis is None:
        return _resize(volume, shape, order)
    source = _nearest(volume.shape[axis], shape[axis])
    flat = [size for i, size in enumerate(shape) if i != axis]
    used, place = np.unique(source, return_inverse=True)
    slices = np.moveaxis(volume, axis, 0)
    planes = np.stack([_resize(slices[i], flat, order) for i in used])
    return np.moveaxis(planes[place], 0, axis)


def _nearest(size: int, new_size: int) -> np.ndarray:
    """For each of ``new_size`` voxels, the one of ``size`` that its centre lies in."""
    centres = size / new_size * (np.arange(new_size) + 0.5) - 0.5
    return ndimage.map_coordinates(np.arange(size), centres[None], order=0, mode="nearest")


def _resize(array: np.ndarray, shape: Sequence[int], order: int) -> np.ndarray:
    """Interpolates ``(Y, X)`` or ``(Z, Y, X)``; the borders are repeated outside."""
    if array.shape == tuple(shape):
        return array
    if order == 1:
        # The same as scikit-image, several times faster.
        mode = "trilinear" if array.ndim == 3 else "bilinear"
        tensor = torch.from_numpy(np.ascontiguousarray(array))[None, None]
        return F.interpolate(tensor, tuple(shape), mode=mode, align_corners=False)[0, 0].numpy()
    from skimage.transform import resize

    return resize(array, shape, order=order, mode="edge", anti_aliasing=False)
