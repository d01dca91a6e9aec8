"""Making trained models smaller and faster: folding, low-rank storage, variance-based and structured pruning.

Importing this package loads nothing heavy; torch-pruning, from the extra ``compress``, is imported by the
functions that need it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from core.compress.folding import deploy as deploy
    from core.compress.folding import deployed as deployed
    from core.compress.graph import Pruned as Pruned
    from core.compress.lowrank import decode as decode
    from core.compress.lowrank import encode as encode
    from core.compress.lowrank import tensor_bytes as tensor_bytes
    from core.compress.structured import prune_channels as prune_channels
    from core.compress.variance import prune_variance as prune_variance

_MODULES = {
    "deploy": "folding",
    "deployed": "folding",
    "Pruned": "graph",
    "decode": "lowrank",
    "encode": "lowrank",
    "tensor_bytes": "lowrank",
    "prune_channels": "structured",
    "prune_variance": "variance",
}


def __getattr__(name: str) -> Any:
    """Imports a public name at its first use."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
