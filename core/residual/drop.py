"""Dropping whole updates in training: the mask, the module around a branch, and its schedule over depth."""

from __future__ import annotations

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

    Raises:
        ConfigError: ``rate`` is out of range.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        if not 0 <= rate < 1:
            raise ConfigError(f"the drop path rate must be in [0, 1), not {rate}")
        self.rate = rate

    def forward(self, update: Tensor) -> Tensor:
        """Masks an update ``(B, C, *spatial)``."""
        if not self.training or self.rate == 0:
            return update
        keep = 1 - self.rate
        return update * survival_mask(update, keep, per_sample=True) / keep

    def extra_repr(self) -> str:
        """The rate."""
        return f"rate={self.rate}"


def drop_path_rates(maximum: float, depth: int) -> list[float]:
    """Returns ``depth`` rates that grow evenly from 0 in the first block to ``maximum`` in the last.

    A single block gets 0, as the first block of any network does.
    """
    return [maximum * block / max(depth - 1, 1) for block in range(depth)]
