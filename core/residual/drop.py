"""Dropping whole updates in training: the mask, the module around a branch, its schedules over depth and time."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from core.errors import ConfigError


def survival_mask(update: Tensor, keep: float, per_sample: bool) -> Tensor:
    """Draws zeros and ones that broadcast over an update ``(B, C, *spatial)``.

    It draws with ``torch.rand`` rather than in place: ``torch.func.vmap(randomness="different")`` then gives
    every member of an ensemble its own mask.

    Args:
        update: The tensor to be masked; gives device, dtype and number of axes.
        keep: Probability of a one.
        per_sample: One draw a sample, ``(B, 1, ...)``, or one for the whole batch, ``(1, 1, ...)``.
    """
    rows = update.shape[0] if per_sample else 1
    # Drawn in float32 whatever the dtype: bfloat16 has too few values in [0, 1) for small probabilities.
    draw = torch.rand((rows, *(1,) * (update.ndim - 1)), device=update.device, dtype=torch.float32)
    return (draw < keep).to(update.dtype)


class DropPath(nn.Module):
    """Zeroes the update of some samples in training and divides the others by the probability of survival.

    The expectation equals the update, so that nothing changes in evaluation. This is the per-sample form of
    stochastic depth ("Deep Networks with Stochastic Depth", Huang et al., arXiv:1603.09382).

    Args:
        rate: Probability that a sample's update is dropped, in [0, 1).

    Attributes:
        drop_scale: Fraction of the rate that applies now, see :func:`set_drop_scale`.

    Raises:
        ConfigError: ``rate`` is out of range.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        if not 0 <= rate < 1:
            raise ConfigError(f"the drop path rate must be in [0, 1), not {rate}")
        self.rate, self.drop_scale = rate, 1.0

    def forward(self, update: Tensor) -> Tensor:
        """Masks an update ``(B, C, *spatial)``."""
        rate = self.rate * self.drop_scale
        if not self.training or rate == 0:
            return update
        keep = 1 - rate
        return update * survival_mask(update, keep, per_sample=True) / keep

    def extra_repr(self) -> str:
        """The rate."""
        return f"rate={self.rate}"


def set_drop_scale(modules: Iterable[nn.Module], scale: float) -> None:
    """Scales the probability that an update is dropped in every module that has a ``drop_scale``.

    With ``scale = t / T`` in step t of T this is ScheduledDropPath ("Learning Transferable Architectures for
    Scalable Image Recognition", Zoph et al., arXiv:1707.07012): ``p(t) = p_max t / T``. The scale is
    a plain number and no part of the ``state_dict``: it follows from the step.

    Args:
        modules: Modules of a network, as ``network.modules()`` gives them.
        scale: Fraction of each module's own probability, in [0, 1].
    """
    assert 0 <= scale <= 1, scale
    for module in modules:
        if hasattr(module, "drop_scale"):
            module.drop_scale = scale  # type: ignore[assignment]  # a plain number


def drop_path_rates(maximum: float, depth: int) -> list[float]:
    """Returns ``depth`` rates that grow evenly from 0 in the first block to ``maximum`` in the last.

    A single block gets 0, as the first block of any network does.
    """
    return [maximum * block / max(depth - 1, 1) for block in range(depth)]
