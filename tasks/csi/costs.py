"""What a prediction costs: parameters, multiply-accumulates, and processor time."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch

from core.backbones.cost import count_macs
from tasks.csi.predictor import Predictor

TIMED = 8
"""Samples in a timed prediction."""


def network_cost(predictor: Predictor, antennas: int) -> dict[str, float]:
    """Counts a network's parameters and the multiply-accumulates of a sample.

    Args:
        predictor: The network, in its form for inference.
        antennas: Antennas of a sample.

    Returns:
        ``parameters``, and ``gmacs``: convolutions and matrix products, in 10^9; Fourier transforms and recurrent cells
        are not counted.
    """
    rows = torch.zeros(antennas, predictor.history, 2 * predictor.subcarriers, device=predictor.device)
    with torch.no_grad():
        macs = count_macs(lambda: predictor.network(rows))
    parameters = sum(p.numel() for p in predictor.network.parameters())
    return {"parameters": float(parameters), "gmacs": macs / 1e9}


def cpu_seconds(predict: Callable[[np.ndarray], np.ndarray], history: np.ndarray) -> float:
    """Returns the processor time of a prediction for each sample, s, over all threads; one prediction warms up.

    Args:
        predict: Maps complex ``(N, A, T, K)`` to the next reports.
        history: Samples to measure with; the first few are used.
    """
    history = history[:TIMED]
    predict(history)
    start = time.process_time()
    predict(history)
    return (time.process_time() - start) / len(history)
