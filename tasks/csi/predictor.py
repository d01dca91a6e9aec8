"""A trained network: from histories of channels to their next reports."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from core.compress.folding import deploy
from core.train.hardware import choose_device
from tasks.csi.layout import to_complex
from tasks.csi.samples import real_tensor

BATCH = 8


class Predictor:
    """Predicts with a trained network.

    Args:
        settings: ``config.json`` of its package.
        network: Trained network; a copy of it in its form for inference is used.
        metadata: Of its package.

    Attributes:
        subcarriers: That the network was made for.
        history: Reports that it sees.
        horizon: Reports that it predicts.
        antennas: That it was trained with; it takes any number.
        duplex: tdd or fdd.
        spacing: Subcarrier spacing of its training, Hz.
        carrier: Carrier frequency of its training, Hz.
        interval: Time from one report to the next in its training, s.
        network: Maps ``(rows, T, 2 K)`` to ``(rows, horizon, 2 K)``.
        apart: Whether what it predicts of an antenna depends on that antenna alone.
    """

    def __init__(self, settings: Mapping[str, Any], network: nn.Module, metadata: Mapping[str, Any]) -> None:
        self.device = choose_device("auto")
        self.subcarriers, self.antennas = int(settings["subcarriers"]), int(settings["antennas"])
        self.history, self.horizon = int(settings["history"]), int(settings["horizon"])
        self.duplex = str(settings["duplex"])
        self.spacing, self.carrier = float(settings["spacing"]), float(settings["carrier"])
        self.interval = float(settings["interval"])
        self.apart = settings["model"].get("standardise") != "batch"
        self.network = deploy(network.eval()).to(self.device)
        self.metadata = dict(metadata)

    @torch.inference_mode()
    def predict(self, history: np.ndarray, batch: int = BATCH) -> np.ndarray:
        """Maps complex ``(N, A, history, K)`` to complex64 ``(N, A, horizon, K)``.

        Args:
            history: Channels.
            batch: Samples that are in memory as activations at a time.
        """
        samples, antennas = history.shape[:2]
        result = np.empty((samples, antennas, self.horizon, self.subcarriers), np.complex64)
        for start in range(0, samples, batch):
            part = real_tensor(history[start : start + batch]).to(self.device)
            predicted = to_complex(self.network(part.flatten(0, 1)).float())
            result[start : start + batch] = predicted.unflatten(0, part.shape[:2]).cpu().numpy()
        return result
