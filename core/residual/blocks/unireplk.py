"""The block of UniRepLKNet: a depthwise convolution, squeeze-and-excitation, and a feed-forward network."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn

from core.errors import ConfigError
from core.residual.blocks.block import Block, zero_last
from core.residual.blocks.conv_norm import conv_norm
from core.residual.blocks.replk import scaled_width
from core.residual.blocks.spec import BlockSpec
from core.residual.reparam import DilatedConv

SMALLEST_DILATED = 7


class GlobalResponseNorm(nn.Module):
    """``y = (gamma n + 1) x + beta`` with ``n = g / (mean over channels of g + 1e-6)``, g the L2 norm over space.

    "ConvNeXt V2", Woo et al., arXiv:2301.00808, section 3. ``gamma`` and ``beta`` start at 0.

    Args:
        channels: C.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(channels))
        self.beta = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Scales the channels of ``(B, C, *spatial)`` by how they compare with each other."""
        shape = (-1, *(1,) * (x.ndim - 2))
        size = torch.linalg.vector_norm(x, dim=tuple(range(2, x.ndim)), keepdim=True)
        relative = size / (size.mean(1, keepdim=True) + 1e-6)
        return (self.gamma.view(shape) * relative + 1) * x + self.beta.view(shape)


class UniRepLKBlock(Block):
    """depthwise conv K, norm, attention, conv 1, act, global response norm, conv 1, norm.

    The LarK block (K of 7 and more, with dilated branches, see :class:`core.residual.reparam.DilatedConv`) and the
    SmaK block (K of 3 and 5) of "UniRepLKNet", Ding et al., arXiv:2311.15599, fig. 2. The attention stands where
    the paper has squeeze-and-excitation, of ratio 1/4. Its layer scale of 1e-6 is the rule ``layer_scale``: the
    factor multiplies what drop path leaves, where the authors' code has it the other way round; the product is
    the same. Their linear layers over the last axis are 1x1 convolutions.

    Args:
        spec: Geometry, materials and place.
        kernel: K.
        ratio: Inner channels of the feed-forward network as a multiple of ``in_channels``.

    Raises:
        ConfigError: The kernel is even or has no dilated branches, or no channel is left.
    """

    def __init__(self, spec: BlockSpec, *, kernel: int = 13, ratio: float = 4.0) -> None:
        super().__init__(spec, last_act=False)
        channels, width = spec.in_channels, scaled_width(spec, ratio, "ratio")
        self.dwconv = nn.Sequential(OrderedDict(conv=_depthwise(spec, kernel), bn=spec.norm_layer(channels)))
        self.se = spec.attention_layer(channels)
        self.pwconv1 = spec.conv(channels, width, bias=True)
        self.act1 = spec.act_layer()
        self.grn = GlobalResponseNorm(width)
        self.pwconv2 = conv_norm(spec, width, spec.out_channels, act=False)

    def branch(self, x: Tensor) -> Tensor:
        """Returns the update, ``(B, out_channels, *spatial / stride)``."""
        x = self.se(self.dwconv(x))
        return self.pwconv2(self.grn(self.act1(self.pwconv1(x))))

    def zero_init_last(self) -> None:
        """Zeroes the scale of the last norm."""
        zero_last(self.pwconv2.conv, self.pwconv2.bn)  # type: ignore[arg-type]  # by name in a Sequential


def _depthwise(spec: BlockSpec, kernel: int) -> nn.Module:
    """Returns the plain small kernel, or the large one with its dilated branches."""
    if kernel % 2 == 0:
        raise ConfigError(f"kernel of a UniRepLKNet block must be odd, not {kernel}")
    channels = spec.in_channels
    if kernel < SMALLEST_DILATED:
        return spec.conv(
            channels, channels, kernel, stride=spec.one_stride, dilation=spec.dilation, groups=channels
        )
    return DilatedConv(
        channels,
        kernel,
        dims=spec.dims,
        stride=spec.one_stride,
        dilation=spec.dilation,
        norm=spec.norm,
        norm_eps=spec.norm_eps,
    )
