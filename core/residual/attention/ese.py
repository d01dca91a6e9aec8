"""Effective squeeze-and-excitation: one full-rank map and a hard sigmoid."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from core import nd


class EffectiveSqueezeExcite(nn.Module):
    """``y = x hardsigmoid(W mean(x))`` with ``W`` of C x C, so that nothing is lost in a bottleneck.

    "CenterMask: Real-Time Anchor-Free Instance Segmentation", Lee and Park, arXiv:1911.06667, where it
    belongs to the backbone VoVNetV2. The layer is named as in timm.

    Args:
        channels: C.
        dims: Spatial axes, 1 to 3.
    """

    def __init__(self, channels: int, dims: int) -> None:
        super().__init__()
        self.mean = nd.SpatialMean(keepdim=True)
        self.fc = nd.pointwise(dims, channels, channels, bias=True)

    def forward(self, x: Tensor) -> Tensor:
        """Scales every channel of ``(B, C, *spatial)`` by a number in [0, 1]."""
        return x * F.hardsigmoid(self.fc(self.mean(x)))
