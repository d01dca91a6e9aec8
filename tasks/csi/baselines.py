"""Methods without a network, which a network has to beat on the same channels.

In FDD they see the uplink and are compared with the downlink: what predicts the uplink (last, pad) is then far off, as
in CSI-4CAST's tables, and ar and wiener learn what of the downlink follows linearly from the uplink.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np

from core.registry import Registry
from tasks.csi.config import CsiScoringConfig, DataConfig
from tasks.csi.data.dataset import CsiData
from tasks.csi.prony import prony_angular_delay
from tasks.csi.samples import CsiSamples

FITTED_ON = 1000
"""Training samples, evenly spread, that ar and wiener learn their few coefficients from."""
PRONY_ORDER = 6
"""Exponentials at each delay: of 4 to 8 the best on CDL A, C, D and E at 1, 3 and 10 m/s without noise and at 20 dB.

So it was chosen on channels like those of the test, E included, an advantage that the networks do not have.
"""
LOADING = 1e-9
"""Noise that Wiener's filter counts on in a clean channel, relative to its power: single precision, with room to spare.

It has few coefficients and many training samples, so that more would only cost accuracy: 1e-3 in its place loses 10 to
15 dB on clean CDL channels up to 10 m/s, also those of models that it was not fitted to.
"""


class Baseline(Protocol):
    """A method that was fitted, if it had to be."""

    def predict(self, history: np.ndarray, noise: np.ndarray) -> np.ndarray:
        """Returns the next reports, complex ``(N, A, horizon, K)``.

        Args:
            history: Complex ``(N, A, T, K)``.
            noise: Mean power of the disturbance of each sample, relative to that of its channel, ``(N,)``.
        """


BASELINES: Registry[Callable[[CsiData, DataConfig, CsiScoringConfig], Baseline]] = Registry("baseline")
"""Name to a function that fits a method to the training channels."""
LEARNING = ("ar", "wiener")
"""Baselines that need training channels."""


class Last:
    """The last report, again and again: no prediction.

    Args:
        horizon: Reports to predict.
    """

    def __init__(self, horizon: int) -> None:
        self.horizon = horizon

    def predict(self, history: np.ndarray, noise: np.ndarray) -> np.ndarray:
        """Returns the last report ``horizon`` times."""
        return np.repeat(history[:, :, -1:], self.horizon, axis=2)


class Autoregression:
    """Each report of an antenna and subcarrier is a linear function of its own last reports.

    Args:
        weights: Complex ``(order, horizon)``; all antennas, subcarriers and conditions have the same.
    """

    def __init__(self, weights: np.ndarray) -> None:
        self.weights = weights.astype(np.complex64)

    def predict(self, history: np.ndarray, noise: np.ndarray) -> np.ndarray:
        """Returns the next reports; the noise is as it was in training."""
        return _apply(self.weights, history)


class Wiener:
    """The linear minimum mean square error predictor for a known noise power.

    Args:
        covariance: Of the last reports, Hermitian ``(order, order)``, for a mean power of 1, without noise.
        cross: Covariance of them with the next ones, ``(order, horizon)``.
    """

    def __init__(self, covariance: np.ndarray, cross: np.ndarray) -> None:
        self.covariance, self.cross = covariance, cross

    def predict(self, history: np.ndarray, noise: np.ndarray) -> np.ndarray:
        """Returns the next reports, with a noise power that a receiver would have to estimate."""
        loaded = self.covariance + (noise[:, None, None] + LOADING) * np.eye(len(self.covariance))
        return _apply(np.linalg.solve(loaded, self.cross).astype(np.complex64), history)


class Prony:
    """Prony's method for each delay, see :mod:`tasks.csi.prony`.

    Args:
        horizon: Reports to predict.
    """

    def __init__(self, horizon: int) -> None:
        self.horizon = horizon

    def predict(self, history: np.ndarray, noise: np.ndarray) -> np.ndarray:
        """Returns the next reports."""
        return prony_angular_delay(history, self.horizon, PRONY_ORDER)


@BASELINES.register("last")
def fit_last(data: CsiData, config: DataConfig, scoring: CsiScoringConfig) -> Baseline:
    """No prediction; nothing is fitted."""
    return Last(data.test.target.shape[2])


@BASELINES.register("ar")
def fit_ar(data: CsiData, config: DataConfig, scoring: CsiScoringConfig) -> Baseline:
    """Ridge regression on training histories in the noise that networks learn from, each horizon on its own."""
    samples = CsiSamples(data.train, config)
    rng = np.random.default_rng(config.seed)
    noisy = (
        (samples.noisy_history(i, rng)[None], data.train.target[i : i + 1]) for i in _spread(len(data.train))
    )
    gram, cross = _moments(noisy, scoring.order)
    power = np.trace(gram).real / len(gram)
    return Autoregression(np.linalg.solve(gram + scoring.ridge * power * np.eye(len(gram)), cross))


@BASELINES.register("wiener")
def fit_wiener(data: CsiData, config: DataConfig, scoring: CsiScoringConfig) -> Baseline:
    """Wiener's filter from the covariance over time of the training channels without noise."""
    clean = ((data.train.history[i : i + 1], data.train.target[i : i + 1]) for i in _spread(len(data.train)))
    gram, cross = _moments(clean, scoring.order)
    power = np.trace(gram).real / len(gram)
    return Wiener(gram / power, cross / power)


@BASELINES.register("pad")
def fit_pad(data: CsiData, config: DataConfig, scoring: CsiScoringConfig) -> Baseline:
    """Prony's method; it fits each history when it sees it."""
    return Prony(data.test.target.shape[2])


def _spread(count: int) -> np.ndarray:
    return np.unique(np.linspace(0, count - 1, min(count, FITTED_ON)).astype(int))


def _moments(pairs: Iterator[tuple[np.ndarray, np.ndarray]], order: int) -> tuple[np.ndarray, np.ndarray]:
    """Sums ``x^H x`` and ``x^H y`` over antennas, subcarriers and samples; ``x`` are the last ``order`` reports."""
    gram: np.ndarray | float = 0.0
    cross: np.ndarray | float = 0.0
    for history, target in pairs:
        past, following = (
            np.moveaxis(part, 2, 3).reshape(-1, part.shape[2]).astype(np.complex128)
            for part in (history[:, :, -order:], target)
        )
        gram = gram + past.conj().T @ past
        cross = cross + past.conj().T @ following
    assert isinstance(gram, np.ndarray) and isinstance(cross, np.ndarray)
    return gram, cross


def _apply(weights: np.ndarray, history: np.ndarray) -> np.ndarray:
    """Maps histories ``(N, A, T, K)`` by ``([N,] order, horizon)`` to ``(N, A, horizon, K)``."""
    adjusted = np.expand_dims(weights.swapaxes(-1, -2), -3)  # the same for all antennas
    return adjusted @ history[:, :, -weights.shape[-2] :]
