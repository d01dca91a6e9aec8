"""The plain residual sum."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from core.residual.rule import PointwiseRule


class Add(PointwiseRule):
    """``y = x + f``.

    "Deep Residual Learning for Image Recognition", He et al., arXiv:1512.03385.
    """

    plain_at_init: ClassVar[bool] = True

    def forward(self, x: Tensor, update: Tensor) -> Tensor:
        """Returns the sum, ``(B, C, *spatial)``."""
        return x + update
