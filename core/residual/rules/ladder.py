"""The residual sum whose branch reads features that are one block old."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from core.residual.rule import Rule


class Ladder(Rule):
    """``x_{t+1} = x_t + f(x_{t-1})``; the stream is ``[x_t, x_{t-1}]``.

    "Ladder-residual: parallelism-aware architecture for accelerating large model inference with communication
    overlapping", Zhang et al., arXiv:2501.06589. A branch need not wait for the one before it. The first block
    of a chain reads its input, so that one block is the plain residual; a longer chain is not.
    """

    def open(self, x: Tensor) -> list[Tensor]:
        """Lets the first branch read the features themselves."""
        return [x, x]

    def close(self, stream: list[Tensor]) -> Tensor:
        """Returns the newest features."""
        return stream[0]

    def prepare(self, stream: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Gives the older features to the branch and keeps the newer ones."""
        newest, older = stream
        return older, newest

    def merge(self, update: Tensor, state: Tensor) -> list[Tensor]:
        """Adds the update to the newest features."""
        return [state + update, state]

    def activate(self, act: Callable[[Tensor], Tensor], stream: list[Tensor]) -> list[Tensor]:
        """Activates the newest features."""
        return [act(stream[0]), stream[1]]
