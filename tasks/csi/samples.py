"""What an epoch of training channels is made of, see :class:`core.data.loader.Samples`."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from core.train.seeds import derive_seed
from tasks.csi.config import DataConfig
from tasks.csi.data.dataset import Channels
from tasks.csi.data.disturb import add_noise
from tasks.csi.layout import to_real


class CsiSamples:
    """Histories in noise, and the reports that follow.

    Each sample draws a signal-to-noise ratio from ``config.snr``, and white noise; without ``config.redraw`` once for
    all epochs, as CSI-4CAST's authors.

    Args:
        channels: Channels without noise.
        config: Noise, and its seed where it is drawn once.
    """

    def __init__(self, channels: Channels, config: DataConfig) -> None:
        self.channels, self.config = channels, config

    def __len__(self) -> int:
        return len(self.channels)

    def draw(self, index: int, rng: np.random.Generator) -> dict[str, Any]:
        """Returns a sample.

        Returns:
            ``history``, float32 ``(antennas, T, 2 K)``, with noise; ``target``, float32 ``(antennas, horizon, 2 K)``,
            without; ``ids``, the condition and the number of the sample.
        """
        history, target = self.channels.history[index], self.channels.target[index]
        if self.config.rotate:
            turn = np.exp(2j * np.pi * rng.random((len(history), 1, 1))).astype(np.complex64)
            history, target = turn * history, turn * target
        if not self.config.redraw:
            rng = np.random.default_rng(derive_seed(self.config.seed, "training noise", index))
        condition = self.channels.conditions[self.channels.condition[index]]
        return {
            "history": real_tensor(self._noisy(history, rng)),
            "target": real_tensor(target),
            "ids": f"{condition.name} ({index})",
        }

    def noisy_history(self, index: int, rng: np.random.Generator) -> np.ndarray:
        """Returns a history in noise, complex64 ``(antennas, T, K)``."""
        return self._noisy(self.channels.history[index], rng)

    def _noisy(self, history: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        low, high = self.config.snr
        return add_noise(history, rng.uniform(low, high), rng)


def real_tensor(channels: np.ndarray) -> torch.Tensor:
    """Turns complex ``(..., K)`` into what networks see, float32 ``(..., 2 K)``."""
    return to_real(torch.from_numpy(np.ascontiguousarray(channels, np.complex64)))
