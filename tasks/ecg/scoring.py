"""Scores of a classifier and of the baselines on the test records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from rich.progress import track

from core.task import Evaluation
from tasks.ecg.baselines import BASELINES, FoldScores, can_be_fitted, held_out
from tasks.ecg.challenge import ChallengeScoring, score_of, scoring_of
from tasks.ecg.config import EcgScoringConfig
from tasks.ecg.data.codes import CHALLENGE_CLASSES
from tasks.ecg.data.dataset import EcgData
from tasks.ecg.intervals import Intervals, bootstrap
from tasks.ecg.measures import (
    auprc,
    auroc,
    both_kinds,
    calibration_error,
    f_measure,
    macro,
    sensitivity,
    specificity,
)
from tasks.ecg.thresholds import FEW, choose_thresholds
from tasks.ecg.unseen import network_notes, own_networks, same_folds

if TYPE_CHECKING:
    from tasks.ecg.classifier import Classifier

HEADLINES = {"macro AUROC": "macro_auroc", "AUPRC": "macro_auprc", "F": "macro_f", "challenge": "challenge"}
"""Means over the classes that are said in words, with their intervals."""
CHUNK = 128
"""Records that are handed to the classifier together."""


@dataclass
class Outputs:
    """What the figures need.

    Attributes:
        records: ``(M,)`` positions of the test records, fold after fold.
        folds: Name of the fold of each.
        probabilities: ``(M, C)``.
        labels: ``(M, C)`` bool.
        thresholds: ``(M, C)`` from which a class counts as found; those of a record's fold.
        intervals: 95 % intervals; None without resampling.
    """

    records: np.ndarray
    folds: list[str]
    probabilities: np.ndarray
    labels: np.ndarray
    thresholds: np.ndarray
    intervals: Intervals | None = None

    @property
    def found(self) -> np.ndarray:
        """``(M, C)`` bool, the classes that are found."""
        return self.probabilities >= self.thresholds


def score_classifier(classifier: Classifier, config: Any, data: EcgData) -> Evaluation:
    """Scores a trained model; its classes are those of the data, in the same order.

    With the folds of the training, each fold's network scores the fold's own test records, by thresholds that are
    chosen on held-out records of all folds but for those tested. With other folds or other data, each record is scored
    by the network that has not learned from it, or by all together if none has, by the thresholds of the package. See
    :func:`evaluation` for the metrics.
    """
    scoring: EcgScoringConfig = config.scoring
    several = len(classifier.networks) > 1
    if several and same_folds(classifier.folds, data):
        folds = [
            FoldScores(
                *(_probabilities(classifier, scoring, data, part, fold.name) for part in (chosen, fold.test))
            )
            for chosen, fold in zip(held_out(data), data.folds, strict=True)
        ]
        return _evaluate_folds(data, folds, scoring)
    own = own_networks(classifier.folds, data) if several else [None] * data.size
    tests = [_each_by_its_own(classifier, scoring, data, fold.test, own) for fold in data.folds]
    thresholds = [np.asarray(classifier.thresholds, float)] * len(data.folds)
    result = evaluation(data, tests, thresholds, scoring)
    if several:
        result.notes += network_notes([own[i] for fold in data.folds for i in fold.test])
    return result


def score_baselines(config: Any, data: EcgData) -> dict[str, Evaluation]:
    """Scores the baselines of ``config.scoring.baselines`` on the same records, in this order.

    Where there is nothing to learn from, what a guess gives takes their place.
    """
    scoring: EcgScoringConfig = config.scoring
    if not can_be_fitted(data):
        even = np.full(len(data.classes), 0.5)
        tests = [np.tile(even, (len(fold.test), 1)) for fold in data.folds]
        result = evaluation(data, tests, [even] * len(data.folds), scoring)
        result.notes.append("nothing to learn from: guess finds every class in every record")
        return {"guess": result}
    return {name: _evaluate_folds(data, BASELINES[name](data), scoring) for name in scoring.baselines}


def calibrate(classifier: Classifier, scoring: EcgScoringConfig, data: EcgData) -> np.ndarray:
    """Chooses the threshold of each class on validation records, each scored by its fold's network, ``(C,)``.

    Training records take the place of missing validation records.

    Args:
        classifier: The model.
        scoring: What a threshold maximises, and how a record becomes windows.
        data: Its records.
    """
    chosen = held_out(data)
    several = len(classifier.networks) > 1
    parts = [
        _probabilities(classifier, scoring, data, records, fold.name if several else None)
        for records, fold in zip(chosen, data.folds, strict=True)
    ]
    labels = data.labels[np.concatenate(chosen)]
    return choose_thresholds(labels, np.concatenate(parts), scoring.threshold)


def evaluation(
    data: EcgData,
    probabilities: Sequence[np.ndarray],
    thresholds: Sequence[np.ndarray],
    scoring: EcgScoringConfig,
) -> Evaluation:
    """Turns probabilities ``(K, C)`` of each fold's test records, and its thresholds ``(C,)``, into an evaluation.

    All metrics are 0 to 1. The test records of all folds are ranked together, so that folds whose networks are
    differently sure lower the areas; the mean over the folds stands beside them.

    - ``macro_auroc``, ``macro_auprc``, ``macro_f``, ``challenge``: means over the classes with positive and negative
      test records, and the score of the PhysioNet challenge over the scored classes, where sinus rhythm is one;
      ``_low`` and ``_high`` are the ends of their intervals;
    - ``ece``: how far probabilities are from shares, over all decisions;
    - ``<fold>/macro_auroc``, their mean ``macro_auroc_folds`` and standard deviation ``macro_auroc_std``;
    - ``<class>/auroc``, ``auprc``, ``f``, ``sensitivity``, ``specificity``.
    """
    records = np.concatenate([fold.test for fold in data.folds])
    outputs = Outputs(
        records,
        [fold.name for fold in data.folds for _ in fold.test],
        np.concatenate(probabilities).astype(float),
        data.labels[records],
        np.concatenate([np.tile(t, (len(f.test), 1)) for t, f in zip(thresholds, data.folds, strict=True)]),
    )
    labels, found, scored = outputs.labels, outputs.found, scoring_of(data.codes)
    areas = auroc(labels, outputs.probabilities)
    precisions = auprc(labels, outputs.probabilities)
    f = f_measure(labels, found)
    metrics = {
        "macro_auroc": macro(areas),
        "macro_auprc": macro(precisions),
        "macro_f": macro(np.where(both_kinds(labels), f, np.nan)),
    }
    terms = scored.terms(labels, found) if scored else None
    if terms is not None:
        metrics["challenge"] = float(score_of(terms.sum(0)))
    notes = _notes(data, outputs, scored)
    if scoring.bootstrap:
        patients = [data.patients[i] for i in records]
        outputs.intervals = bootstrap(
            labels, outputs.probabilities, patients, scoring.bootstrap, scoring.seed, terms
        )
        for name, (low, high) in outputs.intervals.macro.items():
            metrics |= {f"{name}_low": low, f"{name}_high": high}
        drawn = f"{scoring.bootstrap} drawings of {len(set(patients))} patients"
        notes.append(f"95 % intervals are from {drawn}; another training may differ by more")
    metrics["ece"] = calibration_error(labels, outputs.probabilities)
    metrics |= _by_fold(data, outputs)
    of_class = {
        "auroc": areas,
        "auprc": precisions,
        "f": f,
        "sensitivity": sensitivity(labels, found),
        "specificity": specificity(labels, found),
    }
    for c, name in enumerate(data.classes):
        metrics |= {f"{name}/{measure}": float(values[c]) for measure, values in of_class.items()}
    finite = {name: value for name, value in metrics.items() if np.isfinite(value)}
    return Evaluation(finite, _rows(data, outputs), outputs, [_headline(finite), *notes])


def _evaluate_folds(data: EcgData, folds: Sequence[FoldScores], scoring: EcgScoringConfig) -> Evaluation:
    """Chooses thresholds for each fold on held-out records of all folds but its own test records."""
    chosen = np.concatenate(held_out(data))
    scores = np.concatenate([fold.held_out for fold in folds])
    thresholds = []
    for fold in data.folds:
        allowed = ~np.isin(chosen, fold.test)
        thresholds.append(choose_thresholds(data.labels[chosen[allowed]], scores[allowed], scoring.threshold))
    return evaluation(data, [fold.test for fold in folds], thresholds, scoring)


def _each_by_its_own(
    classifier: Classifier,
    scoring: EcgScoringConfig,
    data: EcgData,
    records: np.ndarray,
    own: Sequence[str | None],
) -> np.ndarray:
    """Returns probabilities ``(M, C)`` of records, each of the network that ``own`` names."""
    values = np.zeros((len(records), len(data.classes)))
    for network in dict.fromkeys(own[i] for i in records):
        mine = np.array([own[i] == network for i in records])
        values[mine] = _probabilities(classifier, scoring, data, records[mine], network)
    return values


def _probabilities(
    classifier: Classifier, scoring: EcgScoringConfig, data: EcgData, records: np.ndarray, network: str | None
) -> np.ndarray:
    parts = [np.zeros((0, len(data.classes)))]
    starts = range(0, len(records), CHUNK)
    for start in track(starts, f"scoring {network or 'records'}", transient=True):
        signals = [data.signals[i] for i in records[start : start + CHUNK]]
        parts.append(classifier.probabilities(signals, fold=network, window=scoring))
    return np.concatenate(parts)


def _headline(metrics: dict[str, float]) -> str:
    parts = []
    for name, metric in HEADLINES.items():
        if metric in metrics:
            limits = [metrics.get(f"{metric}_{end}", np.nan) for end in ("low", "high")]
            spread = "" if np.isnan(limits).any() else " (95 % {:.3f} to {:.3f})".format(*limits)
            parts.append(f"{name} {metrics[metric]:.3f}{spread}")
    return ", ".join(parts) or "no class has positive and negative test records"


def _notes(data: EcgData, outputs: Outputs, scored: ChallengeScoring | None) -> list[str]:
    notes = []
    known = both_kinds(outputs.labels)
    if missing := [name for name, known_one in zip(data.classes, known, strict=True) if not known_one]:
        notes.append(
            f"only positive or only negative test records of {', '.join(missing)}: no areas of these"
        )
    chosen = held_out(data)
    if len(chosen[0]) and not all(len(fold.validation) for fold in data.folds):
        notes.append("thresholds were chosen on training records, for want of validation records")
    counts = data.labels[np.unique(np.concatenate(chosen))].sum(0)
    if len(chosen[0]) and (counts < FEW).any():
        few = [name for name, count in zip(data.classes, counts, strict=True) if count < FEW]
        notes.append(
            f"thresholds of {', '.join(few)} rest on fewer than {FEW} positive records: as many are found there as are"
            " positive"
        )
    if scored and len(scored.columns) < len(CHALLENGE_CLASSES):
        notes.append(
            f"challenge counts {len(scored.columns)} of the {len(CHALLENGE_CLASSES)} scored classes: it cannot be"
            " compared with published ones"
        )
    notes.append("research software: not a medical device")
    return notes


def _by_fold(data: EcgData, outputs: Outputs) -> dict[str, float]:
    if len(data.folds) == 1:
        return {}
    names = np.array(outputs.folds)
    values = {}
    for fold in data.folds:
        mine = names == fold.name
        areas = auroc(outputs.labels[mine], outputs.probabilities[mine])
        values[f"{fold.name}/macro_auroc"] = macro(areas)
    every = np.array(list(values.values()))
    return values | {"macro_auroc_folds": float(every.mean()), "macro_auroc_std": float(every.std(ddof=1))}


def _rows(data: EcgData, outputs: Outputs) -> pd.DataFrame:
    def joined(chosen: np.ndarray) -> list[str]:
        return [";".join(data.classes[c] for c in np.flatnonzero(row)) for row in chosen]

    columns: dict[str, Any] = {
        "file": [data.names[i] for i in outputs.records],
        "patient": [data.patients[i] for i in outputs.records],
        "fold": outputs.folds,
        "labels": joined(outputs.labels),
        "found": joined(outputs.found),
    }
    columns |= {name: outputs.probabilities[:, c] for c, name in enumerate(data.classes)}
    return pd.DataFrame(columns)
