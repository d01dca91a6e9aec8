"""The residual sum with one learned factor per channel that starts near zero."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from core.residual.rule import PointwiseRule, RuleSpec, per_channel


class LayerScale(PointwiseRule):
    """``y = x + gamma * f`` with one learned ``gamma`` a channel.

    "Going Deeper with Image Transformers", Touvron et al., arXiv:2103.17239.

    Args:
        spec: Where the rule stands in its network; needs ``channels``.
        initial: First value of every ``gamma``.
    """

    identity_at_init: ClassVar[bool] = True

    def __init__(self, spec: RuleSpec, *, initial: float = 1e-6) -> None:
        super().__init__(spec)
        self.gamma = nn.Parameter(torch.full((spec.width,), initial))

    def forward(self, x: Tensor, update: Tensor) -> Tensor:
        """Returns the scaled sum, ``(B, C, *spatial)``, in the dtype of ``x + update``."""
        return x + (per_channel(self.gamma, update.ndim) * update).to(update.dtype)

    def parameter_formula(self) -> int:
        """One value a channel."""
        return self.spec.width
