"""The one place where a branch meets the stream."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

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
    update is merged into ``rule.reopen(shortcut(x), stream)``. For pointwise rules this is
    ``rule(shortcut(x), branch(x))``.

    A block of a network derives from this class and gives its branch as a method, so that its layers keep the
    names that published weights have (:mod:`core.residual.blocks`).

    Args:
        branch: Maps ``(B, C, *spatial)`` to an update in the shape that the shortcut gives; ``None`` if the
            class has a method ``branch``.
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

    branch: Callable[[Tensor], Any]

    def __init__(
        self,
        branch: nn.Module | None,
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
        if branch is not None:
            self.branch = branch
        self.downsample = shortcut  # named as in torchvision and timm, whose weights have to fit
        self.rule = rule
        self.drop_path = DropPath(drop_path) if drop_path else nn.Identity()
        self.act = act

    def shared(self, x: Tensor) -> Tensor:
        """What branch and shortcut both read where there is a shortcut, ``(B, C, *spatial)``.

        Pre-activation blocks apply their first norm and activation here (He et al., arXiv:1603.05027).
        """
        return x

    def forward(self, stream: Any) -> Any:
        """Returns the next stream, or ``(stream, *side)`` when the branch has side outputs.

        For pointwise rules the stream is a tensor ``(B, C, *spatial)``.
        """
        if self.downsample is None:
            branch_input, state = self.rule.prepare(stream)
        else:
            branch_input = self.shared(self.rule.close(stream))
            _, state = self.rule.prepare(self.rule.reopen(self.downsample(branch_input), stream))
        update, side = split_side(self.branch(branch_input))
        stream = self.rule.merge(self.drop_path(update), state)
        if self.act is not None:
            stream = self.rule.activate(self.act, stream)
        return (stream, *side) if side else stream


class ResidualChain(nn.ModuleList):
    """Residual blocks in a row, between the opening and the closing of their stream.

    Pointwise rules work in any container; stream and history rules need this one. A module that is not a
    residual block, such as an inverted residual that changes its width, closes the stream before it.

    Args:
        blocks: Residual blocks that carry the same kind of stream, and modules between them.
    """

    def __init__(self, blocks: Iterable[nn.Module]) -> None:
        super().__init__(blocks)

    def forward(self, x: Tensor) -> Any:
        """Maps features to features, ``(B, C, *spatial)``.

        Side outputs follow in the order of the blocks: ``(x, *side of the first block, ..., *of the last)``.
        """
        stream, rule, sides = self.run(x)
        x = stream if rule is None else rule.close(stream)
        return (x, *sides) if sides else x

    def run(self, stream: Any, rule: Rule | None = None) -> tuple[Any, Rule | None, list[Any]]:
        """Runs the blocks on a stream that a chain before this one may have left open.

        Args:
            stream: Features ``(B, C, *spatial)``, or what the chain before returned.
            rule: The rule that can close the stream; ``None`` for features.

        Returns:
            The stream, the rule that closes it (``None``: these are features), and the side outputs.
        """
        sides: list[Any] = []
        for block in self:
            if isinstance(block, Residual):
                stream, side = split_side(block(stream if rule is not None else block.rule.open(stream)))
                sides.extend(side)
                rule = block.rule
            else:
                stream = block(stream if rule is None else rule.close(stream))
                rule = None
        return stream, rule, sides
