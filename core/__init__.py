"""The residual core: rules, training, tracking.

``from core import Residual, create_rule, list_rules`` loads torch; ``import core`` does not, so that command lines
can read their arguments first.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from core.residual import Residual, ResidualChain, Rule, create_rule, list_rules

__all__ = ["Residual", "ResidualChain", "Rule", "create_rule", "list_rules"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(importlib.import_module("core.residual"), name)
    raise AttributeError(f"module 'core' has no attribute {name!r}")
