"""Coordinate attention: one gate an axis, from strips that keep the position along it."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core import nd
from core.residual.attention.width import reduced


class CoordinateAttention(nn.Module):
    """``y = x prod_a g_a``, where gate ``g_a`` of ``(B, C, n_a)`` varies along axis ``a`` alone.

    Each axis gives a strip, the mean of x over all other axes. The strips, laid end to end, share one
    squeeze; each is then expanded to its gate. In one dimension the only strip is x itself.

    "Coordinate Attention for Efficient Mobile Network Design", Hou et al., arXiv:2103.02907, section 3.2, there
    for images; layers are named as in timm, with ``conv_d`` for the depth of volumes.

    Args:
        channels: C.
        dims: Spatial axes, 1 to 3.
        ratio: 1.5 times the bottleneck width as a part of C, so that slots ``se`` and ``coord`` of one ratio have
            about as many weights, on images.
        norm: Normalisation after the squeeze.

    Raises:
        ConfigError: An option is out of range.
    """

    def __init__(self, channels: int, dims: int, *, ratio: float = 1 / 16, norm: str = "batch") -> None:
        super().__init__()
        width = reduced("coord", channels, ratio * (2 / 3))
        self.conv1 = nd.pointwise(dims, channels, width, bias=norm == "none")
        self.bn1 = nd.norm(norm, dims, width)
        self.names = tuple(f"conv_{axis}" for axis in "dhw"[-dims:])
        for name in self.names:
            self.add_module(name, nd.pointwise(dims, width, channels))

    def forward(self, x: Tensor) -> Tensor:
        """Scales every value of ``(B, C, *spatial)`` by a number in (0, 1)."""
        axes = range(2, x.ndim)
        strips = []
        for axis in axes:
            others = tuple(other for other in axes if other != axis)
            strips.append(x.mean(others) if others else x)  # a mean over no axis is one over all
        strip = torch.cat(strips, dim=2)
        strip = strip.reshape(*strip.shape, *(1,) * (x.ndim - 3))
        squeezed = F.hardswish(self.bn1(self.conv1(strip))).split(x.shape[2:], dim=2)
        y = x
        for axis, name, part in zip(axes, self.names, squeezed, strict=True):
            gate = self.get_submodule(name)(part).sigmoid()
            y = y * gate.movedim(2, axis)
        return y
