"""One block applied several times."""

from __future__ import annotations

from typing import Any

from torch import nn

from core.errors import ConfigError
from core.residual.residual import ResidualChain
from core.residual.rule import Rule


class Loop(ResidualChain):
    """A chain of ``times`` passes through one block, whose weights all passes share.

    "Loop-Residual Neural Networks for Iterative Refinement", Ng and Wang, arXiv:2409.14199: more computation
    with no more parameters. The stream is opened before the first pass and closed after the last, as in a
    chain of different blocks; side outputs of all passes follow in order. The block's rule keeps one position
    ``index`` throughout.

    Args:
        block: A residual block that keeps the shape of its stream, or a chain of such blocks.
        times: Number of passes, at least 1. It may be changed on a built module.

    Raises:
        ConfigError: ``times`` is below 1.
    """

    def __init__(self, block: nn.Module, times: int) -> None:
        super().__init__([block])
        if times < 1:
            raise ConfigError(f"a loop runs 1 or more times, not {times}")
        self.times = times

    def run(self, stream: Any, rule: Rule | None = None) -> tuple[Any, Rule | None, list[Any]]:
        """Runs the block ``times`` times, see :meth:`core.residual.ResidualChain.run`."""
        sides: list[Any] = []
        for _ in range(self.times):
            stream, rule, side = super().run(stream, rule)
            sides.extend(side)
        return stream, rule, sides
