"""Rotation and scaling of patches, by MONAI's affine layer."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from monai.networks.layers import AffineTransform
from monai.transforms.utils import create_rotate
from torch import Tensor


def affine_matrix(angles: Sequence[float], scale: float) -> np.ndarray:
    """Returns ``(d, d)``: where a voxel of the patch is read, both from the centre on.

    Args:
        angles: One angle in the plane, or one about each of three axes, radians.
        scale: Above 1 a larger region is read, so that things look smaller.
    """
    dims = 2 if len(angles) == 1 else 3
    return scale * np.asarray(create_rotate(dims, angles))[:dims, :dims]


def source_size(matrix: np.ndarray, patch: Sequence[int]) -> tuple[int, ...]:
    """Returns the smallest box with the patch's centre that holds all voxels which a matrix reads.

    A ``(2, 2)`` matrix with a patch of three axes leaves the first axis alone.
    """
    axes = len(matrix)
    half = (np.array(patch[-axes:]) - 1) / 2
    # One voxel more, for the neighbours that are interpolated; an even difference keeps the centre.
    more = [math.ceil(r - h) + 1 for r, h in zip(np.abs(matrix) @ half, half, strict=True)]
    sizes = [max(n + 2 * m, 2 - n % 2) for n, m in zip(patch[-axes:], more, strict=True)]
    return (*patch[:-axes], *sizes)


def warp(image: Tensor, matrix: np.ndarray, patch: Sequence[int], mode: str = "bilinear") -> Tensor:
    """Returns ``(C, *patch)`` of ``(C, *size)``, read through a matrix about the centre; 0 where nothing is.

    A ``(2, 2)`` matrix with a patch of three axes turns each slice alike, as nnU-Net does with thick slices.
    """
    axes = len(matrix)
    theta = torch.eye(axes + 1, dtype=torch.float64)
    theta[:axes, :axes] = torch.from_numpy(matrix)
    # Centre to centre. MONAI's own zero_centered zooms where the two sizes differ.
    source, target = (torch.tensor(size[-axes:]).double() for size in (image.shape, tuple(patch)))
    theta[:axes, axes] = (source - 1) / 2 - theta[:axes, :axes] @ ((target - 1) / 2)
    layer = AffineTransform(tuple(patch[-axes:]), mode=mode, padding_mode="zeros", align_corners=False)
    slices = image.reshape(1, -1, *image.shape[-axes:])
    return layer(slices, theta.to(image)).reshape(len(image), *patch)


def warp_labels(labels: Tensor, matrix: np.ndarray, patch: Sequence[int]) -> Tensor:
    """Returns the label map ``(*patch)`` of ``(*size)``: the value whose indicator, interpolated, is largest.

    This keeps borders smooth where the nearest voxel would make stairs.
    """
    values = labels.unique()
    result = torch.full(tuple(patch), int(values[0]), dtype=labels.dtype)
    if len(values) == 1:
        return result
    best = torch.full(tuple(patch), -1.0)
    # One value after another, so that memory does not grow with the number of classes.
    for value in values:
        weight = warp((labels == value).float()[None], matrix, patch)[0]
        closer = weight > best
        result[closer] = value
        best = torch.maximum(best, weight)
    return result
