"""Residual rules, and the module in which a branch meets the stream."""

from __future__ import annotations

from core.residual.drop import DropPath, drop_path_rates
from core.residual.factory import create_rule, list_rules, rule_options
from core.residual.residual import Residual, ResidualChain
from core.residual.rule import PointwiseRule, Rule, RuleSpec

__all__ = [
    "DropPath",
    "PointwiseRule",
    "Residual",
    "ResidualChain",
    "Rule",
    "RuleSpec",
    "create_rule",
    "drop_path_rates",
    "list_rules",
    "rule_options",
]
