"""Changes of the values of a patch, each on one channel ``(*spatial)`` with its parameters given.

MONAI's transforms are called with fixed parameters, since their own generators know nothing of ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from monai.networks.layers.convutils import gaussian_1d
from monai.networks.layers.simplelayers import separable_filtering
from monai.transforms import AdjustContrast, RandSimulateLowResolution, ScaleIntensityFixedMean
from torch import Tensor


def blur(channel: Tensor, sigmas: Sequence[float]) -> Tensor:
    """Returns the channel after a Gaussian filter of one width for each axis, voxels."""
    kernels = [gaussian_1d(torch.tensor(sigma), truncated=4.0) for sigma in sigmas]
    # MONAI's GaussianSmooth pads with 0, which draws a dark frame on images that are not centred on 0.
    return separable_filtering(channel[None, None], kernels, mode="replicate")[0, 0]


def contrast(channel: Tensor, factor: float) -> Tensor:
    """Returns the channel with its distances to the mean multiplied, inside the range that it had."""
    return _plain(ScaleIntensityFixedMean(factor - 1, preserve_range=True)(channel[None]))[0]


def low_resolution(channel: Tensor, scale: float, slices: bool = False) -> Tensor:
    """Returns the channel after it was made smaller and large again.

    Args:
        channel: ``(*spatial)``.
        scale: Share of the voxels of an axis that is left.
        slices: Leave the first of three axes alone.
    """
    image = channel if slices else channel[None]
    change = RandSimulateLowResolution(
        1.0, "nearest-exact", "trilinear" if image.ndim == 4 else "bilinear", (scale, scale)
    )
    return _plain(change(image)).reshape(channel.shape)


def gamma(channel: Tensor, power: float, inverted: bool) -> Tensor:
    """Returns the channel with a power of its values, mean and standard deviation kept."""
    return _plain(AdjustContrast(power, inverted, retain_stats=True)(channel))


def _plain(image: Any) -> Tensor:
    """Returns a tensor without the metadata that MONAI's transforms add."""
    return image.as_subclass(Tensor)
