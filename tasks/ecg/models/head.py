"""The classifier of the PTB-XL benchmark's convolutional networks."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn

HIDDEN = 128


class MaxMeanPool(nn.Module):
    """Largest value and mean of each channel."""

    def forward(self, x: Tensor) -> Tensor:
        """Maps ``(B, C, L)`` to ``(B, 2 C)``, the largest values first."""
        return torch.cat([x.amax(-1), x.mean(-1)], dim=1)


def concat_head(channels: int, classes: int, dropout: float) -> nn.Sequential:
    """Returns pooling, norm, dropout, linear 128, ReLU, norm, dropout, linear (arXiv:2004.13701, appendix).

    Args:
        channels: Channels C of the features ``(B, C, L)``.
        classes: Classes of the logits ``(B, classes)``.
        dropout: Before the last layer; half of it before the first.
    """
    return nn.Sequential(
        OrderedDict[str, nn.Module](
            pool=MaxMeanPool(),
            norm1=nn.BatchNorm1d(2 * channels),
            dropout1=nn.Dropout(dropout / 2),
            linear=nn.Linear(2 * channels, HIDDEN),
            act=nn.ReLU(),
            norm2=nn.BatchNorm1d(HIDDEN),
            dropout2=nn.Dropout(dropout),
            output=nn.Linear(HIDDEN, classes),
        )
    )
