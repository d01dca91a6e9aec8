"""Residual attention: features weighted by one plus a mask that sees them at several resolutions."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from core import nd
from core.errors import ConfigError
from core.residual.residual import Residual


def pre_activated(dims: int, in_channels: int, out_channels: int, kernel: int, norm: str) -> nn.Sequential:
    """Returns normalisation, ReLU and convolution, which keeps the resolution of ``(B, C, *spatial)``."""
    convolution = nd.conv(dims)(in_channels, out_channels, kernel, padding=kernel // 2, bias=norm == "none")
    return nn.Sequential(nd.norm(norm, dims, in_channels), nn.ReLU(), convolution)


def unit(channels: int, dims: int, norm: str) -> Residual:
    """Returns a pre-activation bottleneck, the residual unit of the paper, which keeps the shape."""
    width = max(channels // 4, 1)
    branch = nn.Sequential(
        pre_activated(dims, channels, width, 1, norm),
        pre_activated(dims, width, width, 3, norm),
        pre_activated(dims, width, channels, 1, norm),
    )
    return Residual(branch, channels=channels, dims=dims)


class ResidualAttention(nn.Module):
    """``y = (1 + M(x)) x`` with a mask M in (0, 1): attention can raise a feature but not erase it.

    The mask goes down by max pooling and up by linear interpolation, with one residual unit at each step of
    either way and a sum where the two ways meet at one resolution; two 1x1 convolutions and a sigmoid end it.

    "Residual Attention Network for Image Classification", Wang et al., arXiv:1704.06904, section 3 and equation
    3. There x is the output of a trunk of residual units; as a slot, x is the output of the block's branch.

    Args:
        channels: C.
        dims: Spatial axes, 1 to 3.
        depth: How many times the mask halves the resolution; the paper takes 3, 2 and 1 at 56, 28 and 14 pixels.
        norm: Normalisation inside the mask. ``instance`` needs more than one position at the coarsest step.

    Raises:
        ConfigError: An option is out of range.
    """

    def __init__(self, channels: int, dims: int, *, depth: int = 1, norm: str = "batch") -> None:
        super().__init__()
        if depth < 1:
            raise ConfigError(f"attention 'residual': depth must be 1 or more, not {depth}")
        self.pool = nd.pool("max", dims)(kernel_size=3, stride=2, padding=1)
        self.down = nn.ModuleList(unit(channels, dims, norm) for _ in range(depth))
        self.up = nn.ModuleList(unit(channels, dims, norm) for _ in range(depth))
        self.head = nn.Sequential(
            pre_activated(dims, channels, channels, 1, norm),
            nd.norm(norm, dims, channels),
            nn.ReLU(),
            nd.pointwise(dims, channels, channels, bias=True),
        )
        self.mode = nd.interpolation(dims)

    def mask(self, x: Tensor) -> Tensor:
        """Returns M in (0, 1), shape ``(B, C, *spatial)``."""
        scales = [x]
        for down in self.down:
            scales.append(down(self.pool(scales[-1])))
        y = scales.pop()
        for up in self.up:
            finer = scales.pop()
            y = F.interpolate(up(y), size=finer.shape[2:], mode=self.mode, align_corners=False)
            if scales:  # at full resolution x itself would drown the mask
                y = y + finer
        return self.head(y).sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        """Scales every value of ``(B, C, *spatial)`` by a number in (1, 2)."""
        return (1 + self.mask(x)) * x
