"""Branches side by side that read the same stream."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn

from core.errors import ConfigError
from core.residual.init import weight_layers
from core.residual.residual import Residual
from core.residual.rule import Rule


class Parallel(Residual):
    """One residual block whose update is the sum of its branches, ``y = rule(x, sum_i f_i(x))``.

    "Make Deep Networks Shallow Again", Bermeitinger et al., arXiv:2309.08414: a stack of residual blocks
    expands into its branches side by side, plus terms of two and more branches in a row. With branches of size
    ``eps`` what is left out is of order ``eps^2``.

    Args:
        branches: At least one; each maps ``(B, C, *spatial)`` to an update in the shape that the shortcut gives.
        rule: See :class:`core.residual.Residual`, as are all that follow.
        shortcut: Projection where the branches change width or resolution.
        act: Activation after the merge.
        drop_path: Probability that a sample's update, the whole sum, is dropped in training.
        channels: Channels after the shortcut, for a rule given by name.
        index: Position among all residual blocks from 1, for a rule given by name.
        depth: Number of residual blocks in the network, for a rule given by name.
        dims: Spatial axes, 0 to 3, for a rule given by name.

    Raises:
        ConfigError: There is no branch, the rule is unknown, or a value is out of range.
    """

    def __init__(
        self,
        branches: Iterable[nn.Module],
        rule: str | Rule = "add",
        shortcut: nn.Module | None = None,
        act: nn.Module | None = None,
        drop_path: float = 0.0,
        channels: int | None = None,
        index: int = 1,
        depth: int = 1,
        dims: int = 2,
    ) -> None:
        super().__init__(None, rule, shortcut, act, drop_path, channels, index, depth, dims)
        self.branches = nn.ModuleList(branches)
        if not self.branches:
            raise ConfigError("a parallel block needs at least one branch")

    def branch(self, x: Tensor) -> Tensor:
        """Returns the sum of the updates, ``(B, C, *spatial)``."""
        first, *others = self.branches
        update = first(x)
        for branch in others:
            update = update + branch(x)
        return update

    def weight_chains(self) -> list[list[nn.Module]]:
        """The weight layers of each branch, for initialisations that treat the last of a row differently."""
        return [weight_layers(branch) for branch in self.branches]
