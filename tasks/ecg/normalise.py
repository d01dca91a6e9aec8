"""From mV to what a network sees; the same module in training, at test and in exported programs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

LEAST = 1e-3
"""Smallest deviation that a window is divided by, mV: electronic silence is not blown up."""


class DataNormaliser(nn.Module):
    """Subtracts a mean and divides by a deviation, those of all training samples (arXiv:2004.13701).

    Args:
        mean: mV.
        deviation: mV.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, mean: float = 0.0, deviation: float = 1.0) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean))
        self.register_buffer("deviation", torch.tensor(deviation))

    @property
    def scaling(self) -> list[float]:
        """Mean and deviation, mV."""
        return [float(self.mean), float(self.deviation)]

    def forward(self, signal: Tensor) -> Tensor:
        """Maps windows ``(B, leads, L)`` in mV to the same shape without unit."""
        return (signal - self.mean) / self.deviation


class RecordNormaliser(DataNormaliser):
    """Scales each window by the mean and deviation of all samples of its leads.

    Leads of zeros do not count and stay zeros, as do the zeros that follow a short record.
    """

    def forward(self, signal: Tensor) -> Tensor:
        """Maps windows ``(B, leads, L)`` in mV to the same shape without unit."""
        sounding = signal != 0
        place = torch.arange(1, signal.shape[2] + 1, device=signal.device)
        end = (sounding.any(1, keepdim=True) * place).amax(2, keepdim=True)
        there = (sounding.any(2, keepdim=True) & (place <= end)).to(signal.dtype)
        count = there.sum((1, 2), keepdim=True).clamp(min=1)
        mean = signal.sum((1, 2), keepdim=True) / count
        centred = (signal - mean) * there
        deviation = ((centred**2).sum((1, 2), keepdim=True) / count).sqrt()
        return centred / deviation.clamp(min=LEAST)


NORMALISERS: dict[str, type[DataNormaliser]] = {
    "data": DataNormaliser,
    "record": RecordNormaliser,
    "none": DataNormaliser,
}
"""Values of ``normalise`` in the configuration."""


def make_normaliser(kind: str, scaling: Sequence[float] = (0.0, 1.0)) -> DataNormaliser:
    """Returns a normaliser of a kind, with mean and deviation in mV as :attr:`DataNormaliser.scaling` gives them."""
    return NORMALISERS[kind](*scaling)


def fit_normaliser(
    kind: str, signals: Sequence[np.ndarray], present: np.ndarray, chosen: np.ndarray
) -> DataNormaliser:
    """Returns the normaliser of a fold.

    Args:
        kind: ``data``, ``record`` or ``none``.
        signals: Of all records, ``(leads, samples)`` in mV.
        present: ``(records, leads)`` bool; leads that are not there do not count.
        chosen: Training records ``(M,)``.
    """
    if kind != "data":
        return make_normaliser(kind)
    count, total, squares = 0, 0.0, 0.0
    for i in chosen:
        values = signals[i][present[i]].astype(np.float64)
        count += values.size
        total += float(values.sum())
        squares += float(np.square(values).sum())
    mean = total / max(count, 1)
    deviation = max(squares / max(count, 1) - mean**2, 0.0) ** 0.5
    return make_normaliser(kind, (mean, max(deviation, LEAST)))
