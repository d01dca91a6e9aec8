"""Inputs of any size for networks that halve them several times."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional as F


def pad_to_multiple(x: Tensor, multiples: Sequence[int]) -> Tensor:
    """Repeats the last positions of each axis until its size is a multiple.

    Args:
        x: ``(B, C, *spatial)``.
        multiples: One number for each spatial axis.
    """
    missing = [-size % multiple for size, multiple in zip(x.shape[2:], multiples, strict=True)]
    if not any(missing):
        return x
    # torch takes pairs from the last axis on.
    return F.pad(x, [amount for extra in reversed(missing) for amount in (0, extra)], mode="replicate")


def crop_to_size(x: Tensor, size: Sequence[int]) -> Tensor:
    """Takes off ``(B, C, *spatial)`` what :func:`pad_to_multiple` has put on."""
    return x[(slice(None), slice(None), *(slice(0, length) for length in size))]
