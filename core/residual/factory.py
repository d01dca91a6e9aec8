"""Building residual rules by name."""

from __future__ import annotations

from typing import Any

from core.registry import check_options, keyword_options
from core.residual.rule import Rule, RuleSpec
from core.residual.rules import RULES


def list_rules() -> list[str]:
    """Returns the names of all residual rules."""
    return list(RULES)


def rule_options(name: str) -> dict[str, Any]:
    """Returns the options of a rule and their defaults.

    Raises:
        ConfigError: There is no such rule.
    """
    return keyword_options(RULES[name])


def create_rule(
    name: str,
    *,
    channels: int | None = None,
    index: int = 1,
    depth: int = 1,
    dims: int = 2,
    history: tuple[int, ...] = (),
    **options: Any,
) -> Rule:
    """Builds a residual rule.

    Args:
        name: One of :func:`list_rules`.
        channels: Channels C of the stream after the block's shortcut; only some rules need it.
        index: Position of the block among all residual blocks, from 1.
        depth: Number of residual blocks in the network.
        dims: Spatial axes of the features ``(B, C, *spatial)``; 0 for plain features ``(B, C)``.
        history: Channels of the streams before each change of geometry up to this block's own, newest first.
        **options: The rule's own options, see :func:`rule_options`.

    Raises:
        ConfigError: The rule or an option is unknown, or a value is out of range.
    """
    options = check_options(f"residual rule {name!r}", rule_options(name), options)
    spec = RuleSpec(channels=channels, index=index, depth=depth, dims=dims, history=history)
    return RULES[name](spec, **options)
