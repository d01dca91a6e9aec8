"""One linear head that classifies from any of several prefixes of the features."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.errors import ConfigError


class MatryoshkaHead(nn.Module):
    """Logits from the first m features, for each of several m, with one shared weight.

    "Matryoshka Representation Learning", Kusupati et al., arXiv:2205.13147, section 3, in its efficient form
    (MRL-E): the weights of a prefix are a slice of those of the whole. A trained model can then be used, or its
    features stored, at any of these sizes.

    Args:
        features: Width of the features.
        classes: Number of logits.
        prefixes: Sizes m in growing order; those of the paper halve, from the whole width down to 8.

    Raises:
        ConfigError: The prefixes are none, do not grow or pass the width.
    """

    def __init__(self, features: int, classes: int, prefixes: Sequence[int]) -> None:
        super().__init__()
        sizes = tuple(prefixes)
        if not sizes or sizes[0] < 1 or sizes[-1] > features or any(a >= b for a, b in pairwise(sizes)):
            raise ConfigError(
                f"prefixes {list(sizes)} of {features} features: give sizes from 1 to {features} that grow"
            )
        self.prefixes = sizes
        self.head = nn.Linear(features, classes)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Maps features ``(B, features)`` to one ``(B, classes)`` for each prefix."""
        return [F.linear(x[:, :m], self.head.weight[:, :m], self.head.bias) for m in self.prefixes]


def matryoshka_loss(
    logits: Sequence[Tensor],
    target: Tensor,
    weights: Sequence[float] | None = None,
    loss: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy,
) -> Tensor:
    """Returns ``sum_m c_m loss(logits_m, target)``, equation 1 of arXiv:2205.13147 (scalar).

    Args:
        logits: What :class:`MatryoshkaHead` returns.
        target: What ``loss`` takes.
        weights: ``c_m``; all 1 when not given, as in the paper.
        loss: Loss of one prefix, a scalar.

    Raises:
        ConfigError: There is not one weight for each prefix.
    """
    factors = [1.0] * len(logits) if weights is None else list(weights)
    if len(factors) != len(logits):
        raise ConfigError(f"{len(factors)} weights for {len(logits)} prefixes; give one for each")
    return torch.stack([c * loss(part, target) for c, part in zip(factors, logits, strict=True)]).sum()
