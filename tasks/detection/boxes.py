"""Overlaps of boxes: left, top, right, bottom, pixels from the corner of the image."""

from __future__ import annotations

import torch
from torch import Tensor

LEAST_UNION = 1e-6
"""Pixels: two boxes without area have an IoU of 0 and not of 0 / 0."""


def iou_matrix(a: Tensor, b: Tensor) -> Tensor:
    """Returns the intersection over union of every box of ``a`` with every box of ``b``.

    A box that is inside out overlaps with nothing. x and y come one after the other and are computed in place, which
    halves the memory of temporaries; there are no gradients.

    Args:
        a: ``(N, 4)``.
        b: ``(M, 4)``.

    Returns:
        ``(N, M)``.
    """
    overlap = _shared(a[:, None, 0::2], b[:, 0::2]).mul_(_shared(a[:, None, 1::2], b[:, 1::2]))
    union = (_areas(a)[:, None] + _areas(b)).sub_(overlap).clamp_(min=LEAST_UNION)
    return overlap.div_(union)


def _shared(a: Tensor, b: Tensor) -> Tensor:
    """Returns the length that intervals ``(..., 2)`` share."""
    return torch.minimum(a[..., 1], b[..., 1]).sub_(torch.maximum(a[..., 0], b[..., 0])).clamp_(min=0)


def _areas(boxes: Tensor) -> Tensor:
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
