"""The residual core: rules, blocks, backbones, training, tracking.

``from core import create_backbone, Residual`` loads torch; ``import core`` does not, so that command lines can read
their arguments first.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from core.backbones import create_backbone, create_features, list_backbones
    from core.residual import Residual, ResidualChain, Rule, create_rule, list_rules

__all__ = [
    "Residual",
    "ResidualChain",
    "Rule",
    "create_backbone",
    "create_features",
    "create_rule",
    "list_backbones",
    "list_rules",
]


def __getattr__(name: str) -> Any:
    if name in __all__:
        home = "core.backbones" if name.endswith(("backbone", "backbones", "features")) else "core.residual"
        return getattr(importlib.import_module(home), name)
    raise AttributeError(f"module 'core' has no attribute {name!r}")
