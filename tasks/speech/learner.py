"""A keyword spotter with its loss."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.errors import ConfigError
from core.train.learner import Learner
from tasks.speech.data.augment import apply_masks
from tasks.speech.data.clips import Clips, as_float
from tasks.speech.frontend import FrontEnd

CLIPS = 64
"""Waveforms that are turned into features together."""


class SpeechLearner(Learner):
    """A keyword spotter with its loss.

    Args:
        model: Maps features ``(B, T, F)`` to logits ``(B, C)``.
        front: Makes the features where a batch holds waveforms.
        weights: Weights of the classes in the loss ``(C,)``; ``None`` for equal ones.
        smoothing: Label smoothing.
        validation: Clips, and which of them early stopping looks at ``(V,)``.
    """

    def __init__(
        self,
        model: nn.Module,
        front: FrontEnd,
        weights: Tensor | None = None,
        smoothing: float = 0.0,
        validation: tuple[Clips, np.ndarray] | None = None,
    ) -> None:
        super().__init__(model)
        self.front, self.smoothing, self.validation = front, smoothing, validation
        self.weights: Tensor | None
        self.register_buffer("weights", weights, persistent=False)
        self._held_out: tuple[Tensor, Tensor] | None = None

    def loss_and_metrics(self, batch: dict[str, Any]) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns the cross entropy of a batch and its accuracy in percent."""
        logits = self.model(self.features(batch)).float()
        loss = self.cross_entropy(logits, batch["label"])
        return loss, {"accuracy": 100 * (logits.argmax(1) == batch["label"]).float().mean()}

    def cross_entropy(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Returns the loss of logits ``(B, C)`` against labels ``(B,)``."""
        return F.cross_entropy(logits, labels, self.weights, label_smoothing=self.smoothing)

    @torch.no_grad()
    def features(self, batch: dict[str, Any]) -> Tensor:
        """Returns the features ``(B, T, F)`` of a batch, which holds them or waveforms."""
        if "features" in batch:
            return batch["features"]
        with torch.autocast(batch["wave"].device.type, enabled=False):
            features = self.front(batch["wave"])
        if "mel_masks" in batch:
            features = apply_masks(features, batch["mel_masks"], batch["time_masks"])
        return features

    def validate(self) -> tuple[float, dict[str, float]]:
        """Returns the cross entropy of the validation clips, and it with their accuracy in percent.

        Raises:
            ConfigError: There are none.
        """
        if self.validation is None or not len(self.validation[1]):
            raise ConfigError(
                "there are no recordings to validate on: set --data.validation_share above 0, or leave "
                "--train.patience and --train.validate_every at 0"
            )
        device = next(self.model.parameters()).device
        if self._held_out is None:
            clips, chosen = self.validation
            labels = torch.from_numpy(clips.labels[chosen]).to(device)
            self._held_out = clip_features(self.front, clips, chosen), labels
        features, truth = self._held_out
        logits = torch.cat([self.model(part).float() for part in features.split(256)])
        loss = F.cross_entropy(logits, truth).item()
        accuracy = 100 * (logits.argmax(1) == truth).float().mean().item()
        return loss, {"loss": loss, "accuracy": accuracy}


@torch.no_grad()
def clip_features(front: FrontEnd, clips: Clips, chosen: np.ndarray) -> Tensor:
    """Returns the features ``(K, T, F)`` of clips ``(K,)``, a few of which are in memory as waveforms at a time."""
    parts = [
        front(torch.from_numpy(as_float(clips.waves[part])).to(front.window.device))
        for part in np.split(chosen, range(CLIPS, len(chosen), CLIPS))
    ]
    return torch.cat(parts)
