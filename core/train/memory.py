"""Less memory for more computing: residual branches recomputed in the backward pass.

Chen et al., "Training deep nets with sublinear memory cost", arXiv:1604.06174: what a branch computed is
dropped after the forward pass and computed again, with the same random numbers, when its gradient is due.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from core.errors import ConfigError
from core.residual import Residual
from core.train.stacked import Stacked


def recompute_branches(model: nn.Module) -> int:
    """Makes every residual branch of ``model`` recompute itself in training; returns their number.

    Raises:
        ConfigError: The model has no residual branch, or is a stacked ensemble.
    """
    if any(isinstance(module, Stacked) for module in model.modules()):
        raise ConfigError("--train.recompute does not work with stacked ensembles; leave it off")
    branches = {id(m.branch): m.branch for m in model.modules() if isinstance(m, Residual)}
    if not branches:
        raise ConfigError("--train.recompute: this model has no residual branches")
    for branch in branches.values():
        contexts = partial(_contexts, branch)
        branch.forward = partial(checkpoint, branch.forward, use_reentrant=False, context_fn=contexts)
    return len(branches)


def _contexts(branch: nn.Module) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """Returns what surrounds the first and the second computing of a branch."""
    return nullcontext(), _keep_statistics(branch)


@contextmanager
def _keep_statistics(branch: nn.Module) -> Iterator[None]:
    """Keeps batch norms from counting the same batch twice in their running statistics."""
    norms = [
        m for m in branch.modules() if isinstance(m, _BatchNorm) and m.training and m.track_running_stats
    ]
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
