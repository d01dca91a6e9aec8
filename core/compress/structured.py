"""Structured pruning: whole channels, also those that residual sums tie together.

"DepGraph: Towards Any Structural Pruning", Fang et al., arXiv:2301.12900; "Structurally Prune Anything", Wang
et al., arXiv:2403.18955, groups channels in the same way. A residual sum makes every producer of a stream lose
the same channels, and so do the weights that a residual rule has for each channel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from core.backbones.backbone import Backbone
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
)
from core.errors import ConfigError
from core.residual.residual import Residual, split_side
from core.residual.rule import PointwiseRule, Rule


def prune_channels(
    model: nn.Module,
    example_inputs: Inputs,
    ratio: float,
    *,
    global_ranking: bool = False,
    round_to: int = 1,
    ignored: Sequence[str] = (),
) -> Pruned:
    """Removes the channels whose coupled weights have the smallest norm.

    The importance of a channel is the mean, over all layers coupled in it, of the squared norm of its weights
    relative to the layer's mean. Inputs and outputs of the model keep their channels, and so does the rank of
    a low-rank rule.

    Args:
        model: Any model that can be traced; it stays as it is.
        example_inputs: What the model reads, ``(B, C, *spatial)`` or a tuple of arguments.
        ratio: Share of the channels of each group of coupled layers that goes, in (0, 1).
        global_ranking: Ranks the channels of all groups together instead of each group by itself.
        round_to: What is left is a multiple of this.
        ignored: Names of layers whose output channels stay.

    Returns:
        The smaller copy, in which ``spec.channels`` of the rules and ``feature_info`` of backbones are up to date.

    Raises:
        ConfigError: An argument is out of range, a rule cannot be pruned, or nothing can.
    """
    check_fraction("ratio", ratio)
    if round_to < 1:
        raise ConfigError(f"round_to must be 1 or more, not {round_to}")
    tp = require_torch_pruning()
    with pruning_copy(model) as clone:
        layers = named_layers(clone)
        kept = pick(layers, tuple(ignored), "ignored")
        parameters = _rule_parameters(clone)
        with torch.no_grad():
            before = run(clone, example_inputs)
        names = {id(layer): name for name, layer in layers.items()}
        inside = {id(part) for rule in _rules(clone).values() for part in rule.modules()}
        try:
            graph = tp.DependencyGraph().build_dependency(
                clone, example_inputs, unwrapped_parameters=list(parameters)
            )
            ends = _output_layers(graph, tp.ops)
            padded = _padded_layers(graph, tp.ops, example_inputs)
            pruner = tp.pruner.MagnitudePruner(
                clone,
                example_inputs,
                importance=tp.importance.GroupMagnitudeImportance(),
                pruning_ratio=ratio,
                global_pruning=global_ranking,
                round_to=round_to if round_to > 1 else None,
                ignored_layers=[*kept, *ends, *padded],
                unwrapped_parameters=list(parameters),
                # The library's defaults are one dictionary for all pruners of a process.
                in_channel_groups={},
                out_channel_groups={},
                num_heads={},
            )
            for group in pruner.step(interactive=True):
                if not _within(group, graph.is_out_channel_pruning_fn, tp.ops, inside):
                    group.prune()
            with torch.no_grad():
                after = _update_records(clone, example_inputs)
        except (
            RuntimeError,
            ValueError,
            IndexError,
            KeyError,
            AttributeError,
            AssertionError,
            TypeError,
        ) as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise ConfigError(
                f"channels of this model cannot be pruned: {reason}; name layers to be `ignored`"
            ) from None
        if _shapes(before) != _shapes(after):
            raise ConfigError(
                f"pruning would change the model's output from {_shapes(before)} to {_shapes(after)}: it also returns "
                "features that layers inside read; wrap it so that it returns its last output alone"
            )
        skipped = {names[id(layer)]: "a shortcut pads its channels with zeros" for layer in padded}
        skipped |= {names[id(layer)]: "it gives the model's output" for layer in ends if id(layer) in names}
    return summary(model, clone, skipped | dict.fromkeys(ignored, "it was to be ignored"))


def _rules(model: nn.Module) -> dict[str, Rule]:
    return {name: module for name, module in model.named_modules() if isinstance(module, Rule)}


def _rule_parameters(model: nn.Module) -> list[tuple[nn.Parameter, int]]:
    """Returns the weights that rules have for each channel, and the axis of the channels.

    Raises:
        ConfigError: A rule's stream is not the features themselves, or a tensor of it has a form that says
            nothing about the channels.
    """
    found = []
    for name, rule in _rules(model).items():
        kind = type(rule).__name__
        if not isinstance(rule, PointwiseRule):
            raise ConfigError(
                f"{name}: the residual rule {kind} keeps more in its stream than the features; channels can be pruned "
                "with pointwise rules alone"
            )
        layered = {id(p) for layer in named_layers(rule).values() for p in layer.parameters()}
        own = [parameter for parameter in rule.parameters() if id(parameter) not in layered]
        for tensor in [*own, *rule.buffers()]:
            if tensor.numel() == 1:
                continue
            if (
                tensor.ndim != 1
                or tensor.numel() != rule.spec.channels
                or not isinstance(tensor, nn.Parameter)
            ):
                raise ConfigError(
                    f"{name}: the residual rule {kind} holds a tensor of shape {tuple(tensor.shape)}, of which it is "
                    "not known which axis counts channels; it cannot be pruned"
                )
            found.append((tensor, 0))
    return found


def _output_layers(graph: Any, ops: Any) -> list[nn.Module]:
    """Returns the layers whose channels reach the model's output without another layer in between."""
    producers = (ops.TORCH_CONV, ops.TORCH_LINEAR, ops.TORCH_LSTM, ops.TORCH_MHA, ops.TORCH_EMBED)
    waiting = [node for node in graph.module2node.values() if not node.outputs]
    seen, found = set(), []
    while waiting:
        node = waiting.pop()
        if node in seen:
            continue
        seen.add(node)
        depthwise = (
            isinstance(node.module, ops.TORCH_CONV) and node.module.groups == node.module.out_channels > 1
        )
        if isinstance(node.module, producers):
            found.append(node.module)
        if depthwise or not isinstance(node.module, producers):
            waiting.extend(node.inputs)
    return found


