"""What an epoch of training crops is made of, see :class:`core.data.loader.Samples`."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from core.data.split import Fold
from tasks.ecg.augment import augment, crop
from tasks.ecg.config import AugmentConfig
from tasks.ecg.data.dataset import EcgData


class EcgSamples:
    """A random crop of each training record, changed at random; an epoch has every record once.

    Args:
        data: Records.
        fold: Which of them are learned from.
        length: Samples of a crop.
        config: How crops are changed.
    """

    def __init__(self, data: EcgData, fold: Fold, length: int, config: AugmentConfig) -> None:
        self.data, self.length, self.config = data, length, config
        self.records = fold.train

    def __len__(self) -> int:
        return len(self.records)

    def draw(self, index: int, rng: np.random.Generator) -> dict[str, Any]:
        """Returns a crop.

        Returns:
            ``signal``, float32 ``(leads, length)`` in mV; ``labels``, float32 ``(C,)``, between 0 and 1 where two
            crops are mixed (mixup, arXiv:1710.09412); ``ids``, the name of the record.
        """
        record = int(self.records[index])
        signal, labels, present, length = self._crop(record, rng)
        if self.config.mixup and rng.random() < self.config.mixup:
            other = int(self.records[int(rng.integers(len(self.records)))])
            more, more_labels, more_present, more_length = self._crop(other, rng)
            weight = np.float32(rng.uniform())
            signal = weight * signal + (1 - weight) * more
            labels = weight * labels + (1 - weight) * more_labels
            present, length = present | more_present, max(length, more_length)
        # What follows a short record stays zeros, as it is at test.
        signal[:, :length] = augment(signal[:, :length], present, self.config, self.data.rate, rng)
        return {
            "signal": torch.from_numpy(signal),
            "labels": torch.from_numpy(labels),
            "ids": self.data.names[record],
        }

    def _crop(self, record: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
        labels = self.data.labels[record].astype(np.float32)
        signal = self.data.signals[record]
        length = min(signal.shape[1], self.length)
        return crop(signal, self.length, rng), labels, self.data.present[record], length
