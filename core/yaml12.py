"""YAML as configurations have it: version 1.2, in which ``no`` is a word and ``1e-3`` a number."""

from __future__ import annotations

import re
from typing import Any

import yaml


class _Loader(yaml.SafeLoader):
    """YAML 1.2 (core schema, section 10.3.2): ``yes``, ``no``, ``on`` and ``off`` are words, and 1e-3 is a number."""


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


def load_yaml(text: str) -> Any:
    """Returns the content of a YAML text. Raises ``yaml.YAMLError``."""
    return yaml.load(text, _Loader)
