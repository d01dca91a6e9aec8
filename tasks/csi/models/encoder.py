"""A transformer encoder whose sums take any residual rule."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core import nd
from core.residual import Residual, ResidualChain, Rule

MakeRule = Callable[[int], Rule]
"""Makes the rule of a residual block from its place, counted from 1."""


class Attention(nn.Module):
    """Self-attention over the tokens (Vaswani et al., arXiv:1706.03762, section 3.2).

    Args:
        width: Width C, a multiple of ``heads``.
        heads: Heads.
        dropout: Of the attention's weights, and of the update.
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.rate = dropout
        self.in_proj = nn.Linear(width, 3 * width)
        self.out_proj = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)
        nn.init.xavier_uniform_(self.in_proj.weight)
        nn.init.zeros_(self.in_proj.bias)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Maps ``(B, C, T)`` to the update ``(B, C, T)``."""
        # (3, B, heads, T, C / heads)
        parts = self.in_proj(x.transpose(1, 2)).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        query, key, value = parts.unbind()
        rate = self.rate if self.training else 0.0
        joined = F.scaled_dot_product_attention(query, key, value, dropout_p=rate)
        return self.dropout(self.out_proj(joined.transpose(1, 2).flatten(2))).transpose(1, 2)


class FeedForward(nn.Sequential):
    """Linear, ReLU, linear for each token.

    Args:
        width: Width C.
        hidden: Width between.
        dropout: After the activation, and of the update.
    """

    def __init__(self, width: int, hidden: int, dropout: float) -> None:
        super().__init__(
            nn.Linear(width, hidden),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            nn.Linear(hidden, width),
            nn.Dropout(dropout),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Maps ``(B, C, T)`` to the update ``(B, C, T)``."""
        return super().forward(x.transpose(1, 2)).transpose(1, 2)


class Encoder(ResidualChain):
    """Layers of attention and feed-forward, each with the norm after its sum, as PyTorch's ``TransformerEncoder``.

    Args:
        width: Width C.
        layers: Layers, of two residual blocks each.
        heads: Heads.
        feedforward: Width inside the feed-forward layers.
        dropout: Dropout.
        make_rule: Makes the rule of each sum.
        first: Place of the first residual block.
    """

    def __init__(
        self,
        width: int,
        layers: int,
        heads: int,
        feedforward: int,
        dropout: float,
        make_rule: MakeRule,
        first: int = 1,
    ) -> None:
        super().__init__([])
        for place in range(first, first + 2 * layers, 2):
            attention, forward = Attention(width, heads, dropout), FeedForward(width, feedforward, dropout)
            for i, branch in enumerate((attention, forward)):
                self.append(Residual(branch, make_rule(place + i), act=nd.norm("layer", 1, width)))


def positions(length: int, width: int) -> Tensor:
    """Returns the sinusoidal positions ``(length, width)`` of arXiv:1706.03762, section 3.5; the width is even."""
    rate = torch.exp(-math.log(10000) / width * torch.arange(0, width, 2))
    angle = torch.arange(length)[:, None] * rate
    return torch.stack([angle.sin(), angle.cos()], 2).flatten(1)
