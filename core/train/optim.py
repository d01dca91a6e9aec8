"""Optimisers, learning-rate schedules and gradient noise."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from core.config import TrainConfig, peak_lr
from core.errors import ConfigError
from core.registry import Registry
from core.train.lamb import Lamb
from core.train.seeds import derive_seed
from core.train.stacked import owned_parameters

POWER = 0.9
"""Of the polynomial decay, nnU-Net's."""
RISE = 0.3
"""Share of the steps in which one_cycle rises, fastai's."""


def parameter_groups(learner: nn.Module, config: TrainConfig) -> list[dict[str, Any]]:
    """Groups the trained parameters by how they learn; groups at the full learning rate come first.

    Those of the parts that ``learner.late`` names wait in the first tooth of the schedule ``sawtooth``.

    Vectors and scalars (norms, biases, gates) have no weight decay, nor have parameters that a module's class names in
    its ``undecayed``. What belongs directly to a module whose
    class has an ``lr_scale`` learns at that fraction of the learning rate, as the scalars of Fixup do
    (arXiv:1901.09321) in its authors' code. A group keeps it as ``group["lr_scale"]``, which the loop multiplies with.
    """
    groups: dict[tuple[float, bool, bool, int, bool], dict[str, Any]] = {}
    late = _late_parameters(learner) if config.schedule == "sawtooth" else set()
    for owner, name, parameter, axes in owned_parameters(learner):
        if not parameter.requires_grad:
            continue
        # An ensemble stacks its members' parameters along a first axis, which does not make a bias a matrix.
        scale, matrix = getattr(owner, "lr_scale", 1.0), parameter.ndim - axes > 1
        decays = matrix and name not in getattr(owner, "undecayed", ())
        group: dict[str, Any] = {
            "params": [],
            "weight_decay": config.weight_decay if decays else 0.0,
            "lr": peak_lr(config) * scale,
            "lr_scale": scale,
            "stacked_axes": axes,
            "adapt": matrix,
            "late": id(parameter) in late,
        }
        groups.setdefault((scale, matrix, decays, axes, group["late"]), group)["params"].append(parameter)
    return [
        groups[key] for key in sorted(groups, key=lambda key: (key[0] != 1.0, not key[1], not key[2], key))
    ]


def _late_parameters(learner: nn.Module) -> set[int]:
    names: tuple[str, ...] = getattr(learner, "late", ())
    if not names:
        raise ConfigError(
            "--train.schedule sawtooth is for models with a pre-trained part, which this one does not have; use poly"
        )
    model = learner.get_submodule("model")
    return {id(parameter) for name in names for parameter in model.get_submodule(name).parameters()}


def _adam(groups: list[dict[str, Any]], config: TrainConfig) -> torch.optim.Optimizer:
    return torch.optim.Adam(groups, lr=peak_lr(config), fused=True)


def _adamw(groups: list[dict[str, Any]], config: TrainConfig) -> torch.optim.Optimizer:
    return torch.optim.AdamW(groups, lr=peak_lr(config), fused=True)


def _sgd(groups: list[dict[str, Any]], config: TrainConfig) -> torch.optim.Optimizer:
    nesterov = config.momentum > 0  # torch refuses it without momentum
    return torch.optim.SGD(
        groups, lr=peak_lr(config), momentum=config.momentum, nesterov=nesterov, fused=True
    )


def _lamb(groups: list[dict[str, Any]], config: TrainConfig) -> torch.optim.Optimizer:
    return Lamb(groups, lr=peak_lr(config))


OPTIMIZERS: Registry[Callable[[list[dict[str, Any]], TrainConfig], torch.optim.Optimizer]] = Registry(
    "optimizer"
)
OPTIMIZERS.register("adam")(_adam)
OPTIMIZERS.register("adamw")(_adamw)
OPTIMIZERS.register("sgd")(_sgd)
OPTIMIZERS.register("lamb")(_lamb)


def build_optimizer(learner: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """Returns the optimiser of ``config`` over :func:`parameter_groups`; a fused one where torch has it."""
    return OPTIMIZERS[config.optimizer](parameter_groups(learner, config), config)


def lr_factor(step: int, total: int, config: TrainConfig, late: bool = False) -> float:
    """Returns the learning rate of ``step`` (0-based) of ``total`` as a fraction of the peak.

    Args:
        step: Number of the step.
        total: Steps of the whole training.
        config: Schedule.
        late: Of the pre-trained part, which waits in the first tooth of ``sawtooth``.
    """
    warm = min(1.0, (step + 1) / config.warmup_steps) if config.warmup_steps else 1.0
    if config.schedule == "cosine":
        return warm * 0.5 * (1 + math.cos(math.pi * step / max(1, total)))
    if config.schedule == "thirds":
        # N-BEATS (arXiv 1905.10437, appendix): halved at each third of the iterations.
        return warm * 0.5 ** (step // max(1, total // 3))
    if config.schedule == "poly":
        return warm * (1 - step / max(1, total)) ** POWER
    if config.schedule == "flat_cosine":
        # RTMDet (arXiv:2212.07784, table of the training settings): flat to the half, then down to 5 %.
        gone = max(0.0, step / max(1, total) - config.flat) / (1 - config.flat)
        return warm * (config.final_lr + (1 - config.final_lr) * 0.5 * (1 + math.cos(math.pi * gone)))
    if config.schedule == "one_cycle":
        return warm * _one_cycle((step + 1) / max(1, total))
    if config.schedule == "sawtooth":
        return _sawtooth(step, total, config.teeth, late)
    if config.schedule == "milestones":
        return warm * config.decay ** sum(step >= round(share * total) for share in config.milestones)
    return warm


def _one_cycle(gone: float) -> float:
    """Half a cosine up from 1/25 of the peak in three tenths of the steps, then one down to zero (arXiv:1708.07120)."""
    if gone < RISE:
        return 1 / 25 + (1 - 1 / 25) * 0.5 * (1 - math.cos(math.pi * gone / RISE))
    return 0.5 * (1 + math.cos(math.pi * (gone - RISE) / (1 - RISE)))


def _sawtooth(step: int, total: int, teeth: list[float], late: bool) -> float:
    """Two warm-ups that each decay (arXiv:2410.23132, fine-tuning): of the new part, then of the whole network."""
    first, second, third = (round(share * total) for share in teeth)
    if step < second and late:
        return 0.0
    start, peak, end = (0, first, second) if step < second else (second, third, total)
    if step < peak:
        return (step - start + 1) / (peak - start)
    return (1 - (step - peak) / max(1, end - peak)) ** POWER


def add_gradient_noise(learner: nn.Module, eta: float, step: int, seed: int) -> None:
    """Adds N(0, eta / (1 + step)^0.55) to every gradient (Neelakantan et al., arXiv 1511.06807, eq. 1)."""
    std = math.sqrt(eta / (1 + step) ** 0.55)
    for i, parameter in enumerate(learner.parameters()):
        if parameter.grad is not None:
            device = parameter.grad.device
            source = torch.Generator(device).manual_seed(derive_seed(seed, "gradient noise", step, i))
            noise = torch.randn(parameter.grad.shape, generator=source, device=device)
            parameter.grad.add_(noise.to(parameter.grad.dtype), alpha=std)