def _padded_layers(graph: Any, ops: Any, inputs: Inputs) -> list[nn.Module]:
    """Returns the layers whose channels a parameter-free shortcut pads: the graph cannot follow the new ones."""
    spatial = (inputs[0] if isinstance(inputs, tuple) else inputs).ndim - 2
    found = []
    for group in graph.get_all_groups(root_module_types=[ops.TORCH_CONV, ops.TORCH_LINEAR]):
        pads = [getattr(dep.target.grad_fn, "_saved_pad", ()) for dep, _ in group]
        if any(any(pad[2 * spatial :]) for pad in pads):
            layers = [dep.target.module for dep, _ in group if graph.is_out_channel_pruning_fn(dep.handler)]
            found += [layer for layer in layers if isinstance(layer, (ops.TORCH_CONV, ops.TORCH_LINEAR))]
    return found


def _within(group: Any, is_output: Any, ops: Any, inside: set[int]) -> bool:
    """Whether all layers that would lose output channels belong to residual rules."""
    layers = [
        dep.target.module
        for dep, _ in group
        if isinstance(dep.target.module, (ops.TORCH_CONV, ops.TORCH_LINEAR)) and is_output(dep.handler)
    ]
    return all(id(layer) in inside for layer in layers)


def _update_records(model: nn.Module, inputs: Inputs) -> Any:
    """Runs the model and corrects what it says of its channels: specs of rules, and ``feature_info``."""

    def note(block: nn.Module, args: Any, output: Any) -> None:
        stream = split_side(output)[0]
        rule = getattr(block, "rule")  # noqa: B009
        if isinstance(stream, Tensor) and rule.spec.channels is not None:
            rule.spec = replace(rule.spec, channels=stream.shape[1])

    read: dict[Backbone, Tensor] = {}

    def keep(backbone: nn.Module, args: tuple[Tensor, ...]) -> None:
        assert isinstance(backbone, Backbone)
        read[backbone] = args[0]

    hooks = [module.register_forward_hook(note) for module in model.modules() if isinstance(module, Residual)]
    hooks += [
        module.register_forward_pre_hook(keep) for module in model.modules() if isinstance(module, Backbone)
    ]
    try:
        output = run(model, inputs)
        for backbone, x in read.items():
            widths = [features.shape[1] for features in backbone.forward_features(x, stem=True)]
            if backbone.stem_info is not None:
                backbone.stem_info = replace(backbone.stem_info, channels=widths.pop(0))
            pairs = zip(backbone.feature_info, widths, strict=True)
            backbone.feature_info = [replace(info, channels=width) for info, width in pairs]
    finally:
        for hook in hooks:
            hook.remove()
    return output


def _shapes(output: Any) -> list[tuple[int, ...]]:
    if isinstance(output, Tensor):
        return [tuple(output.shape)]
    values = output.values() if isinstance(output, dict) else output
    return [shape for value in values for shape in _shapes(value)]
