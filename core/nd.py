"""Everything that depends on the number of spatial axes: signals (1), images (2) and volumes (3).

Nothing else in the repository names a layer by its dimension.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from core.errors import ConfigError
from core.registry import Registry

Conv = nn.Conv1d | nn.Conv2d | nn.Conv3d
ConvTranspose = nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d

_CONV: tuple[type[Conv], ...] = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_CONV_TRANSPOSE: tuple[type[ConvTranspose], ...] = (
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
)
_BATCH_NORM = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_INSTANCE_NORM = (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)
_INTERPOLATION = ("linear", "bilinear", "trilinear")

POOLS: Registry[tuple[type[nn.Module], ...]] = Registry("pooling")
POOLS.register("max")((nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d))
POOLS.register("avg")((nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d))
POOLS.register("adaptive_max")((nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d))
POOLS.register("adaptive_avg")((nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d))

NORMS: Registry[Callable[[int, int], nn.Module]] = Registry("normalisation")


def check_dims(dims: int) -> int:
    """Returns ``dims``, or raises ``ConfigError`` if it is not 1, 2 or 3."""
    if dims not in (1, 2, 3):
        raise ConfigError(f"dims must be 1 (signals), 2 (images) or 3 (volumes), not {dims!r}")
    return dims


def conv(dims: int) -> type[Conv]:
    """Returns the convolution class."""
    return _CONV[check_dims(dims) - 1]


def conv_transpose(dims: int) -> type[ConvTranspose]:
    """Returns the transposed convolution class."""
    return _CONV_TRANSPOSE[check_dims(dims) - 1]


def pointwise(dims: int, in_channels: int, out_channels: int, bias: bool = False) -> nn.Linear | Conv:
    """Returns a linear map of channels: a 1x1 convolution, or a linear layer if ``dims`` is 0."""
    if dims == 0:
        return nn.Linear(in_channels, out_channels, bias=bias)
    return conv(dims)(in_channels, out_channels, kernel_size=1, bias=bias)


def pool(name: str, dims: int) -> type[nn.Module]:
    """Returns a pooling class: ``max``, ``avg``, ``adaptive_max`` or ``adaptive_avg``."""
    return POOLS[name][check_dims(dims) - 1]


def norm(name: str, dims: int, channels: int) -> nn.Module:
    """Returns a normalisation of ``(B, C, *spatial)`` with learned scale and shift.

    Args:
        name: ``batch``, ``instance``, ``group`` (32 groups, or the largest divisor of 32 that divides C),
            ``layer`` (over the channels of each position) or ``none``.
        dims: Spatial axes, 1 to 3.
        channels: C.

    Raises:
        ConfigError: The name is unknown or ``dims`` is out of range.
    """
    return NORMS[name](check_dims(dims), channels)


def interpolation(dims: int) -> str:
    """Returns the linear ``mode`` of ``torch.nn.functional.interpolate``."""
    return _INTERPOLATION[check_dims(dims) - 1]


def memory_format(ndim: int) -> torch.memory_format:
    """Returns the fastest memory format for tensors of ``ndim`` axes.

    Only tensors of 4 and 5 axes have a channels-last format, so that a module that mixes dimensions is
    converted tensor by tensor.
    """
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    return formats.get(ndim, torch.contiguous_format)


class ChannelNorm(nn.LayerNorm):
    """Layer normalisation over the channels of each position of ``(B, C, *spatial)``."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalises over axis 1."""
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


@NORMS.register("batch")
def _batch(dims: int, channels: int) -> nn.Module:
    return _BATCH_NORM[dims - 1](channels)


@NORMS.register("instance")
def _instance(dims: int, channels: int) -> nn.Module:
    return _INSTANCE_NORM[dims - 1](channels, affine=True)


@NORMS.register("group")
def _group(dims: int, channels: int) -> nn.Module:
    return nn.GroupNorm(math.gcd(32, channels), channels)


@NORMS.register("layer")
def _layer(dims: int, channels: int) -> nn.Module:
    return ChannelNorm(channels)


@NORMS.register("none")
def _none(dims: int, channels: int) -> nn.Module:
    return nn.Identity()
