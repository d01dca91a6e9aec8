"""The residual sum without the part of the update that points along the stream."""

from __future__ import annotations

import torch
from torch import Tensor

from core.errors import ConfigError
from core.residual.rule import PointwiseRule, RuleSpec

SCOPES = ("feature", "global")


class Orthogonal(PointwiseRule):
    """``y = x + f - s x`` with ``s = <x, f> / (<x, x> + eps)``.

    "Revisiting Residual Connections: Orthogonal Updates for Stable and Efficient Deep Networks", Oh et al.,
    arXiv:2505.11881. As in the authors' code ``eps`` is added to the denominator. The projection is formed in
    float32 or better and the update is cast back: in bfloat16 what is left along ``x`` is not small.

    Args:
        spec: Where the rule stands in its network.
        scope: Axes of the inner products: ``feature`` takes the channels of each position, ``global``
            everything but the batch.
        eps: Keeps ``s`` finite; a zero ``x`` gives ``y = f``.

    Raises:
        ConfigError: ``scope`` is unknown or ``eps`` is not positive.
    """

    def __init__(self, spec: RuleSpec, *, scope: str = "feature", eps: float = 1e-6) -> None:
        super().__init__(spec)
        if scope not in SCOPES:
            raise ConfigError(f"orthogonal: scope must be one of {', '.join(SCOPES)}, not {scope!r}")
        if eps <= 0:
            raise ConfigError(f"orthogonal: eps must be positive, not {eps}")
        self.scope = scope
        self.eps = eps

    def forward(self, x: Tensor, update: Tensor) -> Tensor:
        """Returns the sum with the orthogonal update, ``(B, C, *spatial)``."""
        axes = (1,) if self.scope == "feature" else tuple(range(1, x.ndim))
        exact = torch.promote_types(x.dtype, torch.float32)
        wide, full = x.to(exact), update.to(exact)
        along = (wide * full).sum(axes, keepdim=True) / ((wide * wide).sum(axes, keepdim=True) + self.eps)
        return x + (full - along * wide).to(update.dtype)
