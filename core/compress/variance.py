"""Variance-based pruning: hidden units that hardly vary are replaced by their mean.

"Variance-Based Pruning for Accelerating and Compressing Trained Networks", Berisha, Mehnert and Condurache,
arXiv:2507.12988.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from core.compress.graph import (
    Inputs,
    Pruned,
    check_fraction,
    named_layers,
    pick,
    pruning_copy,
    require_torch_pruning,
    run,
    summary,
    width,
)
from core.errors import ConfigError, DataError


@dataclass
class Hidden:
    """The hidden units between two layers.

    Attributes:
        producer: Layer whose outputs they are.
        consumer: The only layer that reads them.
        columns: Input channels of the consumer that each unit fills; several after a flattening.
    """

    producer: nn.Module
    consumer: nn.Module
    columns: list[list[int]]


class Moments:
    """Mean and variance of what a layer reads, for each input channel, over all batches.

    Batches are merged by the pairwise update of Chan, Golub and LeVeque (1983), in double precision.

    Args:
        axis: Axis of the channels.
    """

    def __init__(self, axis: int) -> None:
        self.axis, self.count, self.calls = axis, 0, 0
        self.mean = self.squares = torch.zeros(())

    def __call__(self, layer: nn.Module, args: tuple[Tensor, ...]) -> None:
        """Adds what the layer is about to read, ``(B, C, *spatial)`` or ``(B, ..., C)``."""
        rows = args[0].detach().movedim(self.axis, -1).flatten(0, -2).double()
        mean = rows.mean(0)
        squares = (rows - mean).square().sum(0)
        total = self.count + len(rows)
        shift = mean - self.mean.to(mean)
        self.squares = self.squares.to(mean) + squares + shift.square() * (self.count * len(rows) / total)
        self.mean = self.mean.to(mean) + shift * (len(rows) / total)
        self.count, self.calls = total, self.calls + 1

    @property
    def variance(self) -> Tensor:
        """Variance of each channel, ``(C,)``."""
        return self.squares / self.count


def prune_variance(
    model: nn.Module,
    batches: Iterable[Any],
    fraction: float,
    *,
    global_ranking: bool = False,
    layers: Sequence[str] = (),
) -> Pruned:
    """Removes the hidden units of smallest variance and adds their mean to the bias of the next layer.

    Units stand between a producer, a linear layer or convolution with whatever acts on each channel by itself
    behind it (norm, activation, depthwise convolution, pooling), and its only consumer, a linear layer or
    convolution. Mean and variance are those of what the consumer reads, in evaluation mode. Where a unit is
    constant on the data, the output on it stays the same; the bias is created if the consumer has none.

    Left alone are units that a residual sum ties to other layers, that several layers read, or that reach a
    convolution with zero padding: at the borders it reads zeros instead of the mean, so that no bias replaces
    the unit.

    Args:
        model: Any model that can be traced; it stays as it is.
        batches: Inputs ``(B, ...)``, or tuples such as ``(inputs, targets)`` of which the first entry is taken.
        fraction: Share of the units that goes, in (0, 1); every layer keeps one.
        global_ranking: Ranks the units of all layers together instead of each layer by itself.
        layers: Names of the producers; all that can be pruned if empty.

    Raises:
        ConfigError: An argument is out of range, a named layer cannot be pruned, or none can.
        DataError: There are no batches.
    """
    check_fraction("fraction", fraction)
    tp = require_torch_pruning()
    inputs = [batch[0] if isinstance(batch, (tuple, list)) else batch for batch in batches]
    if not inputs:
        raise DataError("variance-based pruning needs at least one batch of calibration data")
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    example = inputs[0][:2].to(device)
    with pruning_copy(model) as clone:
        named = named_layers(clone)
        names = {layer: name for name, layer in named.items()}
        wanted = pick(named, tuple(layers), "layers") or list(names)
        graph = tp.DependencyGraph().build_dependency(clone, example, verbose=False)
        found, skipped = _find(graph, tp, names, clone, example)
        if refused := [names[layer] for layer in wanted if layers and names[layer] in skipped]:
            raise ConfigError(f"layer {refused[0]} cannot be pruned: {skipped[refused[0]]}")
        found = [hidden for hidden in found if hidden.producer in wanted]
        moments = _measure(clone, [batch.to(device) for batch in inputs], found)
        chosen = _choose(found, moments, fraction, global_ranking)
        with torch.no_grad():
            for hidden, record, units in zip(found, moments, chosen, strict=True):
                if units:
                    _fold(hidden, record.mean, units)
                    remove = graph.get_pruner_of_module(hidden.producer).prune_out_channels
                    graph.get_pruning_group(hidden.producer, remove, units).prune()
            run(clone, example)
    return summary(model, clone, skipped)


def _find(
    graph: Any, tp: Any, names: dict[nn.Module, str], model: nn.Module, example: Inputs
) -> tuple[list[Hidden], dict[str, str]]:
    """Returns what can be pruned, and the reasons for the rest."""
    found: list[Hidden] = []
    skipped: dict[str, str] = {}
    calls = _count_calls(model, example, list(names))
    for group in graph.get_all_groups(root_module_types=[tp.ops.TORCH_CONV, tp.ops.TORCH_LINEAR]):
        producer = group[0].dep.target.module
        if _depthwise(producer):  # the units come from the layer before
            outputs = [dep.target.module for dep, _ in group if graph.is_out_channel_pruning_fn(dep.handler)]
            producer = next(
                (layer for layer in outputs if layer in names and not _depthwise(layer)), producer
            )
            remove = graph.get_pruner_of_module(producer).prune_out_channels
            group = graph.get_pruning_group(producer, remove, list(range(width(producer))))
        hidden = _inspect(group, graph, tp.ops, names)
        if isinstance(hidden, Hidden):
            if calls[producer] != 1 or calls[hidden.consumer] != 1:
                hidden = "it or the layer that reads it is used more than once"
            elif not _separable(model, example, hidden):
                hidden = "what lies behind it mixes channels"
        if isinstance(hidden, Hidden):
            found.append(hidden)
        else:
            skipped[names[producer]] = hidden
    for layer, name in names.items():
        if name not in skipped and all(layer is not hidden.producer for hidden in found):
            skipped[name] = "it is tied to other layers"
    return found, skipped


def _inspect(group: Any, graph: Any, ops: Any, names: dict[nn.Module, str]) -> Hidden | str:
    """Returns the hidden units that a group of coupled layers stands for, or why it cannot be pruned."""
    producer = group[0].dep.target.module
    readers = []
    for item in group:
        dep, module = item.dep, item.dep.target.module
        gives = graph.is_out_channel_pruning_fn(dep.handler)
        if isinstance(module, ops._OutputOp):
            return "it reaches the model's output"
        if isinstance(module, (nn.Parameter, ops._ConcatOp, ops._SplitOp, ops._SliceOp, ops._UnbindOp)):
            return "it is tied to other tensors (a parameter, a concatenation or a part)"
        if isinstance(module, ops.TORCH_GROUPNORM):
            return "a group norm reads it"
        if module not in names or module is producer:
            continue
        if gives and not _depthwise(module):
            return f"a sum ties it to {names[module]}"
        if not gives:
            readers.append(item)
    if len(readers) != 1:
        return "it gives the model's output" if not readers else f"{len(readers)} layers read it"
    consumer = readers[0].dep.target.module
    if reason := _unfit(consumer):
        return f"{names[consumer]}, which reads it, {reason}"
    columns: list[list[int]] = [[] for _ in range(width(producer))]
    for unit, column in zip(readers[0].root_idxs, readers[0].idxs, strict=True):
        if unit is None:
            return "its channels cannot be followed"
        columns[unit].append(column)
    return Hidden(producer, consumer, columns)


def _depthwise(layer: Any) -> bool:
    return not isinstance(layer, nn.Linear) and layer.groups == layer.in_channels == layer.out_channels


def _unfit(layer: Any) -> str:
    """Why a mean cannot be folded into a layer's bias; empty if it can."""
    if isinstance(layer, nn.Linear):
        return ""
    if layer.transposed or layer.groups != 1:
        return "is a transposed or grouped convolution"
    if layer.padding_mode != "zeros" or layer.padding == "valid":
        return ""
    padded = any(k > 1 for k in layer.kernel_size) if layer.padding == "same" else any(layer.padding)
    return "pads with zeros, where no bias can stand for the mean" if padded else ""


