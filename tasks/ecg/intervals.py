"""How far the scores could be off because there are few test records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tasks.ecg.challenge import score_of
from tasks.ecg.measures import area_under_roc, average_precision, rank

COVERED = 95.0
"""Percent of the resamplings inside an interval."""
TOGETHER = 64
"""Resamplings that are scored at once."""


@dataclass
class Intervals:
    """95 % intervals, lowest and highest value.

    Attributes:
        auroc: ``(C, 2)`` of each class; nan where it has none.
        macro: Of ``macro_auroc``, ``macro_auprc`` and, where it is scored, ``challenge``.
    """

    auroc: np.ndarray
    macro: dict[str, tuple[float, float]]


def bootstrap(
    labels: np.ndarray,
    probabilities: np.ndarray,
    patients: Sequence[str],
    count: int,
    seed: int,
    terms: np.ndarray | None = None,
) -> Intervals:
    """Returns percentiles over test sets that are drawn from the patients, with all records of each.

    Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 13. A class of which a drawn set has no
    positive or no negative record is left out of its means. Says nothing about other trainings or thresholds.

    Args:
        labels: ``(N, C)`` bool.
        probabilities: ``(N, C)``.
        patients: Whose each record is.
        count: Number of drawings, 1 or more.
        seed: Seed of the drawing.
        terms: ``(N, 3)`` of :func:`tasks.ecg.challenge.challenge_terms`.
    """
    rng = np.random.default_rng(seed)
    names, owner = np.unique(np.asarray(patients), return_inverse=True)
    shares = np.full(len(names), 1 / len(names))
    areas, precisions, challenges = [], [], []
    for start in range(0, count, TOGETHER):
        drawn = rng.multinomial(len(names), shares, size=min(TOGETHER, count - start)).T
        weights = drawn[owner].astype(float)
        rankings = [rank(labels[:, c], probabilities[:, c], weights) for c in range(labels.shape[1])]
        area = np.array([area_under_roc(each) for each in rankings])
        areas.append(area)
        precision = np.array([average_precision(each) for each in rankings])
        precisions.append(np.where(np.isnan(area), np.nan, precision))
        if terms is not None:
            challenges.append(score_of(weights.T @ terms))
    area = np.concatenate(areas, 1)
    macro = {
        "macro_auroc": _macro(area),
        "macro_auprc": _macro(np.concatenate(precisions, 1)),
        "challenge": np.concatenate(challenges) if challenges else np.zeros(0),
    }
    limits = {name: _limits(values) for name, values in macro.items()}
    return Intervals(
        np.array([_limits(row) or (np.nan, np.nan) for row in area]).reshape(-1, 2),
        {name: pair for name, pair in limits.items() if pair is not None},
    )


def _macro(values: np.ndarray) -> np.ndarray:
    """Means over the known classes of ``(C, R)``, ``(R,)``."""
    known = ~np.isnan(values)
    total = np.where(known, values, 0).sum(0)
    return np.divide(total, known.sum(0), out=np.full(total.shape, np.nan), where=known.any(0))


def _limits(values: np.ndarray) -> tuple[float, float] | None:
    values = values[~np.isnan(values)]
    if not len(values):
        return None
    tail = (100 - COVERED) / 2
    low, high = np.percentile(values, [tail, 100 - tail])
    return float(low), float(high)
