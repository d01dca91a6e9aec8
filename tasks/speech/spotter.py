"""A trained keyword spotter: from waveforms to scores of the classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from core.compress.folding import deploy
from core.train.hardware import choose_device
from tasks.speech.config import FeatureConfig, words_of
from tasks.speech.frontend import FrontEnd
from tasks.speech.streaming import OperatingPoints

BATCH = 64


class Spotter:
    """Scores clips with trained networks.

    Args:
        settings: ``config.json`` of its package.
        networks: Trained networks by name, one a fold; copies of them in their form for inference are used.
        metadata: Of its package.

    Attributes:
        classes: Names of the classes, in the order of the scores.
        rate: Sampling rate, Hz.
        length: Samples of a clip.
        front: Front end of the networks.
        networks: The networks.
    """

    def __init__(
        self, settings: Mapping[str, Any], networks: Mapping[str, nn.Module], metadata: Mapping[str, Any]
    ) -> None:
        self.device = choose_device("auto")
        self.classes: list[str] = list(settings["classes"])
        self.rate, self.length = int(settings["rate"]), int(settings["samples"])
        self.front = FrontEnd(FeatureConfig(**settings["features"]), self.rate).to(self.device)
        self.networks = {
            # Convolutions are faster so, at every size of a batch.
            name: deploy(network.eval()).to(self.device).to(memory_format=torch.channels_last)
            for name, network in networks.items()
        }
        self.metadata = dict(metadata)

    @property
    def words(self) -> list[str]:
        """The classes that are words."""
        return words_of(self.classes)

    @property
    def word_indices(self) -> np.ndarray:
        """Where the words stand among the classes."""
        return np.array([self.classes.index(word) for word in self.words])

    @property
    def operating_points(self) -> OperatingPoints | None:
        """What thresholds of the detector cost and find, as measured in training."""
        points = self.metadata.get("operating_points")
        return OperatingPoints(**points) if points else None

    def scores(self, waves: np.ndarray | Tensor, fold: str | None = None) -> np.ndarray:
        """Maps clips ``(B, N)`` in [-1, 1] to probabilities of the classes ``(B, C)``, single precision.

        Args:
            waves: Clips of ``length`` samples at ``rate``.
            fold: Network to ask; the mean of all when not given.
        """
        parts = [
            self.feature_scores(self.front(part.to(self.device)), fold)
            for part in torch.as_tensor(waves).split(BATCH)
        ]
        return np.concatenate(parts) if parts else np.zeros((0, len(self.classes)), np.float32)

    @torch.inference_mode()
    def feature_scores(self, features: Tensor, fold: str | None = None) -> np.ndarray:
        """Maps features ``(B, T, F)`` to probabilities ``(B, C)``."""
        asked = list(self.networks.values()) if fold is None else [self.networks[fold]]
        total = torch.stack([network(features).softmax(1) for network in asked]).mean(0)
        return total.float().cpu().numpy()

    def ordered(self, classes: list[str]) -> Spotter:
        """Returns a spotter whose scores stand in the order of ``classes``; those it does not know have score 0.

        Scores of classes that are not asked for are lost, so that a clip that sounds like one of them is counted as
        whatever comes next.
        """
        return self if classes == self.classes else _Ordered(self, classes)


class _Ordered(Spotter):
    """A spotter with other classes than its networks have."""

    def __init__(self, spotter: Spotter, classes: list[str]) -> None:
        self.__dict__.update(spotter.__dict__)
        own = {name: i for i, name in enumerate(spotter.classes)}
        self._from = np.array([own.get(name, len(own)) for name in classes])  # the column after the last is 0
        self.classes = list(classes)

    def feature_scores(self, features: Tensor, fold: str | None = None) -> np.ndarray:
        """Maps features ``(B, T, F)`` to probabilities ``(B, C)``."""
        scores = super().feature_scores(features, fold)
        return np.pad(scores, ((0, 0), (0, 1)))[:, self._from]
