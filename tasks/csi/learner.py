"""A predictor of channel state information with its loss."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from core.errors import ConfigError
from core.train.learner import Learner
from core.train.seeds import derive_seed
from tasks.csi.config import DataConfig
from tasks.csi.data.dataset import Channels
from tasks.csi.samples import CsiSamples, real_tensor


class CsiLearner(Learner):
    """A network with the loss of CSI-4CAST.

    Args:
        model: Maps ``(rows, T, 2 K)`` to ``(rows, horizon, 2 K)``; a row is one antenna of one sample.
        validation: What early stopping looks at.
        config: Noise of the validation.
        batch: Samples that are validated together.
    """

    def __init__(
        self, model: nn.Module, validation: Channels | None, config: DataConfig, batch: int = 16
    ) -> None:
        super().__init__(model)
        self.validation, self.config, self.batch = validation, config, batch

    def loss_and_metrics(self, batch: dict[str, Any]) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns the normalised mean square error of a batch, as loss and as ``nmse``."""
        loss = nmse(self.model(batch["history"].flatten(0, 1)).float(), batch["target"].flatten(0, 1))
        return loss, {"nmse": loss.detach()}

    def validate(self) -> tuple[float, dict[str, float]]:
        """Returns the mean of the errors of the validation channels without noise and in noise, and both.

        The noise of a sample is the same each time, with a signal-to-noise ratio from the range of the training.

        Raises:
            ConfigError: There are none.
        """
        channels = self.validation
        if channels is None or not len(channels):
            raise ConfigError(
                "there are no channels to validate on: set --data.validation_share above 0, or leave "
                "--train.patience and --train.validate_every at 0"
            )
        samples = CsiSamples(channels, self.config)
        totals = {"clean": 0.0, "noisy": 0.0}
        for start in range(0, len(channels), self.batch):
            chosen = range(start, min(start + self.batch, len(channels)))
            noisy = np.stack([samples.noisy_history(i, self._noise(i)) for i in chosen])
            part = slice(start, start + self.batch)
            for name, history in (("clean", channels.history[part]), ("noisy", noisy)):
                totals[name] += len(chosen) * self._error(history, channels.target[part])
        means = {name: total / len(channels) for name, total in totals.items()}
        value = (means["clean"] + means["noisy"]) / 2
        return value, {"nmse": value, **{f"{name}/nmse": mean for name, mean in means.items()}}

    def _noise(self, index: int) -> np.random.Generator:
        return np.random.default_rng(derive_seed(self.config.seed, "validation noise", index))

    @torch.no_grad()
    def _error(self, history: np.ndarray, target: np.ndarray) -> float:
        device = next(self.model.parameters()).device
        x, y = (real_tensor(part).flatten(0, 1).to(device) for part in (history, target))
        return nmse(self.model(x).float(), y).item()


def nmse(predicted: Tensor, truth: Tensor) -> Tensor:
    """Normalised mean square error of ``(rows, horizon, 2 K)``: error over power of each row and report, the mean.

    The loss of CSI-4CAST's released code; see :func:`tasks.csi.measures.step_nmse`.
    """
    return ((predicted - truth).square().sum(-1) / truth.square().sum(-1)).mean()
