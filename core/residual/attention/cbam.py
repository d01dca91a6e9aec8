"""Convolutional block attention: a gate a channel, then a gate a position."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core import nd
from core.errors import ConfigError
from core.residual.attention.width import reduced


class ChannelGate(nn.Module):
    """Scales channels by what one shared bottleneck says of their mean and of their maximum.

    Args:
        channels: C.
        dims: Spatial axes, 1 to 3.
        ratio: Bottleneck width as a part of C.
    """

    def __init__(self, channels: int, dims: int, ratio: float) -> None:
        super().__init__()
        width = reduced("cbam", channels, ratio, divisor=1)
        self.fc1 = nd.pointwise(dims, channels, width)
        self.fc2 = nd.pointwise(dims, width, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Returns ``(B, C, *spatial)``."""
        space = tuple(range(2, x.ndim))
        pooled = x.mean(space, keepdim=True), x.amax(space, keepdim=True)
        mean, peak = (self.fc2(F.relu(self.fc1(value))) for value in pooled)
        return x * (mean + peak).sigmoid()


class ConvNorm(nn.Module):
    """Convolution and normalisation to one channel.

    Args:
        in_channels: Channels of the input.
        dims: Spatial axes, 1 to 3.
        kernel: Odd kernel size of every axis.
        norm: Normalisation, see :func:`core.nd.norm`.
    """

    def __init__(self, in_channels: int, dims: int, kernel: int, norm: str) -> None:
        super().__init__()
        self.conv = nd.conv(dims)(in_channels, 1, kernel, padding=kernel // 2, bias=norm == "none")
        # Layer norm would compare the only channel with itself and return 0.
        self.bn = nd.norm("group" if norm == "layer" else norm, dims, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Maps ``(B, in_channels, *spatial)`` to ``(B, 1, *spatial)``."""
        return self.bn(self.conv(x))


class SpatialGate(nn.Module):
    """Scales positions by a convolution over the mean and the maximum of their channels.

    Args:
        dims: Spatial axes, 1 to 3.
        kernel: Odd kernel size of every axis.
        norm: Normalisation after the convolution.
    """

    def __init__(self, dims: int, kernel: int, norm: str) -> None:
        super().__init__()
        self.conv = ConvNorm(2, dims, kernel, norm)

    def forward(self, x: Tensor) -> Tensor:
        """Returns ``(B, C, *spatial)``."""
        pooled = torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], dim=1)
        return x * self.conv(pooled).sigmoid()


class ConvBlockAttention(nn.Module):
    """Channel gate, then spatial gate.

    "CBAM: Convolutional Block Attention Module", Woo et al., arXiv:1807.06521, section 3. Layers are named as
    in timm.

    Args:
        channels: C.
        dims: Spatial axes, 1 to 3.
        ratio: Bottleneck width of the channel gate as a part of C, rounded to a whole number, at least 1.
        kernel: Odd kernel size of the spatial gate; it has ``2 kernel**dims`` weights.
        norm: Normalisation in the spatial gate. It has one channel, so that ``layer`` becomes ``group``.

    Raises:
        ConfigError: An option is out of range.
    """

    def __init__(
        self, channels: int, dims: int, *, ratio: float = 1 / 16, kernel: int = 7, norm: str = "batch"
    ) -> None:
        super().__init__()
        if kernel < 1 or kernel % 2 == 0:
            raise ConfigError(f"attention 'cbam': kernel must be an odd number, not {kernel}")
        self.channel = ChannelGate(channels, dims, ratio)
        self.spatial = SpatialGate(dims, kernel, norm)

    def forward(self, x: Tensor) -> Tensor:
        """Scales every value of ``(B, C, *spatial)`` by a number in (0, 1)."""
        return self.spatial(self.channel(x))
