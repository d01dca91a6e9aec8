"""How often each axis of a patch is halved, and where kernels span it (nnU-Net, Isensee et al. 2021)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

MIN_SIZE = 4
"""Voxels that the coarsest feature map keeps along an axis."""
AXES = "zyx"
"""Names of the axes of a file, in order."""


def times(values: Sequence[float]) -> str:
    """Returns ``3.6 x 0.625 x 0.625``."""
    return " x ".join(f"{value:.6g}" for value in values)


@dataclass(frozen=True)
class Topology:
    """Depth and shape of a U-Net.

    Attributes:
        strides: Of each stage; the first is all 1.
        kernels: Of each stage; 1 along an axis much coarser than the finest, else 3.
        patch_size: The patch, padded to multiples of ``divisor``.
        divisor: Product of the strides along each axis.
    """

    strides: tuple[tuple[int, ...], ...]
    kernels: tuple[tuple[int, ...], ...]
    patch_size: tuple[int, ...]
    divisor: tuple[int, ...]


def pool_and_kernels(
    spacing: Sequence[float], patch_size: Sequence[float], min_size: int = MIN_SIZE
) -> Topology:
    """Halves the axes of fine spacing first, until all are about equal, then all, until they are small.

    Args:
        spacing: mm, of each axis of the patch.
        patch_size: Voxels; a median may end in .5, which is not rounded.
        min_size: Fewest voxels of a feature map along an axis.
    """
    axes = range(len(spacing))
    spacing, size = list(spacing), list(patch_size)
    pools, kernel = [0 for _ in axes], [1 for _ in axes]
    strides, kernels = [tuple(1 for _ in axes)], []
    while True:
        halved = [axis for axis in axes if size[axis] >= 2 * min_size]
        if not halved:
            break
        finest = min(spacing[axis] for axis in halved)
        halved = [axis for axis in halved if spacing[axis] / finest < 2]
        # A last axis alone is only worth another stage if more than the smallest map comes out.
        if len(halved) == 1 and size[halved[0]] < 3 * min_size:
            break
        finest = min(spacing)
        # A kernel that spans an axis goes on to, however the spacings change.
        kernel = [3 if kernel[axis] == 3 or spacing[axis] / finest < 2 else 1 for axis in axes]
        kernels.append(tuple(kernel))
        strides.append(tuple(2 if axis in halved else 1 for axis in axes))
        for axis in halved:
            pools[axis] += 1
            spacing[axis] *= 2
            size[axis] = math.ceil(size[axis] / 2)
    kernels.append(tuple(3 for _ in axes))
    divisor = tuple(2**count for count in pools)
    padded = tuple(math.ceil(voxels / step) * step for voxels, step in zip(patch_size, divisor, strict=True))
    return Topology(tuple(strides), tuple(kernels), padded, divisor)


def explain(topology: Topology, names: Sequence[str]) -> list[str]:
    """Says which stages do not pool all axes, which kernels do not span all, and why there are no more stages."""
    lines, size = [], topology.patch_size
    for stage, stride in enumerate(topology.strides[1:], 1):
        if 1 in stride:
            kept = [
                f"{name} {'is at least twice as coarse' if edge >= 2 * MIN_SIZE else f'has {edge} voxels'}"
                for name, step, edge in zip(names, stride, size, strict=True)
                if step == 1
            ]
            pooled = " and ".join(name for name, step in zip(names, stride, strict=True) if step > 1)
            lines.append(f"stage {stage} pools {pooled} alone: {', '.join(kept)}")
        size = tuple(edge // step for edge, step in zip(size, stride, strict=True))
    for stage, kernel in enumerate(topology.kernels):
        if 1 in kernel:
            flat = " and ".join(name for name, edge in zip(names, kernel, strict=True) if edge == 1)
            lines.append(
                f"stage {stage} has kernels {times(kernel)}: {flat} at least twice as coarse as the finest"
            )
    lines.append(
        f"stages {len(topology.strides)}: the last feature map, {times(size)}, is too small to halve"
    )
    return lines
