"""Optimisers, learning-rate schedules and gradient noise."""

from __future__ import annotations

import math

import torch
from torch import nn

from core.config import TrainConfig
from core.train.seeds import derive_seed


def build_optimizer(learner: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """Returns a fused optimiser with no weight decay on vectors and scalars (norms, biases, gates)."""
    trained = [p for p in learner.parameters() if p.requires_grad]
    # An ensemble stacks its members' parameters along a first axis, which does not make a bias a matrix.
    axes = [p.ndim - getattr(p, "stacked_axes", 0) for p in trained]
    groups = [
        {
            "params": [p for p, n in zip(trained, axes, strict=True) if n > 1],
            "weight_decay": config.weight_decay,
        },
        {"params": [p for p, n in zip(trained, axes, strict=True) if n <= 1], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    if config.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=config.lr, momentum=0.9, nesterov=True, fused=True)
    kind = torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.Adam
    return kind(groups, lr=config.lr, fused=True)


def lr_factor(step: int, total: int, config: TrainConfig) -> float:
    """Returns the learning rate of ``step`` (0-based) of ``total`` as a fraction of the peak."""
    warm = min(1.0, (step + 1) / config.warmup_steps) if config.warmup_steps else 1.0
    if config.schedule == "cosine":
        return warm * 0.5 * (1 + math.cos(math.pi * step / max(1, total)))
    if config.schedule == "thirds":
        # N-BEATS (arXiv 1905.10437, appendix): halved at each third of the iterations.
        return warm * 0.5 ** (step // max(1, total // 3))
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
