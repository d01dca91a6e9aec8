"""Measures of keyword spotting: accuracy, recall, ROC, DET, intervals. Shares are 0 to 1 where percent is not named."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
from scipy.special import gammaincinv, ndtri

LEVEL = 0.95
"""Confidence of all intervals and limits."""


def confusion_matrix(labels: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Counts clips by what they are (rows) and what they were taken for (columns).

    Args:
        labels: ``(M,)`` true classes, from 0.
        predicted: ``(M,)`` classes.
        classes: Number of classes, ``C``.

    Returns:
        ``(C, C)`` counts.
    """
    return np.bincount(labels * classes + predicted, minlength=classes**2).reshape(classes, classes)


def accuracy(matrix: np.ndarray) -> float:
    """Returns the percent of the clips on the diagonal of a confusion matrix; nan without a clip."""
    return 100 * _share(matrix.trace(), matrix.sum())


def class_recall(matrix: np.ndarray) -> np.ndarray:
    """Returns the percent of each class's clips that were recognised, ``(C,)``; nan for a class without clips."""
    counts = matrix.sum(1)
    return 100 * np.divide(matrix.diagonal(), counts, out=np.full(len(matrix), np.nan), where=counts > 0)


def macro_recall(matrix: np.ndarray) -> float:
    """Returns the mean of :func:`class_recall` over the classes that have clips, percent."""
    recall = class_recall(matrix)
    return float(recall[~np.isnan(recall)].mean()) if matrix.any() else float("nan")


def roc(scores: np.ndarray, positives: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns the receiver operating characteristic, a point for each threshold that matters.

    Args:
        scores: ``(M,)``, higher for positives.
        positives: ``(M,)`` bool, some of each kind.

    Returns:
        Share of the negatives at or above the threshold (false alarms), share of the positives at or above it (hits),
        and the thresholds, which fall from infinity: three arrays ``(K,)``.
    """
    order = np.argsort(-scores, kind="stable")
    ranked, hit = scores[order], positives[order]
    # Equal scores pass a threshold together: the curve has no point between them.
    last = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)
    hits, false = np.cumsum(hit)[last], np.cumsum(~hit)[last]
    return (
        np.append(0.0, false / false[-1]),
        np.append(0.0, hits / hits[-1]),
        np.append(np.inf, ranked[last]),
    )


def area(false_alarms: np.ndarray, hits: np.ndarray) -> float:
    """Returns the area under a curve of :func:`roc`, by trapezoids."""
    return float(np.trapezoid(hits, false_alarms))


def one_against_rest(
    scores: np.ndarray, labels: np.ndarray, words: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the decisions of all words together, for the micro-averaged curve of arXiv:1710.10361, section 4.

    Every clip is asked once for each word whether it is that word; one threshold answers for all words. The paper
    draws the share of misses over that of false alarms, so that a lower curve is better: :func:`roc` gives both.

    Args:
        scores: ``(M, C)``.
        labels: ``(M,)`` classes.
        words: ``(W,)`` classes that are words.

    Returns:
        Scores and whether the clip is the word, both ``(M * W,)``.
    """
    return scores[:, words].ravel(), (labels[:, None] == words).ravel()


def both_kinds(positives: np.ndarray) -> bool:
    """Whether there is a positive and a negative, without which there is no curve."""
    return bool(positives.any() and not positives.all())


def equal_error_rate(false_alarms: np.ndarray, hits: np.ndarray) -> float:
    """Returns the share of false alarms where it equals that of misses, on the straight line between two points."""
    excess = false_alarms + hits - 1  # false alarms minus misses: from -1 up to 1
    i = int(np.argmax(excess >= 0))
    part = excess[i - 1] / (excess[i - 1] - excess[i])
    return float(false_alarms[i - 1] + part * (false_alarms[i] - false_alarms[i - 1]))


def normal_deviate(share: np.ndarray) -> np.ndarray:
    """Maps shares to the axis of a DET curve, on which normally distributed scores give a straight line.

    Martin et al., "The DET curve in assessment of detection task performance", Eurospeech 1997.
    """
    return ndtri(share)


def wilson_interval(count: int, total: int) -> tuple[float, float]:
    """Returns Wilson's 95 % interval of a share, for independent samples.

    Args:
        count: Successes.
        total: Samples, 1 or more.
    """
    z = NormalDist().inv_cdf((1 + LEVEL) / 2)
    share = count / total
    middle = share + z**2 / (2 * total)
    width = z * float(np.sqrt(share * (1 - share) / total + z**2 / (4 * total**2)))
    return (middle - width) / (1 + z**2 / total), (middle + width) / (1 + z**2 / total)


def poisson_limit(count: int) -> float:
    """Returns the largest mean that is not refuted, one-sided at 95 %, by ``count`` events: exact; 3.0 for none."""
    return float(gammaincinv(count + 1, LEVEL))


def _share(part: float, whole: float) -> float:
    return float(part / whole) if whole else float("nan")
