"""Losses for records with any number of labels each; targets may lie between 0 and 1, as mixed crops have them."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

Terms = tuple[Tensor, Tensor]


def bce_terms(logits: Tensor, focusing: float, margin: float) -> Terms:
    """Cross entropy: log p of positives and log(1 - p) of negatives."""
    return F.logsigmoid(logits), F.logsigmoid(-logits)


def focal_terms(logits: Tensor, focusing: float, margin: float) -> Terms:
    """Focal loss (arXiv:1708.02002, equation 4): what is right already counts less, by (1 - p)^gamma."""
    right, wrong = F.logsigmoid(logits), F.logsigmoid(-logits)
    # Powers as exponentials of logarithms: the gradient of 0 ** 0.5 is infinite.
    return (focusing * wrong).exp() * right, (focusing * right).exp() * wrong


def asymmetric_terms(logits: Tensor, focusing: float, margin: float) -> Terms:
    """Asymmetric loss (arXiv:2009.14119, equation 7) with an exponent of 0 for positives.

    Negatives have the shifted probability max(p - margin, 0) in place of p.
    """
    # log(1 - p + margin), which stays finite where 1 - p is rounded to 0.
    shift = logits.new_tensor(math.log(margin) if margin else -math.inf)
    wrong = torch.logaddexp(F.logsigmoid(-logits), shift).clamp(max=0)
    shifted = (-torch.expm1(wrong)).clamp(min=1e-8)
    return F.logsigmoid(logits), shifted**focusing * wrong


TERMS: dict[str, Callable[[Tensor, float, float], Terms]] = {
    "bce": bce_terms,
    "focal": focal_terms,
    "asymmetric": asymmetric_terms,
}
"""What a positive and a negative lose, each negative, for logits, focusing and margin."""


class MultiLabelLoss(nn.Module):
    """Mean loss over records and classes.

    Args:
        name: ``bce``, ``focal`` or ``asymmetric``.
        focusing: Exponent of focal, and of the negatives in asymmetric.
        margin: Probability below which a negative has no loss, in asymmetric.
        weights: Factor of each class's positives ``(C,)``; ``None`` for 1.
    """

    def __init__(
        self, name: str = "bce", focusing: float = 2.0, margin: float = 0.05, weights: Tensor | None = None
    ) -> None:
        super().__init__()
        self.terms, self.focusing, self.margin = TERMS[name], focusing, margin
        self.weights: Tensor | None
        self.register_buffer("weights", weights, persistent=False)

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Returns the loss of logits ``(B, C)`` against targets ``(B, C)`` in [0, 1]."""
        positive, negative = self.terms(logits, self.focusing, self.margin)
        if self.weights is not None:
            positive = self.weights * positive
        return -(targets * positive + (1 - targets) * negative).mean()


def positive_weights(labels: np.ndarray) -> Tensor:
    """Returns the square root of negatives over positives of each class, float32 ``(C,)``.

    Args:
        labels: ``(records, C)`` bool. A class without positives, or without negatives, has weight 1.
    """
    positives = labels.sum(0)
    negatives = len(labels) - positives
    known = (positives > 0) & (negatives > 0)
    ratio = np.divide(negatives, positives, out=np.ones(len(positives)), where=known)
    return torch.from_numpy(np.sqrt(ratio)).float()
