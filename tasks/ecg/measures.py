"""Measures of classes of which a record may have any number: ranking, decisions and calibration, all from 0 to 1."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

BINS = 10
"""Of a calibration curve."""


@dataclass
class Ranking:
    """Positive and negative records of a class in order of their scores; records of equal score stand together.

    Only the ``G`` groups with a positive record are kept: the areas are sums over them.

    Attributes:
        positives: ``(G, R)`` weight of the positives in each group, for each of ``R`` weightings of the records.
        ties: ``(G, R)`` weight of the negatives in it.
        above: ``(G, R)`` weight of the negatives with higher scores.
        negatives: ``(R,)`` weight of all negatives.
    """

    positives: np.ndarray
    ties: np.ndarray
    above: np.ndarray
    negatives: np.ndarray


def rank(labels: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> Ranking:
    """Sorts the records of one class.

    Args:
        labels: ``(N,)`` bool.
        scores: ``(N,)``, higher for positives.
        weights: ``(N, R)`` how often each record counts; one column a weighting.
    """
    order = np.argsort(-scores, kind="stable")
    ranked, where = scores[order], np.flatnonzero(labels[order])
    last = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)
    first = np.append(0, last[:-1] + 1)
    groups, starts = np.unique(np.searchsorted(last, where), return_index=True)
    weights = weights[order]
    passed = np.cumsum(weights, 0)
    shape = (len(groups), weights.shape[1])
    positives = np.add.reduceat(weights[where], starts, 0) if len(groups) else np.zeros(shape)
    reached = passed[last[groups]]
    before = np.where(first[groups, None] > 0, passed[first[groups] - 1], 0)
    return Ranking(
        positives,
        reached - before - positives,
        before - (np.cumsum(positives, 0) - positives),
        passed[-1] - positives.sum(0),
    )


def area_under_roc(ranking: Ranking) -> np.ndarray:
    """Returns the area under the ROC of each weighting, ``(R,)``; nan where a kind of records is missing.

    The probability that a positive scores higher than a negative, where equal scores count half (Hanley and McNeil,
    1982).
    """
    beaten = ranking.negatives - ranking.above - ranking.ties / 2
    return _ratio((ranking.positives * beaten).sum(0), ranking.positives.sum(0) * ranking.negatives)


def average_precision(ranking: Ranking) -> np.ndarray:
    """Returns the area under the steps of precision over recall of each weighting, ``(R,)``; nan without positives."""
    hits = np.cumsum(ranking.positives, 0)
    precision = _ratio(hits, hits + ranking.above + ranking.ties)
    return _ratio(np.nansum(ranking.positives * precision, 0), ranking.positives.sum(0))


def auroc(labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Returns the area under the ROC of each class, ``(C,)``; nan where a kind of records is missing.

    Args:
        labels: ``(N, C)`` bool.
        scores: ``(N, C)``.
    """
    return np.array([area_under_roc(each)[0] for each in _rankings(labels, scores)])


def auprc(labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Returns the average precision of each class, ``(C,)``; nan for a class without positives or negatives.

    Args:
        labels: ``(N, C)`` bool.
        scores: ``(N, C)``.
    """
    # Without a negative every order is perfect: that says nothing.
    values = np.array([average_precision(each)[0] for each in _rankings(labels, scores)])
    return np.where(both_kinds(labels), values, np.nan)


def both_kinds(labels: np.ndarray) -> np.ndarray:
    """Returns for each column of ``(N, C)`` whether it has a positive and a negative, ``(C,)`` bool."""
    return np.logical_and(labels.any(0), ~labels.all(0))


def macro(values: np.ndarray) -> float:
    """Returns the mean of the values that are known; nan where none is."""
    known = ~np.isnan(values)
    return float(values[known].mean()) if known.any() else float("nan")


def sensitivity(labels: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Returns the share of each class's positives that are found, ``(C,)``; nan without any."""
    return _ratio((labels & found).sum(0), labels.sum(0))


def specificity(labels: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Returns the share of each class's negatives that are not found, ``(C,)``; nan without any."""
    return _ratio((~labels & ~found).sum(0), (~labels).sum(0))


def f_measure(labels: np.ndarray, found: np.ndarray, beta: float = 1.0) -> np.ndarray:
    """Returns the F-measure of each class, ``(C,)``; nan for a class that is neither there nor found.

    Args:
        labels: ``(N, C)`` bool.
        found: ``(N, C)`` bool.
        beta: How many times recall weighs as much as precision.
    """
    hits = (labels & found).sum(0)
    return _ratio((1 + beta**2) * hits, beta**2 * labels.sum(0) + found.sum(0))


def roc(labels: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the ROC of one class with both kinds of records: false alarms and hits as shares, from 0 to 1 each.

    Args:
        labels: ``(N,)`` bool.
        scores: ``(N,)``.
    """
    hits, found, _ = operating_points(labels, scores)
    false = found - hits
    return np.append(0.0, false / false[-1]), np.append(0.0, hits / hits[-1])


def precision_recall(labels: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns recall and precision of one class with positives, from the highest threshold down."""
    hits, found, _ = operating_points(labels, scores)
    return hits / hits[-1], hits / found


def operating_points(labels: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns what each threshold that matters finds in one class.

    Args:
        labels: ``(N,)`` bool.
        scores: ``(N,)``.

    Returns:
        Positives found, records found, and the distinct scores, which fall: three arrays ``(G,)``.
    """
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    last = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)
    return np.cumsum(labels[order])[last], last + 1, ranked[last]


def reliability(
    labels: np.ndarray, probabilities: np.ndarray, bins: int = BINS
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Compares probabilities with how often they came true, in bins of equal width.

    Args:
        labels: bool, of any shape.
        probabilities: Of the same shape.
        bins: Number of bins.

    Returns:
        Mean probability and share of positives of each bin (nan in empty ones), and decisions in it: three ``(bins,)``.
    """
    which = np.minimum((probabilities.ravel() * bins).astype(int), bins - 1)
    counts = np.bincount(which, minlength=bins)
    said = np.bincount(which, probabilities.ravel(), minlength=bins)
    came = np.bincount(which, labels.ravel(), minlength=bins)
    return _ratio(said, counts), _ratio(came, counts), counts


def calibration_error(labels: np.ndarray, probabilities: np.ndarray, bins: int = BINS) -> float:
    """Returns the expected calibration error over all decisions together (Naeini et al., AAAI 2015, eq. 3)."""
    said, came, counts = reliability(labels, probabilities, bins)
    return float(np.nansum(counts * np.abs(said - came)) / counts.sum())


def _rankings(labels: np.ndarray, scores: np.ndarray) -> list[Ranking]:
    once = np.ones((len(labels), 1))
    return [rank(labels[:, c], scores[:, c], once) for c in range(labels.shape[1])]


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    part, whole = np.broadcast_arrays(np.asarray(part, float), np.asarray(whole, float))
    return np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole > 0)
