"""How far a predicted channel is from the true one, for each sample. Arrays are NumPy's.

Channels are complex ``(N, A, H, K)``: samples, antennas, reports, subcarriers.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np


@dataclass
class Measures:
    """Measures of each sample.

    Attributes:
        step_nmse: ``(N, H)``, see :func:`step_nmse`; its mean is what CSI-4CAST's authors report.
        error: ``(N,)`` squared error, summed over antennas, reports and subcarriers.
        power: ``(N,)`` squared magnitude of the truth, summed in the same way.
        efficiency: ``(N,)`` spectral efficiency with the prediction, bit/s/Hz.
        perfect: ``(N,)`` spectral efficiency with the truth, bit/s/Hz.
        cosine: ``(N,)``, see :func:`cosine_similarity`.
    """

    step_nmse: np.ndarray
    error: np.ndarray
    power: np.ndarray
    efficiency: np.ndarray
    perfect: np.ndarray
    cosine: np.ndarray

    @property
    def nmse(self) -> np.ndarray:
        """``(N,)``, mean over the reports."""
        return self.step_nmse.mean(1)


def measure(predicted: np.ndarray, truth: np.ndarray, snr: float) -> Measures:
    """Measures predictions.

    Args:
        predicted: Complex ``(N, A, H, K)``.
        truth: The same shape.
        snr: Signal-to-noise ratio of the spectral efficiency, dB.
    """
    return Measures(
        step_nmse(predicted, truth),
        _power(predicted - truth).sum((1, 2, 3)),
        _power(truth).sum((1, 2, 3)),
        spectral_efficiency(predicted, truth, snr),
        spectral_efficiency(truth, truth, snr),
        cosine_similarity(predicted, truth),
    )


def join(parts: list[Measures]) -> Measures:
    """Puts measures of several batches behind each other."""
    return Measures(*(np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(Measures)))


def step_nmse(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Normalised mean square error of each report, ``(N, H)``.

    The squared error of an antenna over its squared magnitude, both summed over subcarriers, then the mean over
    antennas: the loss of CSI-4CAST's released code. Antennas in a fade weigh as much as others, so that a prediction of
    the mean has more than 1.
    """
    return (_power(predicted - truth).sum(3) / _power(truth).sum(3)).mean(1)


def spectral_efficiency(predicted: np.ndarray, truth: np.ndarray, snr: float) -> np.ndarray:
    """Spectral efficiency ``(N,)`` in bit/s/Hz of a beam along the prediction.

    ``log2(1 + |h^H ĥ|² / (|ĥ|² σ²))`` with vectors over antennas and ``σ² = 10^(-snr / 10)``, the mean over
    subcarriers and reports, as in CSI-4CAST's released code; a prediction of zero has 0.
    """
    inner = _power((truth.conj() * predicted).sum(1))
    gain = inner / np.maximum(_power(predicted).sum(1), np.finfo(np.float64).tiny)
    return np.log2(1 + gain * 10 ** (snr / 10)).mean((1, 2))


def cosine_similarity(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """``|h^H ĥ| / (|h| |ĥ|)`` with vectors over antennas, the mean over subcarriers and reports: ``(N,)``."""
    inner = np.abs((truth.conj() * predicted).sum(1)).astype(np.float64)
    sizes = np.sqrt(_power(predicted).sum(1) * _power(truth).sum(1))
    return (inner / np.maximum(sizes, np.finfo(np.float64).tiny)).mean((1, 2))


def decibel(ratio: float) -> float:
    """Returns ``10 log10`` of a ratio of powers; minus infinity for 0."""
    with np.errstate(divide="ignore"):
        return float(10 * np.log10(ratio))


def _power(values: np.ndarray) -> np.ndarray:
    """Squared magnitudes, in double precision so that sums of many are exact enough."""
    return values.real.astype(np.float64) ** 2 + values.imag.astype(np.float64) ** 2
