"""Norm and activation before each convolution: pre-activation and wide residual networks."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from core.residual.blocks.block import Block, zero_last
from core.residual.blocks.bottleneck import inner_width
from core.residual.blocks.spec import BlockSpec


class PreActBlock(Block):
    """norm, act, conv 3, norm, act, dropout, conv 3, attention.

    "Identity Mappings in Deep Residual Networks", He et al., arXiv:1603.05027, fig. 4e. Where the shape
    changes, the shortcut reads the first norm and activation too, as in the authors' code. With dropout
    between the convolutions it is the block of "Wide Residual Networks", Zagoruyko and Komodakis,
    arXiv:1605.07146, fig. 1d.

    Args:
        spec: Geometry, materials and place.
    """

    uses_dropout: ClassVar[bool] = True
    folds: ClassVar[tuple[tuple[str, str], ...]] = (("conv1", "bn2"),)

    def __init__(self, spec: BlockSpec) -> None:
        super().__init__(spec, last_act=False)
        width = spec.out_channels
        self.bn1 = spec.norm_layer(spec.in_channels)
        self.act1 = _first_act(spec)
        self.conv1 = spec.conv(spec.in_channels, width, 3, stride=spec.stride, dilation=spec.dilation)
        self.bn2 = spec.norm_layer(width)
        self.act2 = spec.act_layer()
        self.dropout = nn.Dropout(spec.dropout) if spec.dropout else nn.Identity()
        self.conv2 = spec.conv(width, width, 3, dilation=spec.dilation)
        self.se = spec.attention_layer(width)

    def shared(self, x: Tensor) -> Tensor:
        """Applies the first norm and activation for branch and shortcut alike."""
        return self.act1(self.bn1(x))

    def branch(self, x: Tensor) -> Tensor:
        """Returns the update, ``(B, out_channels, *spatial / stride)``."""
        if self.downsample is None:
            x = self.shared(x)
        x = self.dropout(self.act2(self.bn2(self.conv1(x))))
        return self.se(self.conv2(x))

    def zero_init_last(self) -> None:
        """Zeroes the second convolution."""
        zero_last(self.conv2, nn.Identity())


class PreActBottleneck(Block):
    """norm, act, conv 1, norm, act, conv 3, norm, act, conv 1, attention: pre-activation ResNet-164 and 1001.

    He et al., arXiv:1603.05027, appendix. As in the authors' code the stride is in the first convolution.

    Args:
        spec: Geometry, materials and place.
        cardinality: Groups of the 3x3 convolution.
        base_width: Channels of a group where ``out_channels`` is 256.

    Raises:
        ConfigError: The options leave no channel.
    """

    folds: ClassVar[tuple[tuple[str, str], ...]] = (("conv1", "bn2"), ("conv2", "bn3"))

    def __init__(self, spec: BlockSpec, *, cardinality: int = 1, base_width: int = 64) -> None:
        super().__init__(spec, last_act=False)
        width = inner_width(spec, cardinality, base_width)
        self.bn1 = spec.norm_layer(spec.in_channels)
        self.act1 = _first_act(spec)
        self.conv1 = spec.conv(spec.in_channels, width, 1, stride=spec.stride)
        self.bn2 = spec.norm_layer(width)
        self.act2 = spec.act_layer()
        self.conv2 = spec.conv(width, width, 3, dilation=spec.dilation, groups=cardinality)
        self.bn3 = spec.norm_layer(width)
        self.act3 = spec.act_layer()
        self.conv3 = spec.conv(width, spec.out_channels, 1)
        self.se = spec.attention_layer(spec.out_channels)

    def shared(self, x: Tensor) -> Tensor:
        """Applies the first norm and activation for branch and shortcut alike."""
        return self.act1(self.bn1(x))

    def branch(self, x: Tensor) -> Tensor:
        """Returns the update, ``(B, out_channels, *spatial / stride)``."""
        if self.downsample is None:
            x = self.shared(x)
        x = self.act2(self.bn2(self.conv1(x)))
        x = self.act3(self.bn3(self.conv2(x)))
        return self.se(self.conv3(x))

    def zero_init_last(self) -> None:
        """Zeroes the third convolution."""
        zero_last(self.conv3, nn.Identity())


def _first_act(spec: BlockSpec) -> nn.Module:
    """Without a norm the first activation reads the stream itself, which it must not overwrite."""
    return spec.act_layer(inplace=spec.norm != "none")
