"""Complex reports as real numbers: real and imaginary parts beside each other, subcarrier by subcarrier."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

Array = TypeVar("Array", np.ndarray, Tensor)


def to_real(x: Array) -> Array:
    """Maps complex ``(..., K)`` to real ``(..., 2K)``: re, im of the first subcarrier, re, im of the second, ..."""
    if isinstance(x, Tensor):
        return torch.view_as_real(x).flatten(-2)
    return np.ascontiguousarray(x).view(x.real.dtype)


def to_complex(x: Array) -> Array:
    """Maps real ``(..., 2K)`` back to complex ``(..., K)``."""
    if isinstance(x, Tensor):
        return torch.view_as_complex(x.unflatten(-1, (-1, 2)).contiguous())
    return np.ascontiguousarray(x).view(np.result_type(x, np.complex64))


def to_planes(x: Tensor) -> Tensor:
    """Maps reports ``(B, T, 2K)`` to an image ``(B, 2, T, K)`` of the real and one of the imaginary parts."""
    return x.unflatten(2, (-1, 2)).movedim(3, 1)


def from_planes(x: Tensor) -> Tensor:
    """Maps images ``(B, 2, T, K)`` back to reports ``(B, T, 2K)``."""
    return x.movedim(1, 3).flatten(2)
