"""The residual sum with compressed projections of the inputs of all stages so far."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from torch import Tensor, nn

from core import nd
from core.errors import ConfigError
from core.residual.rule import Rule, RuleSpec


class HiRes(Rule):
    """``y = x + f + sum_k P_k(m_k)`` with ``m_0`` the input of the own stage, ``m_1`` that of the stage before, ...

    "Hierarchical Residuals Exploit Brain-Inspired Compositionality", López and Triesch, arXiv:2502.16003.
    The paper's: residual connections from earlier levels of the hierarchy straight into later blocks, through
    compressive projections, added to the blocks' outputs. Ours, as its formula was not at hand: each projection
    is a product of two pointwise maps, C_k to R to C, of which the second starts at zero; features of earlier
    stages are interpolated linearly, stage by stage, to the size of the current one; the own stage's input
    counts among them.

    A stage is what lies between two shortcuts. The stream is ``[x, m_0, m_1, ...]`` and survives them.

    Args:
        spec: Where the rule stands in its network; needs ``channels``, and ``history`` for the earlier stages:
            the channels before every shortcut up to and including the block's own, newest first. Stages that
            ``history`` does not name are not read.
        rank: ``R``.

    Raises:
        ConfigError: ``rank`` is below 1.
    """

    plain_at_init: ClassVar[bool] = True

    def __init__(self, spec: RuleSpec, *, rank: int = 8) -> None:
        super().__init__(spec)
        if rank < 1:
            raise ConfigError(f"hires: rank must be 1 or more, not {rank}")
        self.rank = rank
        self.sources = [spec.width, *spec.history]
        self.down = nn.ModuleList(nd.pointwise(spec.dims, source, rank) for source in self.sources)
        self.up = nn.ModuleList(nd.pointwise(spec.dims, rank, spec.width) for _ in self.sources)
        for layer in self.up:
            nn.init.zeros_(layer.weight)  # type: ignore[arg-type]

    def open(self, x: Tensor) -> list[Tensor]:
        """Begins the first stage."""
        return [x, x]

    def reopen(self, x: Tensor, stream: list[Tensor]) -> list[Tensor]:
        """Begins the next stage, and brings the inputs of those before to its size."""
        return [x, x, *(_resize(memory, x) for memory in stream[1:])]

    def close(self, stream: list[Tensor]) -> Tensor:
        """Returns the features and forgets the rest."""
        return stream[0]

    def prepare(self, stream: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Gives the features to the branch and keeps all."""
        return stream[0], stream

    def merge(self, update: Tensor, state: list[Tensor]) -> list[Tensor]:
        """Adds the update and the projections.

        Raises:
            ConfigError: The stages that the stream remembers are not those that the rule was built for.
        """
        x, *memories = state
        found = [memory.shape[1] for memory in memories[: len(self.sources)]]
        if found != self.sources:
            raise ConfigError(
                f"hires: block {self.spec.index} projects stages of {self.sources} channels but its stream holds "
                f"{found}: `history` must list the channels before each shortcut, newest first"
            )
        y = x + update
        for down, up, memory in zip(self.down, self.up, memories, strict=False):
            y = y + up(down(memory))
        return [y, *memories]

    def activate(self, act: Callable[[Tensor], Tensor], stream: list[Tensor]) -> list[Tensor]:
        """Activates the features."""
        return [act(stream[0]), *stream[1:]]

    def parameter_formula(self) -> int:
        """``sum_k R (C_k + C)`` over the own stage and those of ``history``."""
        return sum(self.rank * (source + self.spec.width) for source in self.sources)


def _resize(memory: Tensor, x: Tensor) -> Tensor:
    """Interpolates ``(B, C_k, *spatial)`` to the positions of ``x``."""
    size = x.shape[2:]
    if memory.shape[2:] == size:
        return memory
    return nn.functional.interpolate(memory, size=size, mode=nd.interpolation(x.ndim - 2))
