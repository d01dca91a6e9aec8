"""Scores of a keyword spotter and of the baselines on the test clips, and of the detector on a stream."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from core.data.split import Fold
from core.task import Evaluation
from tasks.speech.baselines import BASELINES, can_be_fitted
from tasks.speech.config import SpeechScoringConfig
from tasks.speech.data.clips import SpeechData, as_float
from tasks.speech.measures import (
    accuracy,
    area,
    both_kinds,
    class_recall,
    confusion_matrix,
    equal_error_rate,
    macro_recall,
    one_against_rest,
    poisson_limit,
    roc,
    wilson_interval,
)
from tasks.speech.scene import THRESHOLDS, Counts, compose, operating_points, sweep
from tasks.speech.spotter import Spotter
from tasks.speech.streaming import UNCALIBRATED, OperatingPoints, trained_otherwise

CHUNK = 512
"""Clips that are turned into single precision together."""


@dataclass
class Outputs:
    """What the figures need.

    Attributes:
        clips: ``(M,)`` positions of the test clips, fold after fold.
        folds: Name of the fold of each.
        scores: ``(M, C)``.
        labels: ``(M,)`` true classes.
        threshold: Of the detector.
        stream: What thresholds find and cost on the stream of test clips.
        calibration: The same on that of the validation clips, on which the threshold was chosen.
    """

    clips: np.ndarray
    folds: list[str]
    scores: np.ndarray
    labels: np.ndarray
    threshold: float = UNCALIBRATED
    stream: OperatingPoints | None = None
    calibration: OperatingPoints | None = None

    @property
    def predicted(self) -> np.ndarray:
        """``(M,)`` classes with the highest score."""
        return self.scores.argmax(1)


def score_spotter(spotter: Spotter, config: Any, data: SpeechData) -> Evaluation:
    """Scores a trained model; its classes are those of the data, in the same order.

    With folds, each fold's network scores the fold's own test clips; all of them together score other data. The
    metrics are percent, apart from ``auc`` and those of the stream that say otherwise:

    - ``accuracy``, ``macro_recall``, ``recall/<class>`` over all classes, ``words/accuracy`` over the words alone,
      ``<fold>/accuracy`` and their standard deviation ``accuracy_std``;
    - ``auc`` and ``eer``: of the words against all else, micro-averaged;
    - ``old/accuracy`` and ``new/accuracy``: classes that an extended model knew before, and its new words;
    - ``stream/...``: see :mod:`tasks.speech.scene`; ``confusions`` are those in a hundred words.
    """
    scores = [_clip_scores(spotter, data, fold) for fold in data.folds]
    result = evaluation(data, scores)
    outputs: Outputs = result.outputs
    outputs.calibration = spotter.operating_points
    if outputs.calibration:
        outputs.threshold = outputs.calibration.choose(config.scoring.false_alarms)
    if config.scoring.stream:
        _score_stream(spotter, config.scoring, data, result)
    return result


def score_baselines(config: Any, data: SpeechData) -> dict[str, Evaluation]:
    """Scores the baselines on the same clips; where nothing can be learned from, what a guess gives on average."""
    if not can_be_fitted(data, config.data):
        return {"guess": _guess(data)}
    return {name: evaluation(data, BASELINES[name](data, config.data)) for name in BASELINES}


def calibrate(
    spotter: Spotter,
    scoring: SpeechScoringConfig,
    data: SpeechData,
    base_points: OperatingPoints | None = None,
) -> OperatingPoints:
    """Measures what thresholds of the detector find and cost, on validation clips in the noise of the training.

    Each fold's network hears its own clips; the counts are added. Training clips take the place of missing validation
    clips, which ``source`` says.

    Args:
        spotter: The model.
        scoring: How it is listened to.
        data: Its clips and noise.
        base_points: Those of the model that was extended, where the data have no clips of its words: a handful of
            clips of new words says little of false alarms, so that the more of both count, over the hours of these.
    """
    held_out = all(len(fold.validation) for fold in data.folds)
    clips = [fold.validation if held_out else fold.train for fold in data.folds]
    counts = _sweep_folds(spotter, scoring, data, clips, data.noise, THRESHOLDS)
    source = "validation clips" if held_out else "training clips, for want of validation clips: too good"
    points = operating_points(THRESHOLDS, counts, source)
    return points if base_points is None else _merged(points, base_points)


def _merged(points: OperatingPoints, base: OperatingPoints) -> OperatingPoints:
    pairs = zip(points.thresholds, points.false_alarms, strict=True)
    return replace(
        points,
        false_alarms=[max(alarms, base.false_alarms_at(threshold)) for threshold, alarms in pairs],
        hours=base.hours,
        source=f"{points.source}, and the false alarms of the extended model where it had more",
    )


def evaluation(data: SpeechData, scores: Sequence[np.ndarray]) -> Evaluation:
    """Turns scores ``(K, C)`` of each fold's test clips into metrics, rows and outputs."""
    clips = np.concatenate([fold.test for fold in data.folds])
    folds = [fold.name for fold in data.folds for _ in fold.test]
    outputs = Outputs(clips, folds, np.concatenate(scores), data.clips.labels[clips])
    labels, predicted = outputs.labels, outputs.predicted
    matrix = confusion_matrix(labels, predicted, len(data.classes))
    recall = class_recall(matrix)
    words = np.array([data.classes.index(word) for word in data.words])
    metrics = {
        "accuracy": accuracy(matrix),
        "macro_recall": macro_recall(matrix),
        "words/accuracy": accuracy_of(outputs, np.isin(labels, words)),
    }
    decisions, positives = one_against_rest(outputs.scores, labels, words)
    if both_kinds(positives):
        false_alarms, hits, _ = roc(decisions, positives)
        metrics["auc"] = area(false_alarms, hits)
        metrics["eer"] = 100 * equal_error_rate(false_alarms, hits)
    metrics |= _parts(data, outputs)
    metrics |= {f"recall/{name}": float(value) for name, value in zip(data.classes, recall, strict=True)}
    low, high = wilson_interval(matrix.trace(), len(labels))
    notes = [
        f"accuracy on {len(labels)} clips: 95 % interval {100 * low:.1f} to {100 * high:.1f} %, were they independent"
    ]
    if missing := [name for name, value in zip(data.classes, recall, strict=True) if math.isnan(value)]:
        notes.append(f"no test clips of {', '.join(missing)}: left out of macro_recall")
    return Evaluation(
        {name: value for name, value in metrics.items() if math.isfinite(value)},
        _rows(data, outputs),
        outputs,
        notes,
    )


