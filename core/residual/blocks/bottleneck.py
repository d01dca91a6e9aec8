"""1x1, 3x3, 1x1: the block of ResNet-50 and deeper, and with groups that of ResNeXt."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from core.errors import ConfigError
from core.residual.blocks.block import Block, zero_last
from core.residual.blocks.spec import BlockSpec

EXPANSION = 4


def inner_width(spec: BlockSpec, cardinality: int, base_width: int) -> int:
    """Returns the channels of the 3x3 convolution: ``floor(C / 4 * base_width / 64) * cardinality``.

    Raises:
        ConfigError: The options are below 1, or leave no channel.
    """
    if cardinality < 1 or base_width < 1:
        raise ConfigError(f"cardinality and base_width must be 1 or more, not {cardinality} and {base_width}")
    width = int(spec.out_channels // EXPANSION * (base_width / 64)) * cardinality
    if width < 1:
        raise ConfigError(f"a bottleneck of {spec.out_channels} channels is too narrow; it takes a quarter")
    return width


class Bottleneck(Block):
    """conv 1, norm, act, conv 3 (strided, grouped), norm, act, conv 1, norm, attention.

    "Deep Residual Learning", He et al., arXiv:1512.03385, fig. 5, with the stride in the 3x3 convolution as in
    torchvision and timm ("v1.5"; the paper has it in the first 1x1). With ``cardinality`` above 1 it is the
    block of "Aggregated Residual Transformations", Xie et al., arXiv:1611.05431, fig. 3c; with ``base_width``
    128 that of Wide ResNet-50-2.

    Args:
        spec: Geometry, materials and place.
        cardinality: Groups of the 3x3 convolution.
        base_width: Channels of a group where ``out_channels`` is 256.
        kernel: Kernel of the middle convolution, one number or one an axis; 3 by default.

    Raises:
        ConfigError: The options leave no channel.
    """

    folds: ClassVar[tuple[tuple[str, str], ...]] = (("conv1", "bn1"), ("conv2", "bn2"), ("conv3", "bn3"))

    def __init__(
        self, spec: BlockSpec, *, cardinality: int = 1, base_width: int = 64, kernel: tuple[int, ...] = (3,)
    ) -> None:
        super().__init__(spec)
        width = inner_width(spec, cardinality, base_width)
        self.conv1 = spec.conv(spec.in_channels, width, 1)
        self.bn1 = spec.norm_layer(width)
        self.act1 = spec.act_layer()
        self.conv2 = spec.conv(
            width, width, kernel, stride=spec.stride, dilation=spec.dilation, groups=cardinality
        )
        self.bn2 = spec.norm_layer(width)
        self.act2 = spec.act_layer()
        self.conv3 = spec.conv(width, spec.out_channels, 1)
        self.bn3 = spec.norm_layer(spec.out_channels)
        self.se = spec.attention_layer(spec.out_channels)

    def branch(self, x: Tensor) -> Tensor:
        """Returns the update, ``(B, out_channels, *spatial / stride)``."""
        x = self.act1(self.bn1(self.conv1(x)))
        x = self.act2(self.bn2(self.conv2(x)))
        return self.se(self.bn3(self.conv3(x)))

    def zero_init_last(self) -> None:
        """Zeroes the scale of the third norm."""
        zero_last(self.conv3, self.bn3)
