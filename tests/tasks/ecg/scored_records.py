"""Made records and a classifier that is right about most of them."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from core.data.split import Fold
from tasks.ecg.config import LEADS, EcgScoringConfig
from tasks.ecg.data.dataset import EcgData
from tasks.ecg.unseen import folds_of

CLASSES = ["NSR", "AF", "LBBB", "RAD"]
CODES = ["426783006", "164889003", "733534002|164909002", "47665007"]
RATE = 100


def beats(rate: float, seconds: float = 10.0, jitter: float = 0.0, seed: int = 0) -> np.ndarray:
    """Times of beats, s."""
    rng = np.random.default_rng(seed)
    gaps = 60 / rate * (1 + jitter * rng.uniform(-1, 1, 200))
    times = 0.4 + np.cumsum(gaps) - gaps[0]
    return times[times < seconds - 0.3]


def record(times: np.ndarray, width: float = 0.02, axis: float = 60.0, seconds: float = 10.0) -> np.ndarray:
    """Twelve leads with P, QRS and T as bells; the frontal QRS axis is in degrees."""
    clock = np.arange(round(seconds * RATE)) / RATE

    def bells(shift: float, deviation: float) -> np.ndarray:
        return np.exp(-0.5 * ((clock[:, None] - times - shift) / deviation) ** 2).sum(1)

    x, y = np.cos(np.radians(axis)), np.sin(np.radians(axis))
    first, third = x, y * np.sqrt(3) / 2 - x / 2
    second = first + third
    gains = [first, second, third, -(first + second) / 2, (first - third) / 2, (second + third) / 2, -0.5]
    gains += [-0.3, 0.2, 0.8, 1.0, 0.8]
    signal = np.outer(gains, bells(0.0, width)) + 0.2 * bells(0.28, 0.05) + 0.1 * bells(-0.16, 0.025)
    return signal.astype(np.float32)


def made_data(count: int = 60, folds: int = 1, seed: int = 0) -> EcgData:
    """Records of two a patient whose rhythm, width and axis follow from their labels."""
    rng = np.random.default_rng(seed)
    labels = np.zeros((count, len(CLASSES)), bool)
    labels[:, 1] = rng.random(count) < 0.4
    labels[:, 0] = ~labels[:, 1]
    labels[:, 2:] = rng.random((count, 2)) < 0.3
    signals = []
    for i, (_, fibrillates, blocked, right) in enumerate(labels):
        times = beats(rng.uniform(60, 95), jitter=0.3 if fibrillates else 0.02, seed=i)
        signal = record(times, 0.04 if blocked else 0.02, 120.0 if right else rng.uniform(0, 80))
        signals.append(signal + 0.02 * rng.normal(size=signal.shape).astype(np.float32))
    patients = [f"P{i // 2}" for i in range(count)]
    return EcgData(
        "made",
        CLASSES,
        CODES,
        list(LEADS),
        RATE,
        [f"r{i}" for i in range(count)],
        patients,
        signals,
        np.ones((count, 12), bool),
        labels,
        split(count, folds),
        synthetic=True,
    )


def split(count: int, folds: int) -> list[Fold]:
    """Consecutive patients."""
    side = np.arange(count) // 2 % 5
    names = ["model"] if folds == 1 else [f"fold{k + 1}" for k in range(folds)]
    return [
        Fold(
            name,
            np.flatnonzero((side != k) & (side != (k + 1) % 5)),
            np.flatnonzero(side == (k + 1) % 5),
            np.flatnonzero(side == k),
        )
        for k, name in enumerate(names)
    ]


class Oracle:
    """Knows the labels; ``shift`` moves the logits of all, ``noise`` those of each decision."""

    def __init__(self, data: EcgData, noise: float = 1.0, shift: float = 0.0, folds: bool = False) -> None:
        self.data, self.noise, self.shift = data, noise, shift
        self.classes = data.classes
        self.thresholds = [0.5] * len(data.classes)
        self.networks = {fold.name: None for fold in data.folds} if folds else {"model": None}
        self.folds = folds_of(data) if folds else {}
        self.asked: list[tuple[str | None, int]] = []
        self.windows: list[object] = []
        self._index = {id(signal): i for i, signal in enumerate(data.signals)}

    def probabilities(self, signals, fold=None, window=None) -> np.ndarray:
        self.windows.append(window)
        rows = []
        for signal in signals:
            i = self._index[id(signal)]
            self.asked.append((fold, i))
            noise = np.random.default_rng(i).normal(size=len(self.classes))
            rows.append(6 * self.data.labels[i] - 3 + self.noise * noise + self.shift)
        return (1 / (1 + np.exp(-np.array(rows)))).astype(np.float32)


def scoring_of(**options) -> SimpleNamespace:
    return SimpleNamespace(scoring=EcgScoringConfig(**options))
