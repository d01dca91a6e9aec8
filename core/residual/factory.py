"""Building residual rules by name."""

from __future__ import annotations

import inspect
from typing import Any

from core.errors import ConfigError
from core.registry import nearest
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
    parameters = inspect.signature(RULES[name]).parameters.values()
    return {option.name: option.default for option in parameters if option.kind is option.KEYWORD_ONLY}


def create_rule(
    name: str,
    *,
    channels: int | None = None,
    index: int = 1,
    depth: int = 1,
    dims: int = 2,
    **options: Any,
) -> Rule:
    """Builds a residual rule.

    Args:
        name: One of :func:`list_rules`.
        channels: Channels C of the stream after the block's shortcut; only some rules need it.
        index: Position of the block among all residual blocks, from 1.
        depth: Number of residual blocks in the network.
        dims: Spatial axes of the features ``(B, C, *spatial)``; 0 for plain features ``(B, C)``.
        **options: The rule's own options, see :func:`rule_options`.

    Raises:
        ConfigError: The rule or an option is unknown, or a value is out of range.
    """
    known = rule_options(name)
    for option, value in options.items():
        if option not in known:
            allowed = f"Options: {', '.join(known)}" if known else "It has no options"
            raise ConfigError(
                f"residual rule {name!r} has no option {option!r}.{nearest(option, known)} {allowed}"
            )
        wanted = type(known[option])
        if not isinstance(value, (int, float) if wanted is float else wanted) or isinstance(value, bool):
            raise ConfigError(f"residual rule {name!r}: {option} takes {wanted.__name__}, not {value!r}")
    spec = RuleSpec(channels=channels, index=index, depth=depth, dims=dims)
    return RULES[name](spec, **options)
