"""A network over a whole image: overlapping windows by nnU-Net's rule, weighted by a Gaussian, mirrored."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import combinations, pairwise, product

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor, nn
from torch.nn import functional as F

Progress = Callable[[int, int], None]
"""Called with the number of windows that are done and their total."""


def window_starts(size: int, patch: int, step: float) -> list[int]:
    """Returns the first voxel of each window along an axis: as few as the step allows, evenly spread.

    nnU-Net (Isensee et al., Nature Methods 2021). MONAI's inferer takes equal steps and pushes the last window back.

    Args:
        size: Voxels along the axis, at least ``patch``.
        patch: Voxels of a window.
        step: Largest step as a share of the patch.
    """
    count = math.ceil((size - patch) / (patch * step)) + 1
    spread = (size - patch) / max(count - 1, 1)
    return [round(i * spread) for i in range(count)]


@lru_cache(maxsize=4)
def gaussian(patch: tuple[int, ...]) -> Tensor:
    """Returns the weight of each voxel of a window, ``patch``, at most 1 and nowhere 0; not to be written to.

    The middle of a window knows more of what surrounds it than its borders. The deviation is an eighth of the patch.
    """
    weight = np.zeros(patch)
    weight[tuple(size // 2 for size in patch)] = 1
    weight = ndimage.gaussian_filter(weight, [size / 8 for size in patch], mode="constant")
    weight = (weight / weight.max()).astype(np.float32)
    weight[weight == 0] = weight[weight > 0].min()
    return torch.from_numpy(weight)


@torch.inference_mode()
def sliding_window(
    network: nn.Module | Callable[[Tensor], Tensor],
    image: Tensor,
    patch: Sequence[int],
    *,
    step: float,
    mirror_axes: Sequence[int],
    batch: int,
    outputs: int,
    device: torch.device,
    progress: Progress | None = None,
) -> Tensor:
    """Applies a network of patches to a whole image.

    Args:
        network: Maps ``(B, C, *patch)`` to logits ``(B, outputs, *patch)``.
        image: ``(C, *spatial)`` on the CPU. If it has more axes than the patch, slices along the first are done.
        patch: Voxels of a window. A smaller image is padded by zeros, evenly on both sides.
        step: Largest step of the windows as a share of the patch.
        mirror_axes: Axes of the patch; the mean over all combinations of them being mirrored is taken.
        batch: Windows that are computed together, at most.
        outputs: Channels of the result.
        device: Where the network is.
        progress: Told how far it is.

    Returns:
        Logits ``(outputs, *spatial)``, float32 on the CPU.
    """
    patch = tuple(patch)
    dims = len(patch)
    size = image.shape[-dims:]
    missing = [max(want - have, 0) for want, have in zip(patch, size, strict=True)]
    before = [each // 2 for each in missing]
    # torch wants the last axis first.
    margins = [
        n for each, first in zip(missing[::-1], before[::-1], strict=True) for n in (first, each - first)
    ]
    padded = F.pad(image, margins) if any(missing) else image

    lead = padded.shape[1:-dims]
    starts = [window_starts(n, p, step) for n, p in zip(padded.shape[-dims:], patch, strict=True)]
    corners = list(product(*map(range, lead), *starts))
    weight = gaussian(patch)
    weights = torch.zeros(padded.shape[-dims:])
    for corner in product(*starts):
        weights[_window(corner, patch)] += weight
    total = torch.zeros(outputs, *padded.shape[1:])
    # Even batches: one window alone is slow on a CPU.
    count = math.ceil(len(corners) / batch)
    for first, last in pairwise(len(corners) * i // count for i in range(count + 1)):
        places = [(slice(None), *_window(corner, patch)) for corner in corners[first:last]]
        logits = _mirrored(network, torch.stack([padded[place] for place in places]).to(device), mirror_axes)
        for place, part in zip(places, logits.float().cpu(), strict=True):
            total[place].addcmul_(part, weight)
        if progress:
            progress(last, len(corners))
    total /= weights
    kept = tuple(slice(first, first + n) for first, n in zip(before, size, strict=True))
    return total[(slice(None), *([slice(None)] * len(lead)), *kept)]


def _window(corner: Sequence[int], patch: tuple[int, ...]) -> tuple[int | slice, ...]:
    """Index of the window with its first voxel at ``corner``, in the slice that earlier entries name."""
    lead = len(corner) - len(patch)
    return *corner[:lead], *(slice(first, first + n) for first, n in zip(corner[lead:], patch, strict=True))


def _mirrored(network: Callable[[Tensor], Tensor], x: Tensor, axes: Sequence[int]) -> Tensor:
    """Returns the mean of what a network makes of ``(B, C, *patch)`` and its mirrored versions, mirrored back."""
    total = network(x)
    flips = [[axis + 2 for axis in some] for n in range(1, len(axes) + 1) for some in combinations(axes, n)]
    for flip in flips:
        total = total + network(x.flip(flip)).flip(flip)
    return total / (len(flips) + 1) if flips else total
