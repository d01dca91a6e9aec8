"""Blocks whose width grows at every step: a norm first, no activation before the first convolution."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from core.residual.blocks.block import Block, zero_last
from core.residual.blocks.bottleneck import EXPANSION
from core.residual.blocks.spec import BlockSpec


class PyramidBlock(Block):
    """norm, conv 3, norm, act, conv 3, norm, attention.

    "Deep Pyramidal Residual Networks", Han et al., arXiv:1610.02915, fig. 6d, with zero-padded shortcuts.

    Args:
        spec: Geometry, materials and place.
    """

    folds: ClassVar[tuple[tuple[str, str], ...]] = (("conv1", "bn2"), ("conv2", "bn3"))

    def __init__(self, spec: BlockSpec) -> None:
        super().__init__(spec, last_act=False)
        width = spec.out_channels
        self.bn1 = spec.norm_layer(spec.in_channels)
        self.conv1 = spec.conv(spec.in_channels, width, 3, stride=spec.stride, dilation=spec.dilation)
        self.bn2 = spec.norm_layer(width)
        self.act1 = spec.act_layer()
        self.conv2 = spec.conv(width, width, 3, dilation=spec.dilation)
        self.bn3 = spec.norm_layer(width)
        self.se = spec.attention_layer(width)

    def branch(self, x: Tensor) -> Tensor:
        """Returns the update, ``(B, out_channels, *spatial / stride)``."""
        x = self.act1(self.bn2(self.conv1(self.bn1(x))))
        return self.se(self.bn3(self.conv2(x)))

    def zero_init_last(self) -> None:
        """Zeroes the scale of the last norm."""
        zero_last(self.conv2, self.bn3)


class PyramidBottleneck(Block):
    """norm, conv 1, norm, act, conv 3, norm, act, conv 1, norm, attention; arXiv:1610.02915, section 3.

    Args:
        spec: Geometry, materials and place; the inner width is a quarter of ``out_channels``.
    """

    folds: ClassVar[tuple[tuple[str, str], ...]] = (("conv1", "bn2"), ("conv2", "bn3"), ("conv3", "bn4"))

    def __init__(self, spec: BlockSpec) -> None:
        super().__init__(spec, last_act=False)
        width = spec.out_channels // EXPANSION
        self.bn1 = spec.norm_layer(spec.in_channels)
        self.conv1 = spec.conv(spec.in_channels, width, 1)
        self.bn2 = spec.norm_layer(width)
        self.act1 = spec.act_layer()
        self.conv2 = spec.conv(width, width, 3, stride=spec.stride, dilation=spec.dilation)
        self.bn3 = spec.norm_layer(width)
        self.act2 = spec.act_layer()
        self.conv3 = spec.conv(width, spec.out_channels, 1)
        self.bn4 = spec.norm_layer(spec.out_channels)
        self.se = spec.attention_layer(spec.out_channels)

    def branch(self, x: Tensor) -> Tensor:
        """Returns the update, ``(B, out_channels, *spatial / stride)``."""
        x = self.act1(self.bn2(self.conv1(self.bn1(x))))
        x = self.act2(self.bn3(self.conv2(x)))
        return self.se(self.bn4(self.conv3(x)))

    def zero_init_last(self) -> None:
        """Zeroes the scale of the last norm."""
        zero_last(self.conv3, self.bn4)
