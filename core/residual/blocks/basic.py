"""Two 3x3 convolutions: the block of ResNet-18 and ResNet-34."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from core.residual.blocks.block import Block, zero_last
from core.residual.blocks.spec import BlockSpec


class BasicBlock(Block):
    """conv 3, norm, act, conv 3, norm, attention; "Deep Residual Learning", He et al., arXiv:1512.03385, fig. 5.

    Layers are named as in torchvision and timm.

    Args:
        spec: Geometry, materials and place.
    """

    folds: ClassVar[tuple[tuple[str, str], ...]] = (("conv1", "bn1"), ("conv2", "bn2"))

    def __init__(self, spec: BlockSpec) -> None:
        super().__init__(spec)
        width = spec.out_channels
        self.conv1 = spec.conv(spec.in_channels, width, 3, stride=spec.stride, dilation=spec.dilation)
        self.bn1 = spec.norm_layer(width)
        self.act1 = spec.act_layer()
        self.conv2 = spec.conv(width, width, 3, dilation=spec.dilation)
        self.bn2 = spec.norm_layer(width)
        self.se = spec.attention_layer(width)

    def branch(self, x: Tensor) -> Tensor:
        """Returns the update, ``(B, out_channels, *spatial / stride)``."""
        x = self.act1(self.bn1(self.conv1(x)))
        return self.se(self.bn2(self.conv2(x)))

    def zero_init_last(self) -> None:
        """Zeroes the scale of the second norm."""
        zero_last(self.conv2, self.bn2)
