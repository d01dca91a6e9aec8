"""Methods without a network, which a classifier has to beat on the same records."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from rich.progress import track

from core.data.split import Fold
from core.registry import Registry
from tasks.ecg.data.dataset import EcgData
from tasks.ecg.features import record_features

STRENGTH = 0.03
"""Inverse of the penalty on the coefficients of the linear model (C of scikit-learn)."""
FARTHEST = 5.0
"""Deviations from the mean at which a feature is cut off."""


@dataclass
class FoldScores:
    """Probabilities of a method in a fold.

    Attributes:
        held_out: ``(V, C)`` of the records of :func:`held_out`, on which thresholds are chosen.
        test: ``(K, C)`` of the test records.
    """

    held_out: np.ndarray
    test: np.ndarray


BASELINES: Registry[Callable[[EcgData], list[FoldScores]]] = Registry("baseline")
"""Name to a function that learns from the training records of each fold."""


def held_out(data: EcgData) -> list[np.ndarray]:
    """Returns the records of each fold on which thresholds are chosen: validation, or training where one has none."""
    every = all(len(fold.validation) for fold in data.folds)
    return [fold.validation if every else fold.train for fold in data.folds]


@BASELINES.register("linear")
def linear(data: EcgData) -> list[FoldScores]:
    """Logistic regression of each class on the numbers of :func:`tasks.ecg.features.record_features`.

    Positives and negatives weigh the same while it is fitted; the odds are then taken back to the mean of all folds'
    training records, for the reason that :func:`prevalence` gives. A class without positives or negatives in a fold's
    training records has its share as probability.
    """
    used = np.unique(np.concatenate([np.concatenate([f.train, f.validation, f.test]) for f in data.folds]))
    features = np.zeros((data.size, 0))
    for i in track(used, "measuring records", transient=True):
        values = record_features(data.signals[i], data.rate, data.leads)
        if not features.shape[1]:
            features = np.zeros((data.size, len(values)))
        features[i] = values
    prior = _shares(data)
    folds = zip(data.folds, held_out(data), strict=True)
    return [_fit_linear(data, features, fold, chosen, prior) for fold, chosen in folds]


def _fit_linear(
    data: EcgData, features: np.ndarray, fold: Fold, chosen: np.ndarray, prior: np.ndarray
) -> FoldScores:
    from sklearn.linear_model import LogisticRegression

    mean, deviation = features[fold.train].mean(0), features[fold.train].std(0)
    scaled = (features - mean) / np.where(deviation > 0, deviation, 1)
    scaled = np.clip(scaled, -FARTHEST, FARTHEST)
    asked = np.concatenate([chosen, fold.test])
    result = np.zeros((len(asked), len(data.classes)))
    for c in range(len(data.classes)):
        labels = data.labels[fold.train, c]
        share = labels.mean()
        if share in (0, 1):
            result[:, c] = share
            continue
        model = LogisticRegression(C=STRENGTH, class_weight="balanced", max_iter=2000)
        model.fit(scaled[fold.train], labels)
        logits = model.decision_function(scaled[asked]) + np.log(prior[c] / (1 - prior[c]))
        result[:, c] = 1 / (1 + np.exp(-logits))
    return FoldScores(result[: len(chosen)], result[len(chosen) :])


@BASELINES.register("prevalence")
def prevalence(data: EcgData) -> list[FoldScores]:
    """The share of each class in the training records, whatever the record.

    With folds it is the mean over them: else the records of different folds, which are ranked together, would differ,
    and against the truth.
    """
    shares = _shares(data)
    return [
        FoldScores(np.tile(shares, (len(chosen), 1)), np.tile(shares, (len(fold.test), 1)))
        for fold, chosen in zip(data.folds, held_out(data), strict=True)
    ]


def _shares(data: EcgData) -> np.ndarray:
    """Returns the share of each class in the training records, the mean over the folds, ``(C,)``."""
    return np.mean([data.labels[fold.train].mean(0) for fold in data.folds], 0)


def can_be_fitted(data: EcgData) -> bool:
    """Whether every fold has records to learn from; data that is only tested on has none."""
    return all(len(fold.train) for fold in data.folds)