def _count_calls(model: nn.Module, example: Inputs, layers: list[nn.Module]) -> dict[nn.Module, int]:
    calls = dict.fromkeys(layers, 0)

    def count(layer: nn.Module, args: Any) -> None:
        calls[layer] += 1

    hooks = [layer.register_forward_pre_hook(count) for layer in layers]
    with torch.no_grad():
        run(model, example)
    for hook in hooks:
        hook.remove()
    return calls


def _separable(model: nn.Module, example: Inputs, hidden: Hidden) -> bool:
    """Tries whether other values of some units leave what the consumer reads of the others as it is."""
    axis = _axis(hidden.producer)
    seen: list[Tensor] = []

    def change(layer: nn.Module, args: Any, output: Tensor) -> Tensor:
        noise = (
            torch.arange(output.numel(), device=output.device).to(output.dtype).sin().reshape(output.shape)
        )
        odd = torch.arange(output.shape[axis], device=output.device) % 2
        noise = (noise.movedim(axis, -1) * odd).movedim(-1, axis)
        return output + noise * (1 + output.abs().max())

    def look(layer: nn.Module, args: tuple[Tensor, ...]) -> None:
        seen.append(args[0].detach().movedim(_axis(layer), -1))

    with torch.no_grad():
        hooks = [hidden.consumer.register_forward_pre_hook(look)]
        run(model, example)
        hooks.append(hidden.producer.register_forward_hook(change))
        run(model, example)
    for hook in hooks:
        hook.remove()
    even = [column for columns in hidden.columns[::2] for column in columns]
    before, after = (tensor[..., even] for tensor in seen)
    return bool(torch.allclose(before, after, rtol=1e-4, atol=1e-6 * max(1.0, before.abs().max().item())))


