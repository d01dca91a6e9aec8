"""The residual sum with a factor that shrinks as the network gets deeper."""

from __future__ import annotations

from torch import Tensor

from core.errors import ConfigError
from core.residual.rule import PointwiseRule, RuleSpec


class DepthScaled(PointwiseRule):
    """``y = x + f / L^power`` in a network of ``L`` residual blocks.

    ``power`` 1/2 keeps the variance of the features bounded at any depth when branches are independent:
    "Tensor Programs VI: Feature Learning in Infinite-Depth Neural Networks", Yang et al., arXiv:2310.02244.
    ``power`` 1 makes the variance hardly grow at all: "On residual network depth", Dherin and Munn,
    arXiv:2510.03470, who also find that it loses accuracy against normalised networks.

    Args:
        spec: Where the rule stands in its network; ``depth`` is ``L``.
        power: 0.5 or 1 in the papers; 0 is the plain sum.

    Raises:
        ConfigError: ``power`` is negative.
    """

    def __init__(self, spec: RuleSpec, *, power: float = 0.5) -> None:
        super().__init__(spec)
        if power < 0:
            raise ConfigError(f"depth_scaled: power must be 0 or more, not {power}")
        self.scale = spec.depth**-power

    def forward(self, x: Tensor, update: Tensor) -> Tensor:
        """Returns the scaled sum, ``(B, C, *spatial)``."""
        return x + self.scale * update
