"""Less memory for more computing: residual branches recomputed in the backward pass.

Chen et al., "Training deep nets with sublinear memory cost", arXiv:1604.06174: what a branch computed is
dropped after the forward pass and computed again, with the same random numbers, when its gradient is due.
"""

from __future__ import annotations

from functools import partial

from torch import nn
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
        branch.forward = partial(checkpoint, branch.forward, use_reentrant=False)  # type: ignore[method-assign]
    return len(branches)
