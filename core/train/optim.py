"""Optimisers, learning-rate schedules and gradient noise."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn

from core.config import TrainConfig
from core.registry import Registry
from core.train.lamb import Lamb
from core.train.seeds import derive_seed
from core.train.stacked import owned_parameters


def parameter_groups(learner: nn.Module, config: TrainConfig) -> list[dict[str, Any]]:
    """Groups the trained parameters by how they learn; groups at the full learning rate come first.

    Vectors and scalars (norms, biases, gates) have no weight decay. What belongs directly to a module whose
    class has an ``lr_scale`` learns at that fraction of the learning rate, as the scalars of Fixup do
    (arXiv:1901.09321) in its authors' code. A group keeps it as ``group["lr_scale"]``, which the loop multiplies with.
    """
    groups: dict[tuple[float, bool, int], dict[str, Any]] = {}
    for owner, _, parameter, axes in owned_parameters(learner):
        if not parameter.requires_grad:
            continue
        # An ensemble stacks its members' parameters along a first axis, which does not make a bias a matrix.
        scale, matrix = getattr(owner, "lr_scale", 1.0), parameter.ndim - axes > 1
        group: dict[str, Any] = {
            "params": [],
            "weight_decay": config.weight_decay if matrix else 0.0,
            "lr": config.lr * scale,
            "lr_scale": scale,
            "stacked_axes": axes,
            "adapt": matrix,
        }
        groups.setdefault((scale, matrix, axes), group)["params"].append(parameter)
    return [groups[key] for key in sorted(groups, key=lambda key: (key[0] != 1.0, not key[1], key))]


def _sgd(groups: list[dict[str, Any]], lr: float) -> torch.optim.Optimizer:
    return torch.optim.SGD(groups, lr=lr, momentum=0.9, nesterov=True, fused=True)


def _lamb(groups: list[dict[str, Any]], lr: float) -> torch.optim.Optimizer:
    return Lamb(groups, lr=lr)


OPTIMIZERS: Registry[Callable[[list[dict[str, Any]], float], torch.optim.Optimizer]] = Registry("optimizer")
OPTIMIZERS.register("adam")(partial(torch.optim.Adam, fused=True))
OPTIMIZERS.register("adamw")(partial(torch.optim.AdamW, fused=True))
OPTIMIZERS.register("sgd")(_sgd)
OPTIMIZERS.register("lamb")(_lamb)


def build_optimizer(learner: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """Returns the optimiser of ``config`` over :func:`parameter_groups`; a fused one where torch has it."""
    return OPTIMIZERS[config.optimizer](parameter_groups(learner, config), config.lr)


def lr_factor(step: int, total: int, config: TrainConfig) -> float:
    """Returns the learning rate of ``step`` (0-based) of ``total`` as a fraction of the peak."""
    warm = min(1.0, (step + 1) / config.warmup_steps) if config.warmup_steps else 1.0
    if config.schedule == "cosine":
        return warm * 0.5 * (1 + math.cos(math.pi * step / max(1, total)))
    if config.schedule == "thirds":
        # N-BEATS (arXiv 1905.10437, appendix): halved at each third of the iterations.
        return warm * 0.5 ** (step // max(1, total // 3))
    if config.schedule == "milestones":
        return warm * config.decay ** sum(step >= round(share * total) for share in config.milestones)
    return warm


def add_gradient_noise(learner: nn.Module, eta: float, step: int, seed: int) -> None:
    """Adds N(0, eta / (1 + step)^0.55) to every gradient (Neelakantan et al., arXiv 1511.06807, eq. 1)."""
    std = math.sqrt(eta / (1 + step) ** 0.55)
    for i, parameter in enumerate(learner.parameters()):
        if parameter.grad is not None:
            device = parameter.grad.device
            source = torch.Generator(device).manual_seed(derive_seed(seed, "gradient noise", step, i))
            noise = torch.randn(parameter.grad.shape, generator=source, device=device)
            parameter.grad.add_(noise.to(parameter.grad.dtype), alpha=std)
