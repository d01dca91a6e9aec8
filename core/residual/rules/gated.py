"""The residual sum whose updates a learned gate takes or leaves, sample by sample."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from core import nd
from core.errors import ConfigError
from core.residual.rule import PointwiseRule, RuleSpec

OPEN = 2.0
"""First logit of every gate: a probability of 0.88, where the sigmoid still has a gradient."""


class Gated(PointwiseRule):
    """``y = x + g f`` with a gate ``g`` of 0 or 1 for each sample, which ``x`` decides.

    "SkipNet: Learning Dynamic Routing in Convolutional Networks", Wang et al., arXiv:1711.09485.
    The paper writes ``g F + (1 - g) x`` with ``F = x + f`` the residual layer, which is the same: an open gate
    gives the plain residual, a closed one the identity. Its gate is a network of feed-forward or recurrent
    kind; here it is the small one of :class:`Gate`, trained by the straight-through gradient without a policy
    gradient stage. Where there is a shortcut, the gate reads the projected features.

    A new gate is open for every input. Training is given a reason to close gates by adding the cost of
    :func:`core.residual.gating.gate_cost` to the loss. All branches are computed; what the closed gates would
    save is measured by :func:`core.residual.gating.saved_macs`.

    Args:
        spec: Where the rule stands in its network; needs ``channels``.
        hidden: Units of the gate's hidden layer; 10 are those of the paper's recurrent gate.

    Raises:
        ConfigError: ``hidden`` is below 1.
    """

    plain_at_init: ClassVar[bool] = True
    may_skip: ClassVar[bool] = True
    """For some samples the output may not depend on the update."""

    def __init__(self, spec: RuleSpec, *, hidden: int = 10) -> None:
        super().__init__(spec)
        if hidden < 1:
            raise ConfigError(f"gated: hidden must be 1 or more, not {hidden}")
        self.gate = Gate(spec.width, hidden)

    def forward(self, x: Tensor, update: Tensor) -> Tensor:
        """Returns the gated sum, ``(B, C, *spatial)``, in the dtype of ``x + update``."""
        return x + per_sample(self.gate(x).to(update.dtype), update) * update

    def parameter_formula(self) -> int:
        """``h (C + 1)`` of the hidden layer and ``h + 1`` of the last."""
        hidden = self.gate.hidden.out_features
        return hidden * (self.spec.width + 1) + hidden + 1


class Gate(nn.Module):
    """Decides for each sample: mean over space, a hidden layer with ReLU, one logit, sigmoid, threshold 1/2.

    Backward, the threshold counts as the identity (straight-through), so that the logit gets the gradient of
    the sigmoid.

    Args:
        channels: C.
        hidden: Units of the hidden layer.
    """

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.mean = nd.SpatialMean()
        self.hidden = nn.Linear(channels, hidden)
        self.logit = nn.Linear(hidden, 1)
        self.probability = nn.Sigmoid()  # a module, so that its output can be collected by a hook
        nn.init.zeros_(self.logit.weight)
        nn.init.constant_(self.logit.bias, OPEN)

    def forward(self, x: Tensor) -> Tensor:
        """Maps features ``(B, C, *spatial)`` to gates ``(B,)`` of 0 and 1."""
        logit = self.logit(torch.relu(self.hidden(self.mean(x))))
        soft = self.probability(logit.squeeze(-1))
        # In this order the sum is exactly 0 or 1.
        return (soft > 0.5).to(soft.dtype) + (soft - soft.detach())


def per_sample(weight: Tensor, like: Tensor) -> Tensor:
    """Views one weight, ``()``, or one a sample, ``(B,)``, for products with ``like``, ``(B, C, *spatial)``."""
    return weight.reshape(-1, *(1,) * (like.ndim - 1))
