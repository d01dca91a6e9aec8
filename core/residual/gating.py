"""What the gates of the rule ``gated`` do in a model: how often they are open, what that saves, what it costs.

Everything is read through hooks that are removed afterwards: the model is not changed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from core.errors import ConfigError
from core.residual.residual import Residual
from core.residual.rules.gated import Gate


@dataclass(frozen=True)
class SavedMacs:
    """Multiply-accumulates of one batch.

    Attributes:
        by_block: What the closed gates of each block would save.
        total: All that the model computed, gates included.
    """

    by_block: dict[str, int]
    total: int

    @property
    def saved(self) -> int:
        """What all closed gates would save together."""
        return sum(self.by_block.values())

    @property
    def share(self) -> float:
        """The part of the whole that would be saved, 0 to 1."""
        return self.saved / self.total


class Collected:
    """The outputs of some modules in the order of the calls, for use as a forward hook."""

    def __init__(self) -> None:
        self.outputs: list[Tensor] = []

    def __call__(self, module: nn.Module, args: Any, output: Tensor) -> None:
        """Keeps an output."""
        self.outputs.append(output)

    def mean(self) -> Tensor:
        """Returns the mean over calls of the mean over samples, a scalar with gradient.

        Raises:
            ConfigError: The model has not run yet.
        """
        if not self.outputs:
            raise ConfigError("no gate has decided yet: run the model inside `with gate_cost(model)`")
        return torch.stack([output.mean() for output in self.outputs]).mean()


def gate_usage(model: nn.Module, *inputs: Any) -> dict[str, float]:
    """Returns the fraction of samples for which each gate is open, by the name of its block.

    Args:
        model: Has blocks with the rule ``gated``; runs once in evaluation mode, without gradients.
        *inputs: What the model takes.

    Raises:
        ConfigError: The model has no gates.
    """
    collected = {name: Collected() for name in _gated_blocks(model)}
    with _hooks([(gate, collected[name]) for name, (_, gate) in _gated_blocks(model).items()]):
        _evaluate(model, *inputs)
    return {name: outputs.mean().item() for name, outputs in collected.items() if outputs.outputs}


def saved_macs(model: nn.Module, *inputs: Any) -> SavedMacs:
    """Counts the multiply-accumulates of the branches behind closed gates, which need not be computed.

    Matrix products and convolutions are counted. Shortcuts and gates always run. A gated block
    inside the branch of another is counted in both.

    Args:
        model: Has blocks with the rule ``gated``; runs once in evaluation mode, without gradients.
        *inputs: What the model takes.

    Raises:
        ConfigError: The model has no gates.
    """
    with FlopCounterMode(display=False) as counter:
        usage = gate_usage(model, *inputs)
    counts = counter.get_flop_counts()

    def macs(name: str) -> int:
        # The counter names modules after the class of the outermost; an operation of it is two of its flops.
        path = ".".join(part for part in (type(model).__name__, name) if part)
        return sum(counts[path].values()) // 2 if path in counts else 0

    saved = {}
    for name, fraction in usage.items():
        prefix = f"{name}." if name else ""
        branch = macs(name) - macs(f"{prefix}downsample") - macs(f"{prefix}rule")
        saved[name] = round((1 - fraction) * branch)
    return SavedMacs(saved, counter.get_total_flops() // 2)


@contextmanager
def gate_cost(model: nn.Module) -> Iterator[Collected]:
    """Collects the probabilities of all gates while the model runs, for the cost of computation in the loss.

    SkipNet (arXiv:1711.09485) takes every block to cost the same. ``cost.mean()`` is then the
    expected share of blocks that are computed, with a gradient::

        with gate_cost(model) as cost:
            loss = criterion(model(x), target) + 0.1 * cost.mean()

    Raises:
        ConfigError: The model has no gates.
    """
    collected = Collected()
    with _hooks([(gate.probability, collected) for _, gate in _gated_blocks(model).values()]):
        yield collected


def _gated_blocks(model: nn.Module) -> dict[str, tuple[Residual, Gate]]:
    found = {
        name: (block, part)
        for name, block in model.named_modules()
        if isinstance(block, Residual)
        for part in block.rule.children()
        if isinstance(part, Gate)
    }
    if not found:
        raise ConfigError("the model has no gates: build it with the residual rule 'gated'")
    return found


@contextmanager
def _hooks(pairs: list[tuple[nn.Module, Collected]]) -> Iterator[None]:
    handles = [module.register_forward_hook(hook) for module, hook in pairs]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _evaluate(model: nn.Module, *inputs: Any) -> None:
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            model(*inputs)
    finally:
        for module, training in modes:
            module.training = training
