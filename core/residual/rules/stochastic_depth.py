"""The residual sum whose blocks are skipped at random in training."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from core.errors import ConfigError
from core.residual.drop import survival_mask
from core.residual.rule import PointwiseRule, RuleSpec

MODES = ("row", "batch")


class StochasticDepth(PointwiseRule):
    """``y = x + b f`` with ``b`` drawn from Bernoulli(p_l) in training, ``p_l = 1 - (l / L) (1 - p_L)``.

    "Deep Networks with Stochastic Depth", Huang et al., arXiv:1603.09382, with its linear decay and
    ``p_L = 0.5``. The paper draws one ``b`` for the whole mini-batch and multiplies by ``p_l`` when testing
    (mode ``batch``). Mode ``row``, of timm and torchvision, draws one a sample and divides by ``p_l`` in
    training, so that evaluation is the plain sum.

    Args:
        spec: Where the rule stands in its network; gives ``l`` and ``L``.
        survival: ``p_L``, the probability that the last block survives, in (0, 1].
        mode: ``row`` or ``batch``.

    Attributes:
        drop_scale: Fraction of ``1 - p_l`` that applies now, see :func:`core.residual.drop.set_drop_scale`.

    Raises:
        ConfigError: ``survival`` is out of range or ``mode`` is unknown.
    """

    plain_at_init: ClassVar[bool] = True

    def __init__(self, spec: RuleSpec, *, survival: float = 0.5, mode: str = "row") -> None:
        super().__init__(spec)
        if not 0 < survival <= 1:
            raise ConfigError(f"stochastic_depth: survival must be in (0, 1], not {survival}")
        if mode not in MODES:
            raise ConfigError(f"stochastic_depth: mode must be one of {', '.join(MODES)}, not {mode!r}")
        self.drop = spec.index / spec.depth * (1 - survival)
        self.drop_scale = 1.0
        self.per_sample = mode == "row"

    @property
    def keep(self) -> float:
        """``p_l``, the probability that the block survives now."""
        return 1 - self.drop * self.drop_scale

    def forward(self, x: Tensor, update: Tensor) -> Tensor:
        """Returns the sum with surviving updates, ``(B, C, *spatial)``."""
        if self.training:
            update = update * survival_mask(update, self.keep, self.per_sample)
        # The factor that makes training and evaluation agree in expectation stands on one side only.
        if self.training and self.per_sample:
            update = update / self.keep
        elif not self.training and not self.per_sample:
            update = update * self.keep
        return x + update
