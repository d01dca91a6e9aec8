"""Two 3x3 convolutions: the block of ResNet-18 and ResNet-34, and of residual encoders for segmentation."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from core.residual.blocks.block import Block, zero_last
from core.residual.blocks.spec import BlockSpec


class BasicBlock(Block):
    """conv 3, norm, act, conv 3, norm, attention; "Deep Residual Learning", He et al., arXiv:1512.03385, fig. 5.

    Layers are named as in torchvision and timm. With ``bias`` and the shortcut ``resenc`` it is the block of nnU-Net's
    residual encoders (Isensee et al., arXiv:2404.09556).

    Args:
        spec: Geometry, materials and place.
        kernel: Kernel of both convolutions, one number or one an axis; 3 by default.
        bias: Whether the convolutions have biases although norms follow.
    """

    folds: ClassVar[tuple[tuple[str, str], ...]] = (("conv1", "bn1"), ("conv2", "bn2"))

    def __init__(self, spec: BlockSpec, *, kernel: tuple[int, ...] = (3,), bias: bool = False) -> None:
        super().__init__(spec)
        width, biased = spec.out_channels, bias or None
        self.conv1 = spec.conv(
            spec.in_channels, width, kernel, stride=spec.stride, dilation=spec.dilation, bias=biased
        )
        self.bn1 = spec.norm_layer(width)
        self.act1 = spec.act_layer()
        self.conv2 = spec.conv(width, width, kernel, dilation=spec.dilation, bias=biased)
        self.bn2 = spec.norm_layer(width)
        self.se = spec.attention_layer(width)

    def branch(self, x: Tensor) -> Tensor:
        """Returns the update, ``(B, out_channels, *spatial / stride)``."""
        x = self.act1(self.bn1(self.conv1(x)))
        return self.se(self.bn2(self.conv2(x)))

    def zero_init_last(self) -> None:
        """Zeroes the scale of the second norm."""
        zero_last(self.conv2, self.bn2)
