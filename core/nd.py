"""Everything that depends on the number of spatial axes: signals (1), images (2) and volumes (3).

Nothing else in the repository names a layer by its dimension.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import ClassVar

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

ACTS: Registry[Callable[[bool], nn.Module]] = Registry("activation")


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


def batch_norm(dims: int) -> type[nn.BatchNorm1d] | type[nn.BatchNorm2d] | type[nn.BatchNorm3d]:
    """Returns the batch normalisation class, for norms that :func:`norm` does not make."""
    return _BATCH_NORM[check_dims(dims) - 1]


def pointwise(dims: int, in_channels: int, out_channels: int, bias: bool = False) -> nn.Linear | Conv:
    """Returns a linear map of channels: a 1x1 convolution, or a linear layer if ``dims`` is 0."""
    if dims == 0:
        return nn.Linear(in_channels, out_channels, bias=bias)
    return conv(dims)(in_channels, out_channels, kernel_size=1, bias=bias)


def pool(name: str, dims: int) -> type[nn.Module]:
    """Returns a pooling class: ``max``, ``avg``, ``adaptive_max`` or ``adaptive_avg``."""
    return POOLS[name][check_dims(dims) - 1]


def norm(name: str, dims: int, channels: int, eps: float | None = None) -> nn.Module:
    """Returns a normalisation of ``(B, C, *spatial)`` with learned scale and shift.

    Args:
        name: ``batch``, ``instance``, ``group`` (32 groups, or the largest divisor of 32 that divides C),
            ``layer`` (over the channels of each position), ``bias`` (one learned number that is added, in
            place of a norm) or ``none``.
        dims: Spatial axes, 1 to 3.
        channels: C.
        eps: Added to the variance before its root; ``None`` is PyTorch's 1e-5.

    Raises:
        ConfigError: The name is unknown, or ``dims`` or ``eps`` is out of range.
    """
    return with_eps(NORMS[name](check_dims(dims), channels), eps)


def with_eps(layers: nn.Module, eps: float | None) -> nn.Module:
    """Returns ``layers`` after it has set the epsilon of every norm in them; ``None`` leaves them as they are.

    Raises:
        ConfigError: ``eps`` is out of range.
    """
    if eps is not None:
        if not isinstance(eps, (int, float)) or not eps > 0:
            raise ConfigError(f"eps of a normalisation must be above 0, not {eps!r}")
        for layer in layers.modules():
            if hasattr(layer, "eps"):
                layer.eps = eps  # type: ignore[assignment]  # a number in every norm of PyTorch
    return layers


def act(name: str, inplace: bool = False) -> nn.Module:
    """Returns an activation, the same for every number of axes.

    Args:
        name: One of ``relu, relu6, leaky_relu, gelu, silu, elu, hardswish, mish, prelu, none``.
        inplace: Overwrite the input where that saves memory. Only for inputs that nothing else reads.

    Raises:
        ConfigError: The name is unknown.
    """
    return ACTS[name](inplace)


def spatial_mean(x: Tensor, keepdim: bool = False) -> Tensor:
    """Averages ``(B, C, *spatial)`` over space, to ``(B, C)`` or, if asked, ``(B, C, 1, ...)``."""
    # Without spatial axes the tuple would be empty, which means all axes.
    return x.mean(tuple(range(2, x.ndim)), keepdim=keepdim) if x.ndim > 2 else x


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


class SpatialMean(nn.Module):
    """:func:`spatial_mean` as a layer, so that a hook can put another statistic in its place.

    Channel attention and rules that look at the whole image take their mean by it; :mod:`core.infer.statistics`
    replaces it where an image is restored in tiles.

    Args:
        keepdim: Return ``(B, C, 1, ...)`` instead of ``(B, C)``.
    """

    def __init__(self, keepdim: bool = False) -> None:
        super().__init__()
        self.keepdim = keepdim

    def forward(self, x: Tensor) -> Tensor:
        """Averages ``(B, C, *spatial)`` over space."""
        return spatial_mean(x, self.keepdim)


class ScalarBias(nn.Module):
    """Adds one learned number, 0 at the start: what is left of a norm in Fixup (arXiv:1901.09321, section 3)."""

    lr_scale: ClassVar[float] = 0.1
    """Its learning rate as a fraction of the network's, as in the authors' code (:mod:`core.train.optim`)."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        """Returns ``x + bias``, ``(B, C, *spatial)``."""
        return x + self.bias


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


@NORMS.register("bias")
def _bias(dims: int, channels: int) -> nn.Module:
    return ScalarBias()


@NORMS.register("none")
def _none(dims: int, channels: int) -> nn.Module:
    return nn.Identity()


# The others gain nothing in place: their gradient needs the input.
ACTS.register("relu")(nn.ReLU)
ACTS.register("relu6")(nn.ReLU6)
ACTS.register("leaky_relu")(partial(nn.LeakyReLU, 0.01))


def _out_of_place(layer: type[nn.Module]) -> Callable[[bool], nn.Module]:
    def build(inplace: bool) -> nn.Module:
        return layer()

    return build


ACTS.register("gelu")(_out_of_place(nn.GELU))
ACTS.register("silu")(_out_of_place(nn.SiLU))
ACTS.register("elu")(_out_of_place(nn.ELU))
ACTS.register("hardswish")(_out_of_place(nn.Hardswish))
ACTS.register("mish")(_out_of_place(nn.Mish))
ACTS.register("prelu")(_out_of_place(nn.PReLU))
ACTS.register("none")(_out_of_place(nn.Identity))
