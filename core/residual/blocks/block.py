"""The base of all blocks: a :class:`core.residual.Residual` whose branch is a method."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

from torch import Tensor, nn

from core.errors import ConfigError
from core.residual.blocks.spec import BlockSpec
from core.residual.residual import Residual


class Block(Residual):
    """A residual block of a backbone.

    A subclass takes the spec first and its own options as keywords with defaults, builds its layers with the
    spec's methods, and computes the update in :meth:`branch`. The sum, the shortcut, the rule, drop path and
    the last activation are the base's.

    Args:
        spec: Geometry, materials and place.
        last_act: Whether an activation follows the merge (the original, post-activation order).

    Raises:
        ConfigError: Dropout is asked of a block that has none, or the rule is unknown.
    """

    folds: ClassVar[tuple[tuple[str, str], ...]] = ()
    """Pairs (convolution, norm) of which the second reads nothing but the first, see ``core.compress.folding``."""

    uses_dropout: ClassVar[bool] = False
    """Whether the block has a place for ``spec.dropout``; others refuse it."""

    def __init__(self, spec: BlockSpec, last_act: bool = True) -> None:
        if spec.dropout and not self.uses_dropout:
            raise ConfigError("this block has no dropout between its layers; use drop_path or head_dropout")
        super().__init__(
            None,
            rule=spec.make_rule(),
            shortcut=spec.shortcut_layer(),
            act=spec.act_layer() if last_act else None,
            drop_path=spec.drop_path,
        )
        self.spec = spec

    @abstractmethod
    def branch(self, x: Tensor) -> Tensor:  # a method where Residual has a module
        """Maps ``(B, in_channels, *spatial)`` to the update ``(B, out_channels, *spatial / stride)``."""

    @abstractmethod
    def zero_init_last(self) -> None:
        """Sets the last layer of the branch to zero, so that the block begins as its shortcut."""


ABOVE_ZERO = 1e-6
"""What a branch that ends in a ReLU starts at in place of 0, where its gradient would be 0 for ever.

Single channels may still fall below 0 in the first steps and stay there.
"""


def nearly_zero_last(conv: nn.Module, norm: nn.Module) -> None:
    """As :func:`zero_last`, for layers before an activation: they give :data:`ABOVE_ZERO` whatever they read."""
    zero_last(conv, norm)
    layer = norm if getattr(norm, "weight", None) is not None else conv
    if layer.bias is not None:
        nn.init.constant_(layer.bias, ABOVE_ZERO)  # type: ignore[arg-type]


def zero_last(conv: nn.Module, norm: nn.Module) -> None:
    """Zeroes the scale of a branch's last norm, or the convolution before it if there is no such scale."""
    layer = norm if getattr(norm, "weight", None) is not None else conv
    nn.init.zeros_(layer.weight)  # type: ignore[arg-type]
    if layer is conv and conv.bias is not None:
        nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
