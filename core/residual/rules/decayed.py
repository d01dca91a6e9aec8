"""The residual sum whose shortcut fades with depth."""

from __future__ import annotations

from torch import Tensor

from core.errors import ConfigError
from core.residual.rule import PointwiseRule, RuleSpec


class Decayed(PointwiseRule):
    """``y = a_l x + f`` with ``a_l = 1 - l (1 - a_min) / L``.

    "Residual Connections Harm Generative Representation Learning", Zhang et al., arXiv:2404.10947. The last
    block has ``a_min``. Meant for the encoder of a network.

    Args:
        spec: Where the rule stands in its network; gives ``l`` and ``L``.
        minimum: ``a_min``, in [0, 1].

    Raises:
        ConfigError: ``minimum`` is out of range.
    """

    def __init__(self, spec: RuleSpec, *, minimum: float = 0.6) -> None:
        super().__init__(spec)
        if not 0 <= minimum <= 1:
            raise ConfigError(f"decayed: minimum must be in [0, 1], not {minimum}")
        self.decay = 1 - spec.index * (1 - minimum) / spec.depth

    def forward(self, x: Tensor, update: Tensor) -> Tensor:
        """Returns the sum with the faded shortcut, ``(B, C, *spatial)``."""
        return self.decay * x + update
