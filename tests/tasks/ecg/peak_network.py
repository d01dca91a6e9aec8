"""A network without weights that finds high waves, records of them, and a data set."""

from __future__ import annotations

import numpy as np
from torch import nn

from core.data.split import Fold
from tasks.ecg.classifier import Classifier
from tasks.ecg.config import LEADS
from tasks.ecg.data.dataset import EcgData

RATE = 100
CLASSES = ["tall I", "tall V6", "never"]


class PeakNet(nn.Module):
    """The logit of a class is four times its lead's maximum over 1 mV: of I, of V6, and of nothing.

    Args:
        shift: Added to all logits.
    """

    def __init__(self, shift: float = 0.0) -> None:
        super().__init__()
        # Something that moves to a device, is trained and exported.
        self.mix = nn.Conv1d(12, 3, 1)
        nn.init.zeros_(self.mix.weight)
        nn.init.zeros_(self.mix.bias)
        self.mix.weight.data[0, 0] = self.mix.weight.data[1, 11] = 4
        self.mix.bias.data[:] = shift - 4
        self.mix.bias.data[2] = -9

    def forward(self, signal):
        return self.mix(signal).amax(2)


def settings(**changes):
    return {
        "classes": CLASSES,
        "codes": ["1", "2", ""],
        "prepared": {"leads": list(LEADS), "rate": RATE},
        "samples": 250,
        "normalise": "none",
        "scaling": {"model": [0.0, 1.0]},
    } | changes


def peak_classifier(**metadata):
    return Classifier(settings(), {"model": PeakNet()}, metadata)


def beats(heights=(0.5, 0.5), samples=1000, every=80, first=40, rate=RATE):
    """Narrow waves of these heights, mV, in I and V6, and lower ones in the other leads: ``(12, samples)``."""
    place = np.arange(samples) * RATE / rate
    distance = (place - first + every / 2) % every - every / 2
    distance = np.where(place < first - every / 2, every, distance)
    wave = np.exp(-0.5 * (distance / 2) ** 2)
    gains = np.full(12, 0.3)
    gains[0], gains[11] = heights
    one, two = gains[0], 1.2 * gains[0]
    gains[1:6] = two, two - one, -(one + two) / 2, one - two / 2, two - one / 2
    return (gains[:, None] * wave).astype(np.float32)


def small_data():
    """Six records, of which the third has no V6 and the last is short."""
    signals = [beats((0.2 + 0.3 * i, 0.4), 600) for i in range(6)]
    signals[5] = signals[5][:, :180]
    signals[2][11] = 0
    present = np.ones((6, 12), bool)
    present[2, 11] = False
    labels = np.array([[i >= 3, i % 2 == 0, False] for i in range(6)])
    names = [f"r{i}" for i in range(6)]
    fold = Fold("model", np.array([1, 2, 4, 5]), np.array([0, 3]), np.array([], np.int64))
    return EcgData(
        "made", CLASSES, ["1", "2", ""], list(LEADS), RATE, names, names, signals, present, labels, [fold]
    )
