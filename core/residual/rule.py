"""The protocol of residual rules: how the output of a branch joins the stream it was computed from.

A network of residual blocks carries a *stream*. A block asks its rule what the branch reads
(:meth:`Rule.prepare`), runs the branch, and gives the branch's output, the *update*, back
(:meth:`Rule.merge`). Two kinds of rule share that one call site:

* pointwise rules, whose stream is the feature tensor itself and which are a function ``y = rule(x, update)``;
* stream and history rules, whose stream holds more than one tensor (parallel copies, or earlier features).

A stream is one tensor or a list of tensors, never a tuple: a tuple is how a block returns side outputs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from core.errors import ConfigError


@dataclass(frozen=True)
class RuleSpec:
    """Where a rule stands in its network; every rule is built from one.

    Attributes:
        channels: Channels C of the stream after the block's shortcut; only rules with one weight per channel
            need it.
        index: Position l of the block among all residual blocks, from 1 to ``depth``.
        depth: Number L of residual blocks in the network.
        dims: Spatial axes of the features ``(B, C, *spatial)``, 0 to 3; 0 means plain features ``(B, C)``.
        history: Channels of the streams before each shortcut up to this block's own that changed the geometry,
            newest first; only rules that reach across stages need it.

    Raises:
        ConfigError: A number is out of its range.
    """

    channels: int | None = None
    index: int = 1
    depth: int = 1
    dims: int = 2
    history: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.dims not in (0, 1, 2, 3):
            raise ConfigError(f"dims of a residual rule must be 0, 1, 2 or 3, not {self.dims!r}")
        if not 1 <= self.index <= self.depth:
            raise ConfigError(f"residual block {self.index} of {self.depth}: index must be 1 to depth")
        if self.channels is not None and self.channels < 1:
            raise ConfigError(f"channels of a residual rule must be 1 or more, not {self.channels}")

    @property
    def width(self) -> int:
        """``channels``, for rules that cannot do without; raises ``ConfigError`` when it was not given."""
        if self.channels is None:
            raise ConfigError("this residual rule has one weight per channel: give `channels`")
        return self.channels


class Rule(nn.Module, ABC):
    """Base of all residual rules.

    Subclasses take ``spec`` first and their own options as keywords with defaults. They never change a tensor
    in place: the branch's output and the stream are both needed for the gradient and by other rules.

    Args:
        spec: Where the rule stands in its network.
    """

    identity_at_init: ClassVar[bool] = False
    """A new rule with default options gives ``y = x`` in evaluation mode, to within 1e-5 of the update."""
    plain_at_init: ClassVar[bool] = False
    """A new rule with default options gives exactly ``y = x + update`` in evaluation mode."""

    def __init__(self, spec: RuleSpec) -> None:
        super().__init__()
        self.spec = spec

    def open(self, x: Tensor) -> Any:
        """Starts a chain of residual blocks: turns features ``(B, C, *spatial)`` into a stream."""
        return x

    def reopen(self, x: Tensor, stream: Any) -> Any:
        """Starts the next chain where a shortcut changed the geometry.

        Args:
            x: The shortcut's output ``(B, C, *spatial)``.
            stream: The stream before the shortcut, in the old geometry. Most rules forget it.
        """
        return self.open(x)

    def close(self, stream: Any) -> Tensor:
        """Ends a chain of residual blocks: turns a stream back into features ``(B, C, *spatial)``."""
        return stream

    @abstractmethod
    def prepare(self, stream: Any) -> tuple[Tensor, Any]:
        """Returns what the branch reads, ``(B, C, *spatial)``, and the state that :meth:`merge` needs."""

    @abstractmethod
    def merge(self, update: Tensor, state: Any) -> Any:
        """Joins the branch's output ``(B, C, *spatial)`` and the state into the next stream."""

    def activate(self, act: Callable[[Tensor], Tensor], stream: Any) -> Any:
        """Applies a block's last activation to what the block has just made.

        Rules whose stream is not one tensor override it, so that earlier features are not activated twice.
        """
        return act(stream)

    def parameter_formula(self) -> int:
        """Number of learned values that the paper gives for one block; 0 unless a rule says otherwise."""
        return 0


class PointwiseRule(Rule):
    """A rule ``y = rule(x, update)`` on the features themselves; subclasses define :meth:`forward` alone.

    ``x`` is the shortcut, already projected where the block changes width or resolution.
    """

    @abstractmethod
    def forward(self, x: Tensor, update: Tensor) -> Tensor:
        """Returns ``y`` from the shortcut ``x`` and the branch's ``update``, all ``(B, C, *spatial)``."""

    def prepare(self, stream: Tensor) -> tuple[Tensor, Tensor]:
        """Gives the features to the branch and keeps them for :meth:`merge`."""
        return stream, stream

    def merge(self, update: Tensor, state: Tensor) -> Tensor:
        """Calls the rule."""
        return self(state, update)


def per_channel(weight: Tensor, ndim: int) -> Tensor:
    """Views a weight ``(C,)`` as ``(C, 1, ...)``, for products with ``(B, C, *spatial)`` of ``ndim`` axes."""
    return weight.reshape(-1, *(1,) * (ndim - 2))
