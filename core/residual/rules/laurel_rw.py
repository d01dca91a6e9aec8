"""The residual sum with learned weights on both sides."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from core.residual.rule import PointwiseRule, RuleSpec


class LaurelRW(PointwiseRule):
    """``y = a f + b x`` with two learned scalars a block, both 1 at the start.

    The residual-weights form of "LAuReL: Learned Augmented Residual Layer", Menghani et al.,
    arXiv:2411.07501, without a normalisation of the pair.

    Args:
        spec: Where the rule stands in its network.
    """

    plain_at_init: ClassVar[bool] = True

    def __init__(self, spec: RuleSpec) -> None:
        super().__init__(spec)
        self.update_weight = nn.Parameter(torch.ones(1))
        self.skip_weight = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor, update: Tensor) -> Tensor:
        """Returns the weighted sum, ``(B, C, *spatial)``, in the dtype of ``x + update``."""
        return (self.skip_weight * x).to(x.dtype) + (self.update_weight * update).to(update.dtype)

    def parameter_formula(self) -> int:
        """The two weights."""
        return 2
