"""The residual sum of networks without normalisation."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from core.residual.rule import PointwiseRule, RuleSpec


class Fixup(PointwiseRule):
    """``y = x + s f + b`` with two learned scalars a block, ``s`` 1 and ``b`` 0 at the start.

    The scale and the last bias of "Fixup Initialization: Residual Learning Without Normalization", Zhang et
    al., arXiv:1901.09321, section 3. The branch's other biases belong to its block, and the weights to the
    initialisation.

    Args:
        spec: Where the rule stands in its network.
    """

    plain_at_init: ClassVar[bool] = True
    lr_scale: ClassVar[float] = 0.1
    """The scalars' learning rate as a fraction of the network's, as in the authors' code."""

    def __init__(self, spec: RuleSpec) -> None:
        super().__init__(spec)
        self.scale = nn.Parameter(torch.ones(1))
        self.bias = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor, update: Tensor) -> Tensor:
        """Returns the scaled and shifted sum, ``(B, C, *spatial)``, in the dtype of ``x + update``."""
        return x + (self.scale * update + self.bias).to(update.dtype)

    def parameter_formula(self) -> int:
        """The scale and the bias."""
        return 2