def accuracy_of(outputs: Outputs, which: np.ndarray) -> float:
    """Returns the percent of the chosen clips, bool ``(M,)``, that are recognised; nan without any."""
    right = outputs.predicted == outputs.labels
    return 100 * float(right[which].mean()) if which.any() else math.nan


def _parts(data: SpeechData, outputs: Outputs) -> dict[str, float]:
    metrics = {}
    if data.extends:
        metrics["old/accuracy"] = accuracy_of(outputs, outputs.labels < data.extends)
        metrics["new/accuracy"] = accuracy_of(outputs, outputs.labels >= data.extends)
    if len(data.folds) > 1:
        names = np.array(outputs.folds)
        by_fold = {f"{f.name}/accuracy": accuracy_of(outputs, names == f.name) for f in data.folds}
        metrics |= by_fold
        metrics["accuracy_std"] = float(np.std(list(by_fold.values()), ddof=1))
    return metrics


def _rows(data: SpeechData, outputs: Outputs) -> pd.DataFrame:
    predicted = outputs.predicted
    names = [data.clips.names[i] for i in outputs.clips]
    return pd.DataFrame(
        {
            "file": names,
            "speaker": [data.clips.speakers[i] for i in outputs.clips],
            "fold": outputs.folds,
            "label": [data.classes[i] for i in outputs.labels],
            "predicted": [data.classes[i] for i in predicted],
            "score": outputs.scores[np.arange(len(predicted)), predicted],
            "correct": predicted == outputs.labels,
        }
    )


