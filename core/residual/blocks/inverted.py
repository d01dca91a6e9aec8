"""A wide depthwise convolution between narrow ends: the block of MobileNetV2."""

from __future__ import annotations

from collections import OrderedDict
from typing import ClassVar

from torch import Tensor, nn

from core.errors import ConfigError
from core.residual.blocks.block import Block, zero_last
from core.residual.blocks.spec import BlockSpec


def inverted_layers(spec: BlockSpec, expand: int, kernel: int) -> OrderedDict[str, nn.Module]:
    """Returns the layers in their order, named as in timm; the last two are the linear projection.

    ``expand`` of 1 leaves the first convolution out (depthwise-separable); timm numbers the norms anew then.

    Raises:
        ConfigError: ``expand`` is below 1, or the kernel is even.
    """
    if expand < 1:
        raise ConfigError(f"expand of an inverted residual must be 1 or more, not {expand}")
    if kernel < 1 or kernel % 2 == 0:
        raise ConfigError(f"kernel of an inverted residual must be odd, not {kernel}")
    width = spec.in_channels * expand
    depthwise = spec.conv(width, width, kernel, stride=spec.stride, dilation=spec.dilation, groups=width)
    project = spec.conv(width, spec.out_channels)
    if expand == 1:
        return OrderedDict[str, nn.Module](
            conv_dw=depthwise,
            bn1=spec.norm_layer(width),
            act1=spec.act_layer(),
            se=spec.attention_layer(width),
            conv_pw=project,
            bn2=spec.norm_layer(spec.out_channels),
        )
    return OrderedDict[str, nn.Module](
        conv_pw=spec.conv(spec.in_channels, width),
        bn1=spec.norm_layer(width),
        act1=spec.act_layer(),
        conv_dw=depthwise,
        bn2=spec.norm_layer(width),
        act2=spec.act_layer(),
        se=spec.attention_layer(width),
        conv_pwl=project,
        bn3=spec.norm_layer(spec.out_channels),
    )


class InvertedResidual(Block):
    """conv 1 to a wider layer, norm, act, depthwise conv 3 (strided), norm, act, attention, conv 1, norm.

    "MobileNetV2: Inverted Residuals and Linear Bottlenecks", Sandler et al., arXiv:1801.04381, section 3.3 and
    table 1. No activation follows the projection or the sum. The attention is on the wide layer, as in
    MobileNetV3. A block that changes the shape has the spec's shortcut here; MobileNetV2 has
    :func:`inverted_plain` there.

    Args:
        spec: Geometry, materials and place.
        expand: Width of the inner layer as a multiple of ``in_channels``; 1 leaves the first convolution out.
        kernel: Kernel of the depthwise convolution, odd.

    Raises:
        ConfigError: An option is out of range.
    """

    folds: ClassVar[tuple[tuple[str, str], ...]] = (
        ("conv_pw", "bn1"),
        ("conv_dw", "bn2"),
        ("conv_pwl", "bn3"),
    )

    def __init__(self, spec: BlockSpec, *, expand: int = 6, kernel: int = 3) -> None:
        super().__init__(spec, last_act=False)
        layers = inverted_layers(spec, expand, kernel)
        for name, layer in layers.items():
            self.add_module(name, layer)
        self.layer_names = tuple(layers)
        if expand == 1:
            self.folds = (("conv_dw", "bn1"), ("conv_pw", "bn2"))  # type: ignore[misc]  # of this block alone

    def branch(self, x: Tensor) -> Tensor:
        """Returns the update, ``(B, out_channels, *spatial / stride)``."""
        for name in self.layer_names:
            x = getattr(self, name)(x)
        return x

    def zero_init_last(self) -> None:
        """Zeroes the scale of the last norm."""
        conv, norm = self.layer_names[-2:]
        zero_last(getattr(self, conv), getattr(self, norm))


def inverted_plain(spec: BlockSpec, *, expand: int = 6, kernel: int = 3) -> nn.Sequential:
    """Returns the layers of :class:`InvertedResidual` in a row, without a shortcut.

    Args:
        spec: Geometry and materials.
        expand: As in :class:`InvertedResidual`.
        kernel: As in :class:`InvertedResidual`.

    Raises:
        ConfigError: An option is out of range.
    """
    return nn.Sequential(inverted_layers(spec, expand, kernel))