def _axis(layer: nn.Module) -> int:
    return -1 if isinstance(layer, nn.Linear) else 1


def _measure(model: nn.Module, inputs: list[Tensor], found: list[Hidden]) -> list[Moments]:
    moments = [Moments(_axis(hidden.consumer)) for hidden in found]
    hooks = [
        hidden.consumer.register_forward_pre_hook(record)
        for hidden, record in zip(found, moments, strict=True)
    ]
    with torch.no_grad():
        for batch in inputs:
            run(model, batch)
    for hook in hooks:
        hook.remove()
    return moments


def _choose(found: list[Hidden], moments: list[Moments], fraction: float, together: bool) -> list[list[int]]:
    """Returns the units of each layer that go."""
    scores = [
        torch.stack([record.variance[columns].mean() for columns in hidden.columns]).cpu()
        for hidden, record in zip(found, moments, strict=True)
    ]
    if not scores:
        return []
    if together:
        # The best unit of each layer is out of reach, so that no layer is emptied.
        reach = [score.clone().index_fill_(0, score.argmax(), torch.inf) for score in scores]
        order = torch.cat(reach).argsort(stable=True)[: int(fraction * sum(map(len, scores)))]
        gone = torch.zeros(sum(map(len, scores)), dtype=torch.bool).index_fill_(0, order, True)
        gone &= torch.cat(reach).isfinite()
        parts = gone.split([len(score) for score in scores])
        return [part.nonzero().flatten().tolist() for part in parts]
    return [
        sorted(score.argsort(stable=True)[: min(int(fraction * len(score)), len(score) - 1)].tolist())
        for score in scores
    ]


def _fold(hidden: Hidden, mean: Tensor, units: list[int]) -> None:
    """Adds what the means of some units contribute to the consumer's bias."""
    layer: Any = hidden.consumer
    columns = [column for unit in units for column in hidden.columns[unit]]
    weight = layer.weight.double()[:, columns]
    weight = weight.flatten(2).sum(2) if weight.ndim > 2 else weight
    shift = (weight @ mean[columns]).to(layer.weight.dtype)
    if layer.bias is None:
        layer.bias = nn.Parameter(shift)
    else:
        layer.bias.add_(shift)
