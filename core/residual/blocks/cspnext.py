"""The inner block of CSPNeXt: a dense 3x3 convolution and a depthwise-separable 5x5 one."""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn

from core.errors import ConfigError
from core.residual.blocks.block import Block, nearly_zero_last
from core.residual.blocks.conv_norm import conv_norm
from core.residual.blocks.spec import BlockSpec


def cspnext_layers(spec: BlockSpec, kernel: int) -> tuple[nn.Sequential, nn.Sequential]:
    """Returns ``conv1`` (dense, strided) and ``conv2`` (depthwise and pointwise), named as in mmdetection."""
    if kernel < 1 or kernel % 2 == 0:
        raise ConfigError(f"kernel of a CSPNeXt block must be odd, not {kernel}")
    width = spec.out_channels
    conv1 = conv_norm(spec, spec.in_channels, width, 3, stride=spec.stride, dilation=spec.dilation)
    depthwise = conv_norm(spec, width, width, kernel, groups=width, dilation=spec.dilation)
    pointwise = conv_norm(spec, width, width)
    return conv1, nn.Sequential(OrderedDict(depthwise_conv=depthwise, pointwise_conv=pointwise))


class CSPNeXtBlock(Block):
    """conv 3, norm, act, depthwise conv 5, norm, act, conv 1, norm, act, attention.

    "RTMDet", Lyu et al., arXiv:2212.07784, fig. 3b. The activation ends the branch, none follows the sum.
    Layers are named as in mmdetection, which has no attention here.

    Args:
        spec: Geometry, materials and place.
        kernel: Kernel of the depthwise convolution, odd.

    Raises:
        ConfigError: The kernel is even.
    """

    def __init__(self, spec: BlockSpec, *, kernel: int = 5) -> None:
        super().__init__(spec, last_act=False)
        self.conv1, self.conv2 = cspnext_layers(spec, kernel)
        self.se = spec.attention_layer(spec.out_channels)

    def branch(self, x: Tensor) -> Tensor:
        """Returns the update, ``(B, out_channels, *spatial / stride)``."""
        return self.se(self.conv2(self.conv1(x)))

    def zero_init_last(self) -> None:
        """Sets the last norm, before the last activation, so that the update is 0 to within 1e-6."""
        last = self.conv2.pointwise_conv
        nearly_zero_last(last.conv, last.bn)  # type: ignore[union-attr, arg-type]  # by name in a Sequential


class CSPNeXtPlain(nn.Module):
    """The layers of :class:`CSPNeXtBlock` in a row, without a shortcut: CSPNeXt's last stage.

    Args:
        spec: Geometry and materials.
        kernel: Kernel of the depthwise convolution, odd.

    Raises:
        ConfigError: The kernel is even.
    """

    def __init__(self, spec: BlockSpec, *, kernel: int = 5) -> None:
        super().__init__()
        self.conv1, self.conv2 = cspnext_layers(spec, kernel)

    def forward(self, x: Tensor) -> Tensor:
        """Maps ``(B, in_channels, *spatial)`` to ``(B, out_channels, *spatial / stride)``."""
        return self.conv2(self.conv1(x))
