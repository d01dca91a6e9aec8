"""Branches whose outputs are concatenated to the stream in place of being added."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from core.residual.drop import DropPath


class DenseStep(nn.Module):
    """Widens the stream by the branch's output, ``y = cat(x, f(x))`` along the channels.

    The step of "Densely Connected Convolutional Networks", Huang et al., arXiv:1608.06993, eq. 2, and of RDNet,
    "DenseNets Reloaded", Kim et al., arXiv:2403.19588. The stream comes first, as in both. A network's own
    step derives from this class and gives its branch as a method, so that its layers keep their names.

    Args:
        branch: Maps ``(B, C, *spatial)`` to ``(B, growth, *spatial)``; ``None`` if the class has a method
            ``branch``.
        drop_path: Probability that a sample's new channels are zeroed in training.

    Raises:
        ConfigError: ``drop_path`` is out of range.
    """

    branch: Callable[[Tensor], Tensor]

    def __init__(self, branch: nn.Module | None = None, drop_path: float = 0.0) -> None:
        super().__init__()
        if branch is not None:
            self.branch = branch
        self.drop_path = DropPath(drop_path) if drop_path else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Maps ``(B, C, *spatial)`` to ``(B, C + growth, *spatial)``."""
        return torch.cat([x, self.drop_path(self.branch(x))], dim=1)


class Dense(nn.Sequential):
    """A stage of dense steps: each branch reads the input and the outputs of all branches before it.

    Args:
        branches: Branch ``i`` maps ``C + i growth`` channels to ``growth``.
        drop_path: Probability that a sample's new channels are zeroed in training, the same in each step.

    Raises:
        ConfigError: ``drop_path`` is out of range.
    """

    def __init__(self, branches: Iterable[nn.Module], drop_path: float = 0.0) -> None:
        super().__init__(*(DenseStep(branch, drop_path) for branch in branches))
