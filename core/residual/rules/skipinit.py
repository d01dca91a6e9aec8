"""The residual sum with one learned factor that starts at zero."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from core.residual.rule import PointwiseRule, RuleSpec


class SkipInit(PointwiseRule):
    """``y = x + a f`` with one learned ``a`` a block, 0 at the start.

    "Batch Normalization Biases Residual Blocks Towards the Identity Function in Deep Networks", De and Smith,
    arXiv:2002.10444. "ReZero is All You Need", Bachlechner et al., arXiv:2003.04887, is the same rule.

    Args:
        spec: Where the rule stands in its network.
        initial: First value of ``a``; the paper also allows values up to one over the root of the depth.
    """

    identity_at_init: ClassVar[bool] = True

    def __init__(self, spec: RuleSpec, *, initial: float = 0.0) -> None:
        super().__init__(spec)
        # One element and not a scalar: FSDP2 shards the first axis and refuses parameters without one.
        self.scale = nn.Parameter(torch.full((1,), initial))

    def forward(self, x: Tensor, update: Tensor) -> Tensor:
        """Returns the scaled sum, ``(B, C, *spatial)``, in the dtype of ``x + update``."""
        return x + (self.scale * update).to(update.dtype)

    def parameter_formula(self) -> int:
        """One scalar."""
        return 1
