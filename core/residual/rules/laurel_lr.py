"""The residual sum with a learned low-rank map on the shortcut."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from core import nd
from core.errors import ConfigError
from core.residual.rule import PointwiseRule, RuleSpec


class LaurelLR(PointwiseRule):
    """``y = f + x + A (B x)`` with ``A`` of C x R, 0 at the start, and ``B`` of R x C.

    The low-rank form of "LAuReL: Learned Augmented Residual Layer", Menghani et al., arXiv:2411.07501. Both
    matrices act on channels: 1x1 convolutions where there is space, linear layers where there is none.

    Args:
        spec: Where the rule stands in its network; needs ``channels``.
        rank: ``R``.

    Raises:
        ConfigError: ``rank`` is below 1.
    """

    plain_at_init: ClassVar[bool] = True

    def __init__(self, spec: RuleSpec, *, rank: int = 8) -> None:
        super().__init__(spec)
        if rank < 1:
            raise ConfigError(f"laurel_lr: rank must be 1 or more, not {rank}")
        self.rank = rank
        self.down = nd.pointwise(spec.dims, spec.width, rank)
        self.up = nd.pointwise(spec.dims, rank, spec.width)
        nn.init.zeros_(self.up.weight)

    def forward(self, x: Tensor, update: Tensor) -> Tensor:
        """Returns the augmented sum, ``(B, C, *spatial)``."""
        return x + update + self.up(self.down(x))

    def parameter_formula(self) -> int:
        """``2 R C``."""
        return 2 * self.rank * self.spec.width
