"""A classifier of electrocardiograms with its loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from core.errors import ConfigError
from core.train.learner import Learner
from tasks.ecg.losses import MultiLabelLoss
from tasks.ecg.measures import auroc
from tasks.ecg.normalise import DataNormaliser
from tasks.ecg.windows import POOL, batches, pool, window_counts

BATCH = 64
"""Windows that are validated together."""


class EcgLearner(Learner):
    """A classifier with its loss.

    Args:
        model: Maps normalised windows ``(B, leads, L)`` to logits ``(B, C)``.
        normaliser: Maps mV to what the model sees.
        loss: Of logits against labels.
        length: Samples of a window.
        validation: Signals ``(leads, samples)`` in mV of the records that early stopping looks at, and their labels
            ``(V, C)``, bool.
        stride: Samples from one of their windows to the next; by default half a window.
        pooling: How the probabilities of a record's windows become one: max or mean.
    """

    def __init__(
        self,
        model: nn.Module,
        normaliser: DataNormaliser,
        loss: MultiLabelLoss,
        length: int,
        validation: tuple[Sequence[np.ndarray], np.ndarray] | None = None,
        stride: int | None = None,
        pooling: str = POOL,
    ) -> None:
        super().__init__(model)
        self.normaliser, self.loss, self.length, self.validation = normaliser, loss, length, validation
        self.stride, self.pooling = stride or max(1, length // 2), pooling

    def loss_and_metrics(self, batch: dict[str, Any]) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns the loss of a batch, and the percent of its labels that are right at a probability of 0.5."""
        logits = self.model(self.normaliser(batch["signal"])).float()
        right = (logits > 0) == (batch["labels"] > 0.5)
        return self.loss(logits, batch["labels"]), {"accuracy": 100 * right.float().mean()}

    def validate(self) -> tuple[float, dict[str, float]]:
        """Returns the mean loss over the validation records, and it with their macro AUROC.

        The loss of a record is the mean over its windows; its probabilities are pooled as at test. The
        AUROC is of the classes that have both kinds of records.

        Raises:
            ConfigError: There are none.
        """
        if self.validation is None or not len(self.validation[0]):
            raise ConfigError(
                "there are no records to validate on: set --data.validation_share above 0, or leave --train.patience "
                "and --train.validate_every at 0"
            )
        signals, labels = self.validation
        device = next(self.model.parameters()).device
        counts = window_counts(signals, self.length, self.stride)
        parts = [
            self.model(self.normaliser(torch.from_numpy(windows).to(device))).float()
            for windows in batches(signals, self.length, self.stride, BATCH)
        ]
        logits = torch.cat(parts)
        targets = torch.from_numpy(np.repeat(labels, counts, axis=0)).to(logits)
        # Each record weighs the same, however long it is.
        losses = [
            self.loss(*pair).item()
            for pair in zip(logits.split(counts.tolist()), targets.split(counts.tolist()), strict=True)
        ]
        loss = float(np.mean(losses))
        probabilities = pool(logits.sigmoid().cpu().numpy(), counts, self.pooling)
        areas = auroc(labels, probabilities)
        known = areas[~np.isnan(areas)]
        return loss, {"loss": loss} | ({"macro_auroc": float(known.mean())} if len(known) else {})
