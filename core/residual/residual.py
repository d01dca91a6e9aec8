"""The one place where a branch meets the stream."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

from torch import Tensor, nn

from core.residual.drop import DropPath
from core.residual.factory import create_rule
from core.residual.rule import Rule


def split_side(output: Any) -> tuple[Any, tuple[Any, ...]]:
    """Separates what a branch or a block returns into its update or stream, and its side outputs if any."""
    if isinstance(output, tuple):
        return output[0], output[1:]
    return output, ()


class Residual(nn.Module):
    """A branch, and the rule that joins its output to the stream it reads.

    In order: the rule prepares the branch's input, the branch runs, drop path may zero its update, the
    shortcut projects what the update is joined to, the rule merges, the activation ends the block.

    A branch may return a tuple ``(update, *side)``; the side outputs leave the block untouched. With
    ``update = -backcast`` and ``side = forecast`` this is the doubly residual block of N-BEATS (Oreshkin et
    al., arXiv:1905.10437).

    A shortcut changes the geometry of the stream, so that whatever a rule keeps from earlier blocks no longer
    fits. It therefore ends one chain and begins the next: the branch reads ``x = rule.close(stream)`` and its
    update is merged into ``rule.open(shortcut(x))``. For pointwise rules, whose open and close do nothing,
    this is ``rule(shortcut(x), branch(x))``.

    Args:
        branch: Maps ``(B, C, *spatial)`` to an update in the shape that the shortcut gives.
        rule: Name of a rule with default options, or a rule.
        shortcut: Projection where the branch changes width or resolution; ``None`` keeps the stream.
        act: Activation after the merge, as in the original (post-activation) ResNet; ``None`` for none.
        drop_path: Probability that a sample's update is dropped in training.
        channels: Channels after the shortcut, for a rule given by name.
        index: Position of the block among all residual blocks from 1, for a rule given by name.
        depth: Number of residual blocks in the network, for a rule given by name.
        dims: Spatial axes, 0 to 3, for a rule given by name.

    Raises:
        ConfigError: The rule is unknown, or a value is out of range.
    """

    def __init__(
        self,
        branch: nn.Module,
        rule: str | Rule = "add",
        shortcut: nn.Module | None = None,
        act: nn.Module | None = None,
        drop_path: float = 0.0,
        channels: int | None = None,
        index: int = 1,
        depth: int = 1,
        dims: int = 2,
    ) -> None:
        super().__init__()
        if isinstance(rule, str):
            rule = create_rule(rule, channels=channels, index=index, depth=depth, dims=dims)
        self.branch = branch
        self.rule = rule
        self.shortcut = shortcut
        self.drop_path = DropPath(drop_path) if drop_path else nn.Identity()
        self.act = act

    def forward(self, stream: Any) -> Any:
        """Returns the next stream, or ``(stream, *side)`` when the branch has side outputs.

        For pointwise rules the stream is a tensor ``(B, C, *spatial)``.
        """
        if self.shortcut is None:
            branch_input, state = self.rule.prepare(stream)
        else:
            branch_input = self.rule.close(stream)
            _, state = self.rule.prepare(self.rule.open(self.shortcut(branch_input)))
        update, side = split_side(self.branch(branch_input))
        stream = self.rule.merge(self.drop_path(update), state)
        if self.act is not None:
            stream = self.rule.activate(self.act, stream)
        return (stream, *side) if side else stream


class ResidualChain(nn.Module):
    """Residual blocks in a row, between the opening and the closing of their stream.

    Pointwise rules work in any container; stream and history rules need this one, or the same two calls.

    Args:
        blocks: At least one block; all carry the same kind of stream.
    """

    def __init__(self, blocks: Iterable[Residual]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x: Tensor) -> Any:
        """Maps features to features, ``(B, C, *spatial)``.

        Side outputs follow in the order of the blocks: ``(x, *side of the first block, ..., *of the last)``.
        """
        blocks = cast("list[Residual]", list(self.blocks))
        stream = blocks[0].rule.open(x)
        sides: list[Any] = []
        for block in blocks:
            stream, side = split_side(block(stream))
            sides.extend(side)
        x = blocks[-1].rule.close(stream)
        return (x, *sides) if sides else x