def _guess(data: SpeechData) -> Evaluation:
    count = len(data.classes)
    result = evaluation(data, [np.full((len(fold.test), count), 1 / count) for fold in data.folds])
    # All scores are equal, and each class is guessed equally often.
    metrics = {
        name: value if name in ("auc", "eer") else 100 / count
        for name, value in result.metrics.items()
        if name != "accuracy_std"
    }
    return Evaluation(metrics, notes=[f"nothing to learn from: guess is one of {count} classes at random"])


def _several(spotter: Spotter, data: SpeechData) -> bool:
    """Whether each fold of the data has a network of its own."""
    return len(spotter.networks) > 1 and all(fold.name in spotter.networks for fold in data.folds)


def _clip_scores(spotter: Spotter, data: SpeechData, fold: Fold) -> np.ndarray:
    name = fold.name if _several(spotter, data) else None
    parts = [fold.test[i : i + CHUNK] for i in range(0, len(fold.test), CHUNK)]
    return np.concatenate([spotter.scores(as_float(data.clips.waves[part]), fold=name) for part in parts])


def _sweep_folds(
    spotter: Spotter,
    scoring: SpeechScoringConfig,
    data: SpeechData,
    clips: Sequence[np.ndarray],
    noise: Sequence[np.ndarray],
    thresholds: Sequence[float],
) -> list[Counts]:
    totals = [Counts() for _ in thresholds]
    for number, (fold, chosen) in enumerate(zip(data.folds, clips, strict=True)):
        one = spotter
        if _several(spotter, data):
            one = copy.copy(spotter)
            one.networks = {fold.name: spotter.networks[fold.name]}
        scene = compose(data, chosen, noise, scoring.seed, len(data.folds), number)
        totals = [a + b for a, b in zip(totals, sweep(one, scene, scoring, thresholds), strict=True)]
    return totals


def _score_stream(
    spotter: Spotter, scoring: SpeechScoringConfig, data: SpeechData, result: Evaluation
) -> None:
    outputs: Outputs = result.outputs
    threshold = outputs.threshold
    tests = [fold.test for fold in data.folds]
    counts = _sweep_folds(spotter, scoring, data, tests, data.test_noise, [threshold, *THRESHOLDS])
    outputs.stream = operating_points(THRESHOLDS, counts[1:], "test clips")
    at = counts[0]
    if at.words:
        result.metrics["stream/recall"] = 100 * at.recall
        result.metrics["stream/confusions"] = 100 * at.confusions / at.words
    result.metrics |= {
        "stream/false_alarms_per_hour": at.rate,
        "stream/hours": at.hours,
        "stream/threshold": threshold,
    }
    counted = f"{at.false_alarms} false alarm{'s' * (at.false_alarms != 1)}"
    limit = poisson_limit(at.false_alarms) / at.hours
    found = f"{at.detected} of {at.words} words detected at threshold {threshold:g}, {at.confusions} confused"
    result.notes.append(f"stream: {found}; {counted} in {at.hours:.2g} h: at most {limit:.0f} an hour (95 %)")
    points = outputs.calibration
    if points is None:
        result.notes.append(f"the model has no operating points: threshold {UNCALIBRATED:g}")
        return
    alarms = f"{points.false_alarms_at(threshold):.3g} false alarms an hour"
    doubt = points.doubt(scoring.false_alarms)
    note = f"threshold {threshold:g} has {alarms} in {points.hours:.2g} h of {points.source}"
    result.notes.append(f"{note}; {doubt}" if doubt else note)
    if other := trained_otherwise(spotter, scoring):
        result.notes.append(f"the threshold was chosen with {other}; this stream is heard otherwise")
