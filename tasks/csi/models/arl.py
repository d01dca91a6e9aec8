"""Adaptive layers of CSI-4CAST: perceptrons along one axis whose input may come back by a sum or a product."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn


def _alone(update: Tensor, x: Tensor) -> Tensor:
    return update


RETURNS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "none": _alone,
    "add": torch.add,
    "multiply": torch.mul,
}
"""How the input comes back to what a perceptron makes of it."""


class AdaptiveLayer(nn.Module):
    """``dropout(norm(perceptron(x) [+ or * x]))`` over the last axis; arXiv:2510.12996, adaptive residual layers.

    Every linear layer but the last is followed by ReLU and dropout. (The released code has one linear layer also where
    two are asked for; the published models have three and four, which are the same here.)

    Args:
        size: Length n of the axis.
        layers: Linear layers.
        hidden: Width between them.
        residual: One of ``RETURNS``.
        act: Activation of the last linear layer.
        dropout: Probability of dropout.
    """

    def __init__(
        self, size: int, layers: int, hidden: int, residual: str, act: nn.Module, dropout: float
    ) -> None:
        super().__init__()
        widths = [size, *[hidden] * (layers - 1), size]
        self.perceptron = nn.Sequential()
        for i in range(layers):
            self.perceptron.append(nn.Linear(widths[i], widths[i + 1]))
            last = i == layers - 1
            self.perceptron.extend([act] if last else [nn.ReLU(inplace=True), nn.Dropout(dropout)])
        assert residual in RETURNS, residual
        self.residual = residual
        self.norm = nn.LayerNorm(size)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Maps ``(..., n)`` to ``(..., n)``."""
        return self.dropout(self.norm(RETURNS[self.residual](self.perceptron(x), x)))
