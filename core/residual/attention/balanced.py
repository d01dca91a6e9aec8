"""Coordinate attention and squeeze-and-excitation in a learned proportion."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from core.residual.attention.coord import CoordinateAttention
from core.residual.attention.se import SqueezeExcite


class BalancedAttention(nn.Module):
    """``y = alpha coord(x) + (1 - alpha) se(x)`` with a learned ``alpha`` in (0, 1), 0.5 at the start.

    "Balanced Multi-Task Attention for Satellite Image Classification", Vir, arXiv:2510.15527: the first term
    looks at places, the second at spectral bands; alpha ends near 0.57 on EuroSAT.

    Args:
        channels: C.
        dims: Spatial axes, 1 to 3.
        ratio: Bottleneck width of ``se`` as a part of C; ``coord`` takes 2/3 of it.
        norm: Normalisation inside ``coord``.

    Raises:
        ConfigError: An option is out of range.
    """

    def __init__(self, channels: int, dims: int, *, ratio: float = 1 / 16, norm: str = "batch") -> None:
        super().__init__()
        self.coord = CoordinateAttention(channels, dims, ratio=ratio, norm=norm)
        self.se = SqueezeExcite(channels, dims, ratio=ratio)
        self.logit = nn.Parameter(torch.zeros(1))

    @property
    def alpha(self) -> Tensor:
        """The weight of coordinate attention, shape ``(1,)``."""
        return self.logit.sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        """Scales every value of ``(B, C, *spatial)`` by a number in (0, 1)."""
        return self.alpha * self.coord(x) + (1 - self.alpha) * self.se(x)
