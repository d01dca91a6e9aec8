"""YAML as configurations have it: version 1.2, in which ``no`` is a word and ``1e-3`` a number."""

from __future__ import annotations

import re
from typing import Any

import yaml
from yaml.composer import ComposerError

LARGEST = 1_000_000
"""Values in a file."""


class _Loader(yaml.SafeLoader):
    """YAML 1.2 (core schema, section 10.3.2): ``yes``, ``no``, ``on`` and ``off`` are words, and 1e-3 is a number.

    Aliases that stand for more than ``LARGEST`` values are refused: ten lines of them can stand for billions.
    """

    def __init__(self, stream: str | bytes) -> None:
        super().__init__(stream)
        self._sizes: dict[int, int] = {}

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Reads a value, and counts how many it holds when the aliases in it are written out."""
        alias, mark = self.check_event(yaml.AliasEvent), self.peek_event().start_mark
        node = super().compose_node(parent, index)
        if alias or node is None:
            if node is not None and id(node) not in self._sizes:
                raise ComposerError(None, None, "a value holds itself", mark)
            return node
        parts: list[Any] = node.value if isinstance(node, yaml.SequenceNode) else []
        if isinstance(node, yaml.MappingNode):
            parts = [part for pair in node.value for part in pair]
        self._sizes[id(node)] = 1 + sum(self._sizes[id(part)] for part in parts)
        if self._sizes[id(node)] > LARGEST:
            raise ComposerError(None, None, f"it stands for more than {LARGEST} values", mark)
        return node


_Loader.yaml_implicit_resolvers = {
    first: [pair for pair in pairs if pair[0].split(":")[-1] not in ("bool", "float", "timestamp")]
    for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile("^(true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"^([-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))$"
    ),
    list("-+.0123456789"),
)


def load_yaml(text: str | bytes) -> Any:
    """Returns the content of a YAML text. Raises ``yaml.YAMLError``."""
    try:
        return yaml.load(text, _Loader)
    except RecursionError:
        raise yaml.YAMLError("it is nested too deeply") from None
