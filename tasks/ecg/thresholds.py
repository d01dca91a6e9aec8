"""The probability from which a class counts as found."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np

from tasks.ecg.measures import both_kinds, operating_points

Kind = Literal["f1", "f2", "youden"]
FEW = 5
"""Positive records below which no threshold is said to be the best."""
UNDECIDED = 0.5
"""Threshold of a class without positive or without negative records to choose it on."""


def choose_thresholds(labels: np.ndarray, probabilities: np.ndarray, kind: Kind) -> np.ndarray:
    """Chooses the threshold of each class that is best on some records.

    With fewer than 5 positives that would be chance: then as many records are found as are positive. It lies halfway
    between the lowest probability that is found and the next lower one (or 0). Of equally good thresholds the highest
    is taken.

    Args:
        labels: ``(N, C)`` bool.
        probabilities: ``(N, C)``.
        kind: f1, f2 (recall weighs twice as much as precision), or youden (sensitivity plus specificity less 1: Youden,
            Cancer 3 (1950)).

    Returns:
        ``(C,)``; 0.5 for a class without positive or without negative records.
    """
    thresholds = np.full(labels.shape[1], UNDECIDED)
    for c in np.flatnonzero(both_kinds(labels)):
        hits, found, scores = operating_points(labels[:, c], probabilities[:, c].astype(float))
        gain = GAINS[kind](hits, found) if hits[-1] >= FEW else -np.abs(found - hits[-1])
        best = int(np.argmax(gain))
        thresholds[c] = (scores[best] + np.append(scores, 0.0)[best + 1]) / 2
    return thresholds


def _f1(hits: np.ndarray, found: np.ndarray) -> np.ndarray:
    return 2 * hits / (hits[-1] + found)


def _f2(hits: np.ndarray, found: np.ndarray) -> np.ndarray:
    return 5 * hits / (4 * hits[-1] + found)


def _youden(hits: np.ndarray, found: np.ndarray) -> np.ndarray:
    return hits / hits[-1] - (found - hits) / (found[-1] - hits[-1])


GAINS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {"f1": _f1, "f2": _f2, "youden": _youden}
"""What each kind maximises, from positives found and records found."""
