"""A bottleneck whose 3x3 convolution is split attention: the block of ResNeSt."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from core import nd
from core.residual.attention import SplitAttention
from core.residual.blocks.block import Block, zero_last
from core.residual.blocks.bottleneck import inner_width
from core.residual.blocks.spec import BlockSpec


class ResNestBlock(Block):
    """conv 1, norm, act, split attention, average pooling for the stride, conv 1, norm, attention.

    "ResNeSt: Split-Attention Networks", Zhang et al., arXiv:2004.08955, figs. 1 and 2 (the stride in section 4.1).
    The parameters are named as in timm. Differences: the authors' code pools with stride 1 too, in the first
    block of a dilated stage; and timm 1.0.31 applies drop path to the shortcut's input and not to the update.

    Args:
        spec: Geometry, materials and place.
        radix: Candidates of the split attention for each channel.
        cardinality: Groups of channels.
        base_width: Channels of a group where ``out_channels`` is 256.
        avd: Average pooling of 3 positions an axis has the stride; if not, the convolution has it.
        avd_first: Pool before the split attention instead of after it.

    Raises:
        ConfigError: The options leave no channel, or do not divide the channels.
    """

    folds: ClassVar[tuple[tuple[str, str], ...]] = (
        ("conv1", "bn1"),
        ("conv2.conv", "conv2.bn0"),
        ("conv2.fc1", "conv2.bn1"),
        ("conv3", "bn3"),
    )

    def __init__(
        self,
        spec: BlockSpec,
        *,
        radix: int = 2,
        cardinality: int = 1,
        base_width: int = 64,
        avd: bool = True,
        avd_first: bool = False,
    ) -> None:
        super().__init__(spec)
        width = inner_width(spec, cardinality, base_width)
        pooled = avd and spec.one_stride > 1
        pool = nd.pool("avg", spec.dims)(3, stride=spec.one_stride, padding=1) if pooled else nn.Identity()
        self.conv1 = spec.conv(spec.in_channels, width, 1)
        self.bn1 = spec.norm_layer(width)
        self.act1 = spec.act_layer()
        self.avd_first = pool if avd_first else nn.Identity()
        split = SplitAttention(
            width,
            width,
            spec.dims,
            radix=radix,
            cardinality=cardinality,
            stride=1 if pooled else spec.one_stride,
            dilation=spec.dilation,
            norm=spec.norm,
            act=spec.act,
        )
        nd.with_eps(split, spec.norm_eps)
        self.conv2 = split
        self.avd_last = nn.Identity() if avd_first else pool
        self.conv3 = spec.conv(width, spec.out_channels, 1)
        self.bn3 = spec.norm_layer(spec.out_channels)
        self.se = spec.attention_layer(spec.out_channels)

    def branch(self, x: Tensor) -> Tensor:
        """Returns the update, ``(B, out_channels, *spatial / stride)``."""
        x = self.avd_first(self.act1(self.bn1(self.conv1(x))))
        x = self.avd_last(self.conv2(x))
        return self.se(self.bn3(self.conv3(x)))

    def weight_chains(self) -> list[list[nn.Module]]:
        """The convolutions of the branch; those inside the split attention that make weights are beside it."""
        return [[self.conv1, self.conv2.conv, self.conv3]]

    def zero_init_last(self) -> None:
        """Zeroes the scale of the last norm."""
        zero_last(self.conv3, self.bn3)
