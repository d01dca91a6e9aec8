"""Blocks without normalisation: scalar biases around each convolution, and the rule ``fixup``."""

from __future__ import annotations

from torch import Tensor, nn

from core.errors import ConfigError
from core.nd import ScalarBias
from core.residual.blocks.block import Block, zero_last
from core.residual.blocks.bottleneck import EXPANSION
from core.residual.blocks.spec import BlockSpec


class FixupBlock(Block):
    """bias, conv 3, bias, act, bias, conv 3; the rule ``fixup`` scales and adds the last bias.

    "Fixup Initialization", Zhang et al., arXiv:1901.09321, fig. 1 right. The shortcut reads the stream after
    the first bias, as in the authors' code. The weights are set by ``init="fixup"``.

    Args:
        spec: Geometry, materials and place; its norm must be ``bias``.

    Raises:
        ConfigError: A norm is asked for.
    """

    def __init__(self, spec: BlockSpec) -> None:
        super().__init__(spec)
        _check_norm(spec)
        width = spec.out_channels
        self.bias1a = ScalarBias()
        self.conv1 = spec.conv(spec.in_channels, width, 3, stride=spec.stride, dilation=spec.dilation)
        self.bias1b = ScalarBias()
        self.act1 = spec.act_layer()
        self.bias2a = ScalarBias()
        self.conv2 = spec.conv(width, width, 3, dilation=spec.dilation)
        self.se = spec.attention_layer(width)

    def shared(self, x: Tensor) -> Tensor:
        """Adds the first bias for branch and shortcut alike."""
        return self.bias1a(x)

    def branch(self, x: Tensor) -> Tensor:
        """Returns the update, ``(B, out_channels, *spatial / stride)``."""
        if self.downsample is None:
            x = self.bias1a(x)
        x = self.act1(self.bias1b(self.conv1(x)))
        return self.se(self.conv2(self.bias2a(x)))

    def zero_init_last(self) -> None:
        """Zeroes the second convolution."""
        zero_last(self.conv2, nn.Identity())


class FixupBottleneck(Block):
    """The bottleneck of Fixup-ResNet-50: six scalar biases and the scale, arXiv:1901.09321.

    Args:
        spec: Geometry, materials and place; its norm must be ``bias``.

    Raises:
        ConfigError: A norm is asked for.
    """

    def __init__(self, spec: BlockSpec) -> None:
        super().__init__(spec)
        _check_norm(spec)
        width = spec.out_channels // EXPANSION
        self.bias1a = ScalarBias()
        self.conv1 = spec.conv(spec.in_channels, width, 1)
        self.bias1b = ScalarBias()
        self.act1 = spec.act_layer()
        self.bias2a = ScalarBias()
        self.conv2 = spec.conv(width, width, 3, stride=spec.stride, dilation=spec.dilation)
        self.bias2b = ScalarBias()
        self.act2 = spec.act_layer()
        self.bias3a = ScalarBias()
        self.conv3 = spec.conv(width, spec.out_channels, 1)
        self.se = spec.attention_layer(spec.out_channels)

    def shared(self, x: Tensor) -> Tensor:
        """Adds the first bias for branch and shortcut alike."""
        return self.bias1a(x)

    def branch(self, x: Tensor) -> Tensor:
        """Returns the update, ``(B, out_channels, *spatial / stride)``."""
        if self.downsample is None:
            x = self.bias1a(x)
        x = self.act1(self.bias1b(self.conv1(x)))
        x = self.act2(self.bias2b(self.conv2(self.bias2a(x))))
        return self.se(self.conv3(self.bias3a(x)))

    def zero_init_last(self) -> None:
        """Zeroes the third convolution."""
        zero_last(self.conv3, nn.Identity())


def _check_norm(spec: BlockSpec) -> None:
    if spec.norm != "bias":
        raise ConfigError(
            f"Fixup blocks have scalar biases in place of norms: norm is 'bias', not {spec.norm!r}"
        )
