"""The exponential moving average of the weights, and swapping weights in and out of a model."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from core.config import TrainConfig


def warmed_decay(decay: float, updates: int) -> float:
    """Returns ``min(decay, (1 + t) / (10 + t))`` after ``t`` updates: an average that forgets its start.

    The rule of TensorFlow's ``ExponentialMovingAverage(num_updates=t)``.
    """
    return min(decay, (1 + updates) / (10 + updates))


def exponential_decay(decay: float, gamma: float, updates: int) -> float:
    """Returns ``decay * (1 - exp(-(1 + t) / gamma))`` after ``t`` updates.

    That is ``1 - m_t`` with ``m_t = m + (1 - m) exp(-(1 + t) / gamma)`` and ``m = 1 - decay``, as mmdetection's
    ``ExpMomentumEMA`` has it. The first update copies the weights there too, and ``t`` is 1 in the second.
    """
    return -decay * math.expm1(-(1 + updates) / gamma)


LARGEST_MOMENTUM = 0.1
"""A very short training scales ``1 - decay`` up to this and no further: some ten steps are always averaged."""


def for_steps(
    decay: float, gamma: float | None, total: int, chosen_for: int | None
) -> tuple[float, float | None]:
    """Returns decay and gamma for a training of ``total`` steps.

    Where they were chosen for a longer one, ``1 - decay`` grows and ``gamma`` shrinks by the ratio of the steps: the
    time over which the average forgets stays the same share of the training.

    Args:
        decay: Decay of the average.
        gamma: Steps of its warm-up.
        total: Steps of this training.
        chosen_for: Steps of the training that both were chosen for; ``None`` leaves them as they are.
    """
    if chosen_for is None or total >= chosen_for:
        return decay, gamma
    share, momentum = total / chosen_for, 1 - decay
    momentum = max(momentum, min(LARGEST_MOMENTUM, momentum / share))
    return 1 - momentum, None if gamma is None else max(1.0, gamma * share)


def build_average(model: nn.Module, config: TrainConfig, total: int) -> AveragedModel | None:
    """Returns the moving average that ``config`` asks for, or ``None``; its first update copies the weights.

    Buffers, such as the running statistics of batch norms, are averages already: each update copies them as they are.
    The number of updates is part of the ``state_dict``, so that a resumed warm-up goes on where it was.

    Args:
        model: Network whose weights are averaged.
        config: Decay and its warm-up.
        total: Steps of the training.
    """
    if config.ema is None:
        return None
    decay, gamma = for_steps(config.ema, config.ema_gamma, total, config.ema_steps)
    decay_at: Callable[[int], float]
    if config.ema_warmup:
        decay_at = partial(warmed_decay, decay)
    elif gamma is not None:
        decay_at = partial(exponential_decay, decay, gamma)
    else:
        return AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay))

    def average(old: Sequence[Tensor], new: Sequence[Tensor], updates: Tensor | int) -> None:
        get_ema_multi_avg_fn(decay_at(int(updates)))(old, new, updates)

    return AveragedModel(model, multi_avg_fn=average)


@contextmanager
def averaged_weights(model: nn.Module, average: AveragedModel | None) -> Iterator[None]:
    """Puts the moving average, if there is one, into the model for a while."""
    if average is None:
        yield
        return
    own = copy_weights(model)
    model.load_state_dict(average.module.state_dict())
    try:
        yield
    finally:
        model.load_state_dict(own)


def copy_weights(model: nn.Module) -> dict[str, Tensor]:
    """Returns a copy of the model's ``state_dict`` that training does not change."""
    with torch.no_grad():
        return {name: value.clone() for name, value in model.state_dict().items()}
