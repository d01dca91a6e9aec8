"""LAMB: Adam whose step in each layer is as long as the layer's weights."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, cast

import torch
from torch import Tensor


class Lamb(torch.optim.Optimizer):
    """LAMB of "Large Batch Optimization for Deep Learning", You et al., arXiv:1904.00962, algorithm 2.

    ``r = m / (sqrt(v) + eps) + decay w`` with Adam's bias-corrected moments, and ``w <- w - lr |w| / |r| r``.
    The ratio is 1 where a norm is 0. Gradients are not clipped here.

    A group may say how many leading ``stacked_axes`` its parameters have: each member of a stack
    (:mod:`core.train.stacked`) then has its own norms, so that training together equals training alone. A
    group with ``adapt`` false takes plain Adam steps, as norms and biases do in the authors' code.

    Args:
        params: Parameters, or groups of them.
        lr: Learning rate.
        betas: Decay of the moments.
        eps: Added to the root of the second moment.
        weight_decay: Share of the weights in ``r``.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.0,
    ) -> None:
        options = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, options | {"stacked_axes": 0, "adapt": True})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Makes one step; returns what ``closure`` returns, if there is one."""
        result = None
        if closure is not None:
            with torch.enable_grad():
                result = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    direction = self._direction(parameter, group)
                    parameter.sub_(direction, alpha=group["lr"])
        return result

    def _direction(self, parameter: Tensor, group: dict[str, Any]) -> Tensor:
        """Updates the moments; returns the step of a parameter at learning rate 1."""
        state, grad = self.state[parameter], cast(Tensor, parameter.grad)
        if not state:
            state["step"] = torch.zeros(())
            state["exp_avg"] = torch.zeros_like(parameter)
            state["exp_avg_sq"] = torch.zeros_like(parameter)
        state["step"] += 1
        steps, (beta1, beta2) = int(state["step"]), group["betas"]
        first = state["exp_avg"].lerp_(grad, 1 - beta1)
        second = state["exp_avg_sq"].mul_(beta2).addcmul_(grad, grad, value=1 - beta2)
        root = (second / (1 - beta2**steps)).sqrt_().add_(group["eps"])
        direction = (first / (1 - beta1**steps)).div_(root).add_(parameter, alpha=group["weight_decay"])
        if not group["adapt"]:
            return direction
        axes = tuple(range(group["stacked_axes"], parameter.ndim))
        weight, length = (torch.linalg.vector_norm(t, dim=axes, keepdim=True) for t in (parameter, direction))
        ratio = torch.where((weight > 0) & (length > 0), weight / length, 1.0)
        return direction.mul_(ratio)
