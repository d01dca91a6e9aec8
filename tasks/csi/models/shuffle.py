"""Shuffle blocks with channel attention, as in CSI-4CAST."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core import nd
from core.residual import Residual, Rule


class ChannelAttention(nn.Module):
    """``x sigmoid(sum over pooled x of W2 relu(W1 pooled))``, without biases.

    With the mean alone it is squeeze-and-excitation (arXiv:1709.01507), with the maximum too the channel gate of CBAM
    (arXiv:1807.06521).

    Args:
        channels: C.
        reduction: C divided by the width between.
        pooling: avg, or avg_max.
    """

    def __init__(self, channels: int, reduction: int, pooling: str) -> None:
        super().__init__()
        self.peak = pooling == "avg_max"
        self.fc1 = nd.pointwise(2, channels, channels // reduction)
        self.fc2 = nd.pointwise(2, channels // reduction, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Scales every channel of ``(B, C, T, K)`` by a number in (0, 1)."""
        weight = self._excite(x.mean((2, 3), keepdim=True))
        if self.peak:
            weight = weight + self._excite(x.amax((2, 3), keepdim=True))
        return x * weight.sigmoid()

    def _excite(self, pooled: Tensor) -> Tensor:
        return self.fc2(F.relu(self.fc1(pooled)))


class ShuffleBlock(Residual):
    """Grouped conv 1x1, ReLU, shuffle, depthwise conv 3x3, grouped conv 1x1, attention, sum, ReLU; norms after convs.

    The unit of ShuffleNet (Zhang et al., arXiv:1707.01083, figure 2b) with channel attention; arXiv:2510.12996.

    Args:
        channels: C, a multiple of ``groups``.
        groups: Groups of the 1x1 convolutions.
        reduction: Of the attention.
        pooling: Of the attention.
        rule: Residual rule of the sum.
    """

    folds: ClassVar[tuple[tuple[str, str], ...]] = (
        ("conv1", "norm1"),
        ("conv2", "norm2"),
        ("conv3", "norm3"),
    )

    def __init__(self, channels: int, groups: int, reduction: int, pooling: str, rule: Rule) -> None:
        super().__init__(None, rule, act=nn.ReLU())
        conv = nd.conv(2)
        self.groups = groups
        self.conv1 = conv(channels, channels, 1, groups=groups, bias=False)
        self.norm1 = nd.norm("batch", 2, channels)
        self.conv2 = conv(channels, channels, 3, padding=1, groups=channels, bias=False)
        self.norm2 = nd.norm("batch", 2, channels)
        self.conv3 = conv(channels, channels, 1, groups=groups, bias=False)
        self.norm3 = nd.norm("batch", 2, channels)
        self.attention = ChannelAttention(channels, reduction, pooling)

    def branch(self, x: Tensor) -> Tensor:  # a method where Residual has a module
        """Returns the update of ``(B, C, T, K)``."""
        x = F.relu(self.norm1(self.conv1(x)), inplace=True)
        x = self.norm2(self.conv2(shuffled(x, self.groups)))
        return self.attention(self.norm3(self.conv3(x)))


def shuffled(x: Tensor, groups: int) -> Tensor:
    """Takes one channel of each group in turn, ``(B, C, *spatial)``."""
    return torch.flatten(x.unflatten(1, (groups, -1)).transpose(1, 2), 1, 2)
