"""What both kinds of pruning share: the graph of coupled layers, and the record of what was removed.

The graph is that of torch-pruning: "DepGraph: Towards Any Structural Pruning", Fang et al., arXiv:2301.12900.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from core.errors import ConfigError
from core.registry import nearest

Inputs = Tensor | tuple[Tensor, ...]


@dataclass(frozen=True)
class Pruned:
    """A smaller copy of a model.

    Attributes:
        model: The copy; training flags and frozen parameters are as they were.
        removed: Layer name to the number of output channels that it lost.
        skipped: Layer name to the reason why its outputs were left alone.
        parameters: Number of parameters before and after.
    """

    model: nn.Module
    removed: dict[str, int]
    skipped: dict[str, str] = field(default_factory=dict)
    parameters: tuple[int, int] = (0, 0)


def require_torch_pruning() -> ModuleType:
    """Imports torch-pruning. Raises ``ConfigError`` if it is not installed."""
    try:
        import torch_pruning
    except ImportError:
        raise ConfigError("pruning needs torch-pruning: pip install 'skipway[compress]'") from None
    return torch_pruning


def check_fraction(name: str, value: float) -> None:
    """Raises ``ConfigError`` if a share of channels is not between 0 and 1."""
    if not 0 < value < 1:
        raise ConfigError(f"{name} must be between 0 and 1, not {value}")


def run(model: nn.Module, inputs: Inputs) -> Any:
    """Calls a model with one tensor or a tuple of arguments."""
    return model(*inputs) if isinstance(inputs, tuple) else model(inputs)


@contextmanager
def pruning_copy(model: nn.Module) -> Iterator[nn.Module]:
    """Gives a copy of a model whose graph can be traced; at the end its flags are those of the original.

    Tracing follows gradients, so frozen parameters need one for a while, and evaluation mode. Warnings of
    torch-pruning about parameters outside of known layers are silenced: they are handled here.
    """
    clone = copy.deepcopy(model).requires_grad_(True).eval()
    with warnings.catch_warnings(), torch.enable_grad():
        warnings.filterwarnings("ignore", module="torch_pruning")
        yield clone
    for name, parameter in model.named_parameters():
        clone.get_parameter(name).requires_grad_(parameter.requires_grad)
    for one, other in zip(model.modules(), clone.modules(), strict=True):
        other.training = one.training
    clone.zero_grad(set_to_none=True)


def named_layers(model: nn.Module) -> dict[str, nn.Module]:
    """Returns the convolutions and linear layers of a model by name."""
    ops = require_torch_pruning().ops
    kinds = (ops.TORCH_CONV, ops.TORCH_LINEAR)
    return {name: module for name, module in model.named_modules() if isinstance(module, kinds)}


def pick(layers: dict[str, nn.Module], names: tuple[str, ...], what: str) -> list[nn.Module]:
    """Returns the layers with the given names. Raises ``ConfigError`` for an unknown one."""
    for name in names:
        if name not in layers:
            raise ConfigError(
                f"{what}: there is no convolution or linear layer {name!r}.{nearest(name, layers)}"
            )
    return [layers[name] for name in names]


def width(layer: nn.Module) -> int:
    """Returns the output channels of a convolution or linear layer."""
    return int(layer.out_features if isinstance(layer, nn.Linear) else getattr(layer, "out_channels"))  # noqa: B009


def summary(original: nn.Module, clone: nn.Module, skipped: dict[str, str]) -> Pruned:
    """Compares a pruned copy with its original.

    Raises:
        ConfigError: Nothing was removed; says why.
    """
    after = named_layers(clone)
    lost = {name: width(layer) - width(after[name]) for name, layer in named_layers(original).items()}
    removed = {name: count for name, count in lost.items() if count}
    if not removed:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in list(skipped.items())[:4])
        raise ConfigError(f"no channel can be pruned in this model ({reasons or 'the share is too small'})")
    sizes = [sum(parameter.numel() for parameter in model.parameters()) for model in (original, clone)]
    return Pruned(clone, removed, skipped, (sizes[0], sizes[1]))
