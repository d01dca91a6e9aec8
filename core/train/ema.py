"""The exponential moving average of the weights, and swapping weights in and out of a model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from core.config import TrainConfig


def warmed_decay(decay: float, updates: int) -> float:
    """Returns ``min(decay, (1 + t) / (10 + t))`` after ``t`` updates: an average that forgets its start.

    The rule of TensorFlow's ``ExponentialMovingAverage(num_updates=t)``.
    """
    return min(decay, (1 + updates) / (10 + updates))


def build_average(model: nn.Module, config: TrainConfig) -> AveragedModel | None:
    """Returns the moving average that ``config`` asks for, or ``None``; its first update copies the weights.

    The number of updates is part of its ``state_dict``, so that a resumed warm-up goes on where it was.
    """
    decay = config.ema
    if decay is None:
        return None
    if not config.ema_warmup:
        return AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay))

    def average(old: Sequence[Tensor], new: Sequence[Tensor], updates: Tensor | int) -> None:
        get_ema_multi_avg_fn(warmed_decay(decay, int(updates)))(old, new, updates)

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
