"""Methods without a network, which a spotter has to beat on the same clips."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from core.data.split import Fold
from core.registry import Registry
from tasks.speech.config import SILENCE, UNKNOWN, DataConfig, FeatureConfig
from tasks.speech.data.augment import add_noise, crop
from tasks.speech.data.clips import SpeechData, as_float, share_of
from tasks.speech.frontend import FrontEnd

BATCH = 256

BASELINES: Registry[Callable[[SpeechData, DataConfig], list[np.ndarray]]] = Registry("baseline")
"""Name to a function that learns from the training clips of each fold and returns the scores ``(K, C)`` of its test
clips, one array a fold."""


@BASELINES.register("mfcc_logreg")
def mfcc_logistic_regression(data: SpeechData, config: DataConfig) -> list[np.ndarray]:
    """Logistic regression on the mean and the standard deviation of the MFCC over a clip.

    It learns from the clips as they are: all words, other words and noise with the shares that the networks see, and
    chosen once.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    front = FrontEnd(FeatureConfig(high=min(FeatureConfig.high, data.rate / 2)), data.rate)
    clips = _statistics(front, data.clips.waves)
    results = []
    for fold in data.folds:
        chosen = training_clips(data, fold, config)
        silence = _statistics(front, noise_crops(data, fold, config))
        labels = data.clips.labels[chosen]
        if len(silence):
            labels = np.append(labels, np.full(len(silence), data.classes.index(SILENCE)))
        model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
        model.fit(np.concatenate([clips[chosen], silence]), labels)
        scores = np.zeros((len(fold.test), len(data.classes)))
        scores[:, model.classes_] = model.predict_proba(clips[fold.test])
        results.append(scores)
    return results


@BASELINES.register("majority")
def majority(data: SpeechData, config: DataConfig) -> list[np.ndarray]:
    """The shares of the classes among what is learned from: always the most frequent one."""
    results = []
    for fold in data.folds:
        counts = class_counts(data, fold, config)
        results.append(np.tile(counts / counts.sum(), (len(fold.test), 1)))
    return results


def can_be_fitted(data: SpeechData, config: DataConfig) -> bool:
    """Whether every fold has two classes to learn from; data that is only tested on has none."""
    return all(np.count_nonzero(class_counts(data, fold, config)) > 1 for fold in data.folds)


def class_counts(data: SpeechData, fold: Fold, config: DataConfig) -> np.ndarray:
    """Returns how many clips of each class a baseline learns from, ``(C,)``."""
    labels = data.clips.labels[training_clips(data, fold, config)]
    counts = np.bincount(labels, minlength=len(data.classes))
    if SILENCE in data.classes:
        counts[data.classes.index(SILENCE)] = _crops(data, fold, config)
    return counts


def training_clips(data: SpeechData, fold: Fold, config: DataConfig) -> np.ndarray:
    """Returns the training clips of a fold: all words, and of the others as many as a network sees in an epoch."""
    kept = _word_clips(data, fold)
    if UNKNOWN not in data.classes or not config.unknown:
        return kept
    others = fold.train[data.clips.labels[fold.train] == data.classes.index(UNKNOWN)]
    count = min(len(others), share_of(config.unknown, len(kept)))
    return np.append(kept, others[np.linspace(0, len(others) - 1, count).astype(int)]) if count else kept


def noise_crops(data: SpeechData, fold: Fold, config: DataConfig) -> np.ndarray:
    """Returns clips of noise ``(K, L)``, float32, as many and as loud as a network sees in an epoch."""
    rng = np.random.default_rng(0)
    length = data.clips.waves.shape[1]
    crops = np.zeros((_crops(data, fold, config), length), np.float32)
    for i, wave in enumerate(crops):
        # Half of them are as quiet as the noise that is added to words.
        loud = (i % 2) * np.float32(rng.uniform()) * crop(data.noise, length, rng)
        wave += add_noise(loud, data.noise, config.volume, rng)
    return crops


def _word_clips(data: SpeechData, fold: Fold) -> np.ndarray:
    words = [data.classes.index(word) for word in data.words]
    return fold.train[np.isin(data.clips.labels[fold.train], words)]


def _crops(data: SpeechData, fold: Fold, config: DataConfig) -> int:
    return share_of(config.silence, len(_word_clips(data, fold))) if SILENCE in data.classes else 0


@torch.inference_mode()
def _statistics(front: FrontEnd, waves: np.ndarray) -> np.ndarray:
    """Maps clips ``(M, L)`` to mean and standard deviation of their features ``(M, 2 F)``, double precision."""
    parts = [np.zeros((0, 2 * front.size))]
    for start in range(0, len(waves), BATCH):
        features = front(torch.from_numpy(as_float(waves[start : start + BATCH]))).double().numpy()
        parts.append(np.concatenate([features.mean(1), features.std(1)], 1))
    return np.concatenate(parts)
