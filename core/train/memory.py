"""Less memory for more computing: residual branches or runs of blocks recomputed in the backward pass.

Chen et al., "Training deep nets with sublinear memory cost", arXiv:1604.06174: what a part of the network
computed is dropped after the forward pass and computed again, with the same random numbers, when its gradient
is due.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from core.errors import ConfigError
from core.registry import Registry
from core.residual import Residual, ResidualChain
from core.residual.rule import Rule
from core.train.stacked import Stacked

RECOMPUTE: Registry[Callable[[nn.Module], int]] = Registry("kind of recomputation")


def recompute(model: nn.Module, kind: str) -> int:
    """Makes parts of ``model`` recompute themselves in training; returns the number of parts.

    Args:
        model: Any network with residual blocks, not yet copied by an optimiser or an average.
        kind: ``none``, ``branches`` or ``segments``.

    Raises:
        ConfigError: The model has no such parts, or is a stacked ensemble.
    """
    if kind != "none" and any(isinstance(module, Stacked) for module in model.modules()):
        raise ConfigError("--train.recompute does not work with stacked ensembles; leave it at none")
    return RECOMPUTE[kind](model)


@RECOMPUTE.register("none")
def _nothing(model: nn.Module) -> int:
    return 0


@RECOMPUTE.register("branches")
def recompute_branches(model: nn.Module) -> int:
    """Makes every residual branch of ``model`` recompute itself in training; returns their number.

    The streams between the blocks are kept, so that memory still grows with the number of blocks.

    Raises:
        ConfigError: The model has no residual branch.
    """
    blocks = [module for module in model.modules() if isinstance(module, Residual)]
    if not blocks:
        raise ConfigError("--train.recompute branches: this model has no residual branches; use none")
    # A branch that several blocks share is one part; a branch that is a method belongs to its block.
    modules = {id(block.branch): block.branch for block in blocks if isinstance(block.branch, nn.Module)}
    for branch in modules.values():
        branch.forward = _recomputed(branch.forward, branch)
    methods = [block for block in blocks if not isinstance(block.branch, nn.Module)]
    for block in methods:
        block.branch = _recomputed(block.branch, block)
    return len(modules) + len(methods)


@RECOMPUTE.register("segments")
def recompute_segments(model: nn.Module) -> int:
    """Makes runs of about sqrt(n) of the n blocks of each chain recompute themselves; returns their number.

    What is kept are the streams between the sqrt(n) runs, and in the backward pass what one run computes
    (section 4 of the paper, at the cost of one more forward pass).

    Raises:
        ConfigError: The model has no chain of residual blocks.
    """
    chains = [module for module in model.modules() if isinstance(module, ResidualChain)]
    if not chains:
        raise ConfigError("--train.recompute segments: this model has no chain of blocks; use branches")
    total = 0
    for chain in chains:
        length = math.ceil(math.sqrt(len(chain)))
        blocks = list(chain)
        segments = [ResidualChain(blocks[i : i + length]) for i in range(0, len(blocks), length)]
        chain.run = partial(_run_segments, segments)  # type: ignore[method-assign]
        total += len(segments)
    return total


def _run_segments(
    segments: list[ResidualChain], stream: Any, rule: Rule | None = None
) -> tuple[Any, Rule | None, list[Any]]:
    """Stands in for :meth:`ResidualChain.run`."""
    sides: list[Any] = []
    for segment in segments:
        # Tensors are handed over one by one: in a list, `checkpoint` would not see them.
        several = isinstance(stream, list)
        run = _recomputed(partial(_run_segment, segment, rule, several), segment)
        stream, rule, more = run(*(stream if several else [stream]))
        sides.extend(more)
    return stream, rule, sides


def _run_segment(
    segment: ResidualChain, rule: Rule | None, several: bool, *streams: Tensor
) -> tuple[Any, Rule | None, list[Any]]:
    return segment.run(list(streams) if several else streams[0], rule)


def _recomputed(function: Callable[..., Any], owner: nn.Module) -> Callable[..., Any]:
    """Returns ``function`` that keeps its inputs alone; ``owner`` holds the batch norms that it uses."""
    return partial(checkpoint, function, use_reentrant=False, context_fn=partial(_contexts, owner))


def _contexts(owner: nn.Module) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """Returns what surrounds the first and the second computing of a part."""
    return nullcontext(), _keep_statistics(owner)


@contextmanager
def _keep_statistics(owner: nn.Module) -> Iterator[None]:
    """Keeps batch norms from counting the same batch twice in their running statistics."""
    norms = [m for m in owner.modules() if isinstance(m, _BatchNorm) and m.training and m.track_running_stats]
    before = [
        (m.momentum, None if m.num_batches_tracked is None else m.num_batches_tracked.clone()) for m in norms
    ]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, (momentum, count) in zip(norms, before, strict=True):
            norm.momentum = momentum
            if norm.num_batches_tracked is not None and count is not None:
                norm.num_batches_tracked.copy_(count)


def saved_bytes(function: Callable[[], Any], exclude: Iterable[Tensor] = ()) -> int:
    """Returns the bytes that autograd keeps for the backward pass of what ``function`` computes.

    A storage counts once however often it is kept.

    Args:
        function: Computes something with a gradient.
        exclude: Tensors that exist anyway, such as the parameters of the model.
    """
    sizes: dict[int, int] = {}
    kept: list[Tensor] = []  # alive to the end, so that no two storages have one address
    known = {tensor.untyped_storage().data_ptr() for tensor in exclude}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            sizes[storage.data_ptr()] = storage.nbytes()
            kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, _unchanged):
        result = function()
    del result
    return sum(sizes.values())


def _unchanged(tensor: Tensor) -> Tensor:
    return tensor
