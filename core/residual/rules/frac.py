"""Frac-connections: the channels in fractions, mixed by learned weights around every block."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor

from core.errors import ConfigError
from core.residual.rule import Rule, RuleSpec
from core.residual.rules.hyper import ConnectionWeights, add_weighted, weighted_sum


class Frac(Rule):
    """Part ``k`` of the branch's input is ``sum_j Y_jk x_j``, that of the output ``b_k f_k + sum_j A_jk x_j``.

    "Frac-Connections: Fractional Extension of Hyper-Connections", Zhu et al., arXiv:2503.14125. The C channels
    are cut into ``m`` equal parts ``x_1 ... x_m`` of neighbouring channels, so that the stream is as large as
    the features. ``Y`` and ``A`` start as the identity and ``b`` at 1: the plain residual. With ``m`` 1 it is
    the rule ``hyper`` with one stream. How the weights follow the features is described in
    :class:`core.residual.rules.hyper.ConnectionWeights`.

    Args:
        spec: Where the rule stands in its network; needs ``channels``.
        fractions: ``m``; where it does not divide the channels, their greatest common divisor is taken, so that
            odd widths work too.
        dynamic: Let the weights depend on the features; otherwise they are learned constants.

    Raises:
        ConfigError: ``fractions`` is below 1.
    """

    plain_at_init: ClassVar[bool] = True

    def __init__(self, spec: RuleSpec, *, fractions: int = 2, dynamic: bool = True) -> None:
        super().__init__(spec)
        if fractions < 1:
            raise ConfigError(f"frac: fractions must be 1 or more, not {fractions}")
        self.fractions = m = math.gcd(fractions, spec.width)
        self.weights = ConnectionWeights(torch.eye(m), spec.width // m if dynamic else None)

    def prepare(self, stream: Tensor) -> tuple[Tensor, tuple[list[Tensor], Tensor]]:
        """Mixes what the branch reads, and the parts that its update will be added to."""
        parts = stream.chunk(self.fractions, dim=1)
        width, depth = self.weights(parts)
        mixed = [weighted_sum(column, parts) for column in width.unbind(-1)]
        return torch.cat(mixed[: self.fractions], dim=1), (mixed[self.fractions :], depth)

    def merge(self, update: Tensor, state: tuple[list[Tensor], Tensor]) -> Tensor:
        """Adds each part of the update to its mixed part, ``(B, C, *spatial)``."""
        mixed, depth = state
        return torch.cat(add_weighted(depth, update.chunk(self.fractions, dim=1), mixed), dim=1)

    def parameter_formula(self) -> int:
        """``2 m^2 + m`` constants; if dynamic ``2 C + C / m`` and the two scales besides."""
        return self.weights.count()
