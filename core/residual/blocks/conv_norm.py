"""A convolution, its norm and an activation under the names that several authors give them."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from core.residual.blocks.spec import BlockSpec


def conv_norm(
    spec: BlockSpec,
    in_channels: int,
    out_channels: int,
    kernel: int | tuple[int, ...] = 1,
    *,
    stride: int | tuple[int, ...] = 1,
    groups: int = 1,
    dilation: int = 1,
    act: bool = True,
    bias: bool | None = None,
) -> nn.Sequential:
    """Returns ``act(bn(conv(x)))`` with layers ``conv`` and ``bn``, as in RepLKNet's code and mmdetection.

    Args:
        spec: What the layers are made of.
        in_channels: Channels before.
        out_channels: Channels after.
        kernel: Kernel along each axis; one number stands for all axes.
        stride: Factor by which the spatial axes are reduced, likewise.
        groups: Groups of the convolution.
        dilation: Its dilation.
        act: Whether an activation follows.
        bias: Whether the convolution has a bias; by default only if there is no norm.
    """
    conv = spec.conv(
        in_channels, out_channels, kernel, stride=stride, groups=groups, dilation=dilation, bias=bias
    )
    layers = OrderedDict[str, nn.Module](conv=conv, bn=spec.norm_layer(out_channels))
    if act:
        layers["act"] = spec.act_layer()
    return nn.Sequential(layers)
