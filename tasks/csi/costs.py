"""What a prediction costs: parameters, multiply-accumulates, and processor time."""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable

import torch

from core.backbones.cost import count_macs
from tasks.csi.predictor import Predictor

TIMED = 8
"""Samples in a timed prediction."""
LEAST_SECONDS = 0.2
"""Predictions are repeated until they took this together, so that short ones are measured too."""


def network_cost(predictor: Predictor, antennas: int) -> dict[str, float]:
    """Counts a network's parameters and the multiply-accumulates of a sample.

    Args:
        predictor: The network, in its form for inference.
        antennas: Antennas of a sample.

    Returns:
        ``parameters``, and ``gmacs``, in 10^9: convolutions and matrix products, those of recurrent cells, of attention
        and of the Fourier transform among them; sums and products of single values are not counted.
    """
    # Fused kernels for recurrent cells and attention hide their products from the counter; this device has none.
    network = copy.deepcopy(predictor.network).to("meta")
    rows = torch.zeros(antennas, predictor.history, 2 * predictor.subcarriers, device="meta")
    with torch.no_grad():
        macs = count_macs(lambda: network(rows))
    parameters = sum(p.numel() for p in network.parameters())
    return {"parameters": float(parameters), "gmacs": macs / 1e9}


def cpu_seconds(predict: Callable[[], object]) -> float:
    """Returns the median processor time of a call, s, over all threads; one call warms up."""
    predict()
    times: list[float] = []
    while sum(times) < LEAST_SECONDS:
        start = time.process_time()
        predict()
        times.append(time.process_time() - start)
    return statistics.median(times)
