"""Efficient channel attention: a short convolution along the channels."""

from __future__ import annotations

import math

from torch import Tensor, nn

from core import nd


class EfficientChannelAttention(nn.Module):
    """``y = x sigmoid(conv(mean(x)))``, where the convolution of k weights runs over the C channel means.

    "ECA-Net: Efficient Channel Attention for Deep Convolutional Neural Networks", Wang et al.,
    arXiv:1910.03151, section 3.2: k is the odd number at or above ``floor((log2(C) + 1) / 2)``, at least 3. The
    layer is named as in timm.

    Args:
        channels: C.
        dims: Spatial axes, 1 to 3.
    """

    def __init__(self, channels: int, dims: int) -> None:
        super().__init__()
        kernel = max(int((math.log2(channels) + 1) / 2) // 2 * 2 + 1, 3)
        # Along channels, whatever the number of spatial axes.
        self.conv = nd.conv(1)(1, 1, kernel, padding=kernel // 2, bias=False)
        self.mean = nd.SpatialMean()

    def forward(self, x: Tensor) -> Tensor:
        """Scales every channel of ``(B, C, *spatial)`` by a number in (0, 1)."""
        gate = self.conv(self.mean(x).unsqueeze(1)).squeeze(1).sigmoid()
        return x * gate.reshape(*gate.shape, *(1,) * (x.ndim - 2))
