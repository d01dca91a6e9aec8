"""The neck of RTMDet: a feature pyramid that is walked down and up again, with the backbone's blocks."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from core.backbones.cspnext import CSPLayer
from core.residual.blocks.conv_norm import conv_norm
from core.residual.blocks.cspnext import CSPNeXtPlain
from core.residual.blocks.spec import BlockSpec
from core.residual.residual import ResidualChain

LAYERS = BlockSpec(1, 1, act="silu")
"""What the layers of neck and heads are made of."""


def csp_layer(in_channels: int, out_channels: int, blocks: int) -> CSPLayer:
    """Returns a cross-stage partial layer of ``blocks`` CSPNeXt blocks, without shortcuts and attention."""
    inner = BlockSpec(out_channels // 2, out_channels // 2, act="silu")
    return CSPLayer(
        LAYERS, in_channels, out_channels, ResidualChain(CSPNeXtPlain(inner) for _ in range(blocks))
    )


class CSPNeXtPAFPN(nn.Module):
    """Feature pyramid with a bottom-up path ("PANet", Liu et al., arXiv:1803.01534, section 3.1) of CSPNeXt blocks.

    "RTMDet", Lyu et al., arXiv:2212.07784, section 3.2. Layers are named as in mmdetection, whose top-down lists
    begin with the coarsest level.

    Args:
        widths: Channels of the features that come in, the finest first.
        out_channels: Channels of every level that goes out.
        blocks: Blocks in each cross-stage partial layer.
    """

    def __init__(self, widths: Sequence[int], out_channels: int, blocks: int) -> None:
        super().__init__()
        pairs = list(pairwise(widths))
        self.reduce_layers = nn.ModuleList(conv_norm(LAYERS, high, low) for low, high in reversed(pairs))
        self.top_down_blocks = nn.ModuleList(csp_layer(2 * low, low, blocks) for low, _ in reversed(pairs))
        self.downsamples = nn.ModuleList(conv_norm(LAYERS, low, low, 3, stride=2) for low, _ in pairs)
        self.bottom_up_blocks = nn.ModuleList(csp_layer(2 * low, high, blocks) for low, high in pairs)
        self.out_convs = nn.ModuleList(conv_norm(LAYERS, width, out_channels, 3) for width in widths)
        self.upsample = nn.Upsample(scale_factor=2.0, mode="nearest")

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        """Maps ``(B, widths[i], H / 2^i, W / 2^i)`` to ``(B, out_channels, H / 2^i, W / 2^i)``."""
        x = features[-1]
        laterals = []
        for lateral, reduce, block in zip(
            features[-2::-1], self.reduce_layers, self.top_down_blocks, strict=True
        ):
            x = reduce(x)
            laterals.append(x)
            x = block(torch.cat([self.upsample(x), lateral], 1))
        outputs = [x]
        for lateral, down, block in zip(
            reversed(laterals), self.downsamples, self.bottom_up_blocks, strict=True
        ):
            x = block(torch.cat([down(x), lateral], 1))
            outputs.append(x)
        return [conv(output) for conv, output in zip(self.out_convs, outputs, strict=True)]
