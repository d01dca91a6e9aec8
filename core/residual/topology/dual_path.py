"""Branches of which one part is added to the stream and another concatenated."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from core.errors import ConfigError
from core.residual.residual import Residual
from core.residual.rule import PointwiseRule


class DualPath(Residual):
    """A residual path of ``width`` channels, and behind it a dense path that grows with each block.

    "Dual Path Networks", Chen et al., arXiv:1707.01629, section 3.2: ``y = cat(rule(x_r, f_r), x_d, f_d)``, where
    index ``r`` stands for the first ``width`` channels and ``d`` for all others. A branch of ``width``
    channels, without growth, makes it the plain residual block. A network's own block derives from this class
    and gives its branch as a method; where its shortcut has another name, it gives :meth:`project` too.

    Args:
        branch: Maps ``(B, C, *spatial)`` to ``(B, width + growth, *spatial)``; ``None`` if the class has a method
            ``branch``.
        width: Channels of the residual path.
        rule: Name of a pointwise rule with default options, or a pointwise rule; it sees the residual path.
        shortcut: Projection of the stream to ``width`` channels and any number of dense ones; ``None`` keeps
            the stream.
        act: Activation after the merge.
        drop_path: Probability that a sample's update, added and concatenated, is zeroed in training.
        index: Position among all residual blocks from 1, for a rule given by name.
        depth: Number of residual blocks in the network, for a rule given by name.
        dims: Spatial axes, 0 to 3, for a rule given by name.

    Raises:
        ConfigError: ``width`` is below 1, the rule is unknown or not pointwise, or a value is out of range.
    """

    def __init__(
        self,
        branch: nn.Module | None,
        width: int,
        rule: str | PointwiseRule = "add",
        shortcut: nn.Module | None = None,
        act: nn.Module | None = None,
        drop_path: float = 0.0,
        index: int = 1,
        depth: int = 1,
        dims: int = 2,
    ) -> None:
        super().__init__(branch, rule, shortcut, act, drop_path, width, index, depth, dims)
        if not isinstance(self.rule, PointwiseRule):
            raise ConfigError(
                f"a dual path block takes a pointwise residual rule, not {type(self.rule).__name__}"
            )
        self.width = width

    def project(self, x: Tensor) -> Tensor:
        """Returns what the update is joined to, ``(B, width + dense, *spatial)``."""
        return x if self.downsample is None else self.downsample(x)

    def forward(self, stream: Tensor) -> Tensor:
        """Maps ``(B, C, *spatial)`` to ``(B, width + dense + growth, *spatial)``."""
        kept, update = self.project(stream), self.drop_path(self.branch(stream))
        added = self.rule(kept[:, : self.width], update[:, : self.width])
        stream = torch.cat([added, kept[:, self.width :], update[:, self.width :]], dim=1)
        return stream if self.act is None else self.act(stream)
