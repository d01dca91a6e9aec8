"""The residual sum with a learned low-rank map of earlier features."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor, nn

from core import nd
from core.errors import ConfigError
from core.residual.rule import Rule, RuleSpec
from core.residual.rules.hyper import weighted_sum


class LaurelPA(Rule):
    """``x_{i+1} = f(x_i) + x_i + A (B sum_j gamma_j x_{i-j})`` over ``j`` from 1 to ``k``; ``gamma`` starts at 0.

    The previous-activations form of "LAuReL: Learned Augmented Residual Layer", Menghani et al.,
    arXiv:2411.07501, with one low-rank map a block: ``A`` is C x R and ``B`` is R x C, both on channels. The
    stream is ``[x_i, x_{i-1}, ..., x_{i-k}]``. In the first ``k`` blocks of a chain, the features that entered
    the chain stand for those that do not exist yet; a shortcut begins a new chain.

    Args:
        spec: Where the rule stands in its network; needs ``channels``.
        previous: ``k``, the number of earlier features.
        rank: ``R``.

    Raises:
        ConfigError: ``previous`` or ``rank`` is below 1.
    """

    plain_at_init: ClassVar[bool] = True

    def __init__(self, spec: RuleSpec, *, previous: int = 3, rank: int = 8) -> None:
        super().__init__(spec)
        if previous < 1:
            raise ConfigError(f"laurel_pa: previous must be 1 or more, not {previous}")
        if rank < 1:
            raise ConfigError(f"laurel_pa: rank must be 1 or more, not {rank}")
        self.previous = previous
        self.rank = rank
        # Zero gamma and random factors: were a factor zero as well, neither would ever get a gradient.
        self.gamma = nn.Parameter(torch.zeros(previous))
        self.down = nd.pointwise(spec.dims, spec.width, rank)
        self.up = nd.pointwise(spec.dims, rank, spec.width)

    def open(self, x: Tensor) -> list[Tensor]:
        """Fills the history with the features."""
        return [x] * (self.previous + 1)

    def close(self, stream: list[Tensor]) -> Tensor:
        """Returns the newest features."""
        return stream[0]

    def prepare(self, stream: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Gives the newest features to the branch and keeps all."""
        return stream[0], stream

    def merge(self, update: Tensor, state: list[Tensor]) -> list[Tensor]:
        """Adds the update and what the earlier features give; the oldest features leave the stream."""
        earlier = weighted_sum(self.gamma, state[1:])
        return [state[0] + update + self.up(self.down(earlier)), *state[:-1]]

    def activate(self, act: Callable[[Tensor], Tensor], stream: list[Tensor]) -> list[Tensor]:
        """Activates the newest features."""
        return [act(stream[0]), *stream[1:]]

    def parameter_formula(self) -> int:
        """``k + 2 R C``."""
        return self.previous + 2 * self.rank * self.spec.width
