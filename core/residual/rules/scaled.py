"""The residual sum with one constant factor."""

from __future__ import annotations

from torch import Tensor

from core.residual.rule import PointwiseRule, RuleSpec


class Scaled(PointwiseRule):
    """``y = x + s f`` with a constant ``s``.

    "Inception-v4, Inception-ResNet and the Impact of Residual Connections on Learning", Szegedy et al.,
    arXiv:1602.07261: wide networks stop dying early in training with ``s`` between 0.1 and 0.3.

    Args:
        spec: Where the rule stands in its network.
        scale: ``s``.
    """

    def __init__(self, spec: RuleSpec, *, scale: float = 0.1) -> None:
        super().__init__(spec)
        self.scale = scale

    def forward(self, x: Tensor, update: Tensor) -> Tensor:
        """Returns the scaled sum, ``(B, C, *spatial)``."""
        return x + self.scale * update
