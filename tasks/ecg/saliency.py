"""Where in a record a finding is seen, by what hiding a stretch of time changes.

After "Visualizing and Understanding Convolutional Networks", Zeiler and Fergus, arXiv:1311.2901, section 4.2.
"""

from __future__ import annotations

import numpy as np
from scipy.special import logit

from tasks.ecg.classifier import Classifier
from tasks.ecg.config import WindowConfig
from tasks.ecg.windows import cut, window_starts

WIDTH, STEP = 0.2, 0.1
"""Length of a hidden stretch, about a QRS complex with its edges, and time from one to the next, s."""
LEAST = 1e-6
"""Probabilities are kept this far from 0 and 1, where log odds are infinite."""


def occlusion(
    classifier: Classifier, signal: np.ndarray, index: int, window: WindowConfig | None = None
) -> np.ndarray:
    """Returns how much a class depends on each moment of a record.

    A stretch of 0.2 s is replaced in all leads by the straight line between its ends. What is returned is how far the
    log odds of the class then fall, as the mean over the windows that hold the stretch: the largest window alone would
    hide a finding that every beat shows. It needs nothing but outputs, so that all networks are treated alike.

    Args:
        classifier: The model.
        signal: ``(leads, samples)`` in mV, as :meth:`Classifier.prepare` returns it.
        index: Class.
        window: How the record becomes windows; by default as in training.

    Returns:
        Float32 ``(samples,)``; negative where the stretch speaks against the class.
    """
    length, samples = classifier.length, signal.shape[1]
    starts = window_starts(samples, length, classifier.stride(window))
    batch = classifier.window(window).batch
    windows = cut(signal, starts, length)
    whole = _log_odds(classifier, windows, index, batch)
    size = max(1, round(WIDTH * classifier.rate))
    stretches = window_starts(samples, size, max(1, round(STEP * classifier.rate)))
    total, covered = np.zeros(samples), np.zeros(samples)
    # Pairs of a stretch and a window that holds some of it.
    held = (stretches[:, None] < starts + length) & (stretches[:, None] + size > starts)
    stretch, own = np.nonzero(held)
    changed = np.empty(len(own))
    for first in range(0, len(own), batch):
        part = slice(first, first + batch)
        hidden = np.stack(
            [
                flatten(windows[w], stretches[s] - starts[w], size)
                for s, w in zip(stretch[part], own[part], strict=True)
            ]
        )
        changed[part] = _log_odds(classifier, hidden, index, batch)
    falls = np.bincount(stretch, whole[own] - changed) / held.sum(1)
    for start, fall in zip(stretches, falls, strict=True):
        total[start : start + size] += fall
        covered[start : start + size] += 1
    return (total / np.maximum(covered, 1)).astype(np.float32)


def flatten(window: np.ndarray, start: int, size: int) -> np.ndarray:
    """Returns a copy of a window ``(leads, L)`` with a straight line in each lead from ``start`` on, ``size`` long.

    The line joins the samples before and after; a stretch that reaches over an end has the level of the other sample.
    """
    first, last = max(start, 0), min(start + size, window.shape[1])
    left = window[:, first - 1] if first > 0 else None
    right = window[:, last] if last < window.shape[1] else None
    if left is None and right is None:
        left = right = np.zeros(len(window), window.dtype)
    left = right if left is None else left
    right = left if right is None else right
    assert left is not None and right is not None
    place = np.arange(1, last - first + 1) / (last - first + 1)
    result = window.copy()
    result[:, first:last] = left[:, None] + (right - left)[:, None] * place
    return result


def _log_odds(classifier: Classifier, windows: np.ndarray, index: int, batch: int) -> np.ndarray:
    parts = [
        classifier.window_probabilities(windows[first : first + batch])[:, index]
        for first in range(0, len(windows), batch)
    ]
    return logit(np.clip(np.concatenate(parts).astype(np.float64), LEAST, 1 - LEAST))
