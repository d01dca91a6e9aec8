"""Mean 0 and deviation 1 around a network, and back."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

AXES = {"sample": (1, 2), "batch": (0, 1, 2), "none": ()}
"""Over which axes of ``(B, T, 2K)`` there is one mean and one deviation."""

EPS = 1e-6


def standardised(network: Callable[[Tensor], Tensor], x: Tensor, mode: str) -> Tensor:
    """Returns ``std * network((x - mean) / std) + mean``.

    With ``sample`` a prediction does not depend on what else is in the batch, and scales with its history. With
    ``batch``, as in the released code of CSI-4CAST, it depends on the whole batch, also after training.

    Args:
        network: Maps ``(B, T, F)`` to ``(B, H, F)``.
        x: Histories ``(B, T, F)``.
        mode: One of ``AXES``.
    """
    axes = AXES[mode]
    if not axes:
        return network(x)
    mean = x.mean(axes, keepdim=True)
    std = x.std(axes, correction=0, keepdim=True).clamp(min=EPS)
    return network((x - mean) / std) * std + mean
