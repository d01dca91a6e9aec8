"""What a task gives to the loop: a learner with a loss, and a source of batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from core.errors import ConfigError


class BatchSource(Protocol):
    """A stream of batches that can be entered anywhere.

    A batch depends on the source's seed and its own number alone, so that a resumed run draws what an
    uninterrupted one would have drawn, and each of several processes can take its share of the same batch.
    """

    @property
    def steps_per_epoch(self) -> int | None:
        """Batches in a pass over the data; ``None`` for sources that draw with replacement."""

    def batches(self, start: int, device: torch.device) -> Iterator[dict[str, Any]]:
        """Yields the batches ``start, start + 1, ...`` without end, moved to ``device``.

        The key ``"ids"`` may name the samples, see :meth:`Learner.suspects`.
        """


class Learner(nn.Module):
    """A model with its loss; subclasses override :meth:`loss_and_metrics`.

    ``late`` names the modules of the model that pre-training gives, for the schedule ``sawtooth``.

    Args:
        model: The network that is trained and kept.
    """

    late: tuple[str, ...] = ()
    kept_out: Sequence[dict[str, Any]] | None = None
    """Batches whose loss is the validation of a learner that has none of its own, see :mod:`core.train.held_out`."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def loss_and_metrics(self, batch: dict[str, Any]) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns the loss to descend (scalar) and detached scalars for the curves."""
        raise NotImplementedError

    def forward(self, batch: dict[str, Any]) -> tuple[Tensor, dict[str, Tensor]]:
        """Calls :meth:`loss_and_metrics`, so that DistributedDataParallel sees a forward pass."""
        return self.loss_and_metrics(batch)

    @property
    def validates(self) -> bool:
        """Whether there is something to validate on."""
        return self.kept_out is not None or type(self).validate is not Learner.validate

    def validate(self) -> tuple[float, dict[str, float]]:
        """Returns the value that early stopping watches (smaller is better) and what to log.

        Raises:
            ConfigError: There is nothing to validate on.
        """
        check_validates(self)
        assert self.kept_out is not None
        device = next(self.model.parameters()).device
        sums: dict[str, float] = {}
        for batch in self.kept_out:
            moved = {k: v.to(device) if torch.is_tensor(v) else v for k, v in batch.items()}
            loss, metrics = self.loss_and_metrics(moved)
            for name, value in ({"loss": loss} | metrics).items():
                sums[name] = sums.get(name, 0.0) + value.float().mean().item()
        means = {name: total / len(self.kept_out) for name, total in sums.items()}
        return means["loss"], means

    def suspects(self, batch: dict[str, Any]) -> list[Any]:
        """Names the samples of a batch whose loss is not finite, for the error message."""
        ids = batch.get("ids", [])
        return ids.tolist() if torch.is_tensor(ids) else list(ids)

    def clip_grad_norm(self, limit: float) -> Tensor:
        """Scales gradients down to norm ``limit``; returns the norm before. Ensembles clip each member."""
        return torch.nn.utils.clip_grad_norm_(self.model.parameters(), limit)


def check_validates(learner: Learner) -> None:
    """Raises ``ConfigError`` where a learner has nothing to validate on."""
    if not learner.validates:
        raise ConfigError(
            "this model has no validation; leave --train.patience and --train.validate_every at 0"
        )
