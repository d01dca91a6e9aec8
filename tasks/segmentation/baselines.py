"""Methods without a network, scored on the same cases by the same measures."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from core.registry import Registry
from core.task import Evaluation
from tasks.segmentation.data.cases import Case, Fold, SegmentationData, Voxels
from tasks.segmentation.labels import Labels
from tasks.segmentation.measures import confusion
from tasks.segmentation.prior import learn_prior
from tasks.segmentation.scoring import Method, score, scored, valid_voxels
from tasks.segmentation.segmenter import Segmentation
from tasks.segmentation.thresholds import Rule, choose_rule, otsu_rules

LEARNED_FROM = 20
"""Training cases that a threshold is chosen on."""
AVERAGED = 200
"""Training cases that a mean shape is made of."""
SPECK = 0.5
"""Smoothed depth, pixels, that an object exceeds; three pixels across have 0.9."""


@dataclass(frozen=True)
class Baseline:
    """A method without a network.

    Attributes:
        applies: Whether it says something about data of this kind.
        learns: Whether it needs training cases.
        fit: Learns from the training cases of a fold.
    """

    applies: Callable[[SegmentationData], bool]
    learns: bool
    fit: Callable[[SegmentationData, Fold], Method]


BASELINES: Registry[Baseline] = Registry("baseline")
MAJORITY = "majority"


def score_baselines(config: Any, data: SegmentationData) -> dict[str, Evaluation]:
    """Scores the baselines of ``config.scoring.baselines`` that apply to the data, in this order.

    Where none does, everything is called background, so that there is always something to be better than.
    """
    names = [name for name in config.scoring.baselines if _can_be_scored(BASELINES[name], data)]
    results = {}
    for name in names or [MAJORITY]:
        fit = partial(BASELINES[name].fit, data)
        results[name] = score(fit, data, config.scoring, f"segmenting by {name}")
    return results


def _can_be_scored(baseline: Baseline, data: SegmentationData) -> bool:
    return baseline.applies(data) and not (baseline.learns and any(not fold.train for fold in data.folds))


def fit_threshold(data: SegmentationData, fold: Fold) -> Method:
    """The rule of :func:`tasks.segmentation.thresholds.choose_rule`: the best of many on training cases."""
    return partial(_segment_by, choose_rule(_labelled(data, fold)), data.labels)


def fit_otsu(data: SegmentationData, fold: Fold) -> Method:
    """Otsu's threshold (IEEE Trans. SMC 1979) of each image, in the channel and polarity that fit training cases best.

    Without training cases it is the first channel, and the class is the smaller part of an image.
    """
    rules = otsu_rules(len(data.channels))
    dice = np.zeros(len(rules))
    for voxels, truth in _labelled(data, fold):
        valid = valid_voxels(voxels)
        found = (rule.margin(voxels.image, voxels.mask) > 0 for rule in rules)
        dice += [np.nan_to_num(confusion(truth, each, valid).dice) for each in found]
    return partial(_segment_by, rules[int(dice.argmax())], data.labels)


def fit_prior(data: SegmentationData, fold: Fold) -> Method:
    """The mean of the training labels, see :mod:`tasks.segmentation.prior`; the image is not looked at."""
    prior = learn_prior(_spread(data, fold, AVERAGED), data.read, data.labels)

    def segment(voxels: Voxels, name: str) -> Segmentation:
        probabilities = prior.probabilities(voxels.image.shape[1:])
        return Segmentation(prior.classes(probabilities), None, probabilities)

    return segment


def fit_majority(data: SegmentationData, fold: Fold) -> Method:
    """Everything is background."""

    def segment(voxels: Voxels, name: str) -> Segmentation:
        empty = np.zeros(voxels.image.shape[1:], np.int32)
        return Segmentation(empty, empty, empty[None])

    return segment


def separated(found: np.ndarray) -> np.ndarray:
    """Numbers objects that may touch, by a watershed from the places that are deepest inside; specks are none.

    Args:
        found: ``(Z, Y, X)`` bool.

    Returns:
        ``(Z, Y, X)`` int32, 0 outside.
    """
    from scipy import ndimage
    from skimage.feature import peak_local_max
    from skimage.segmentation import watershed

    mask = found[0] if found.shape[0] == 1 else found
    # Smoothed, so that the ragged middle of one object is one peak.
    depth = ndimage.gaussian_filter(ndimage.distance_transform_edt(mask), 1.0)
    peaks = peak_local_max(
        depth, min_distance=3, threshold_abs=SPECK, labels=mask.astype(np.int32), exclude_border=False
    )
    markers = np.zeros(mask.shape, np.int32)
    markers[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    return watershed(-depth, markers, mask=mask).reshape(found.shape).astype(np.int32)


def _spread(data: SegmentationData, fold: Fold, most: int) -> list[Case]:
    """Returns training cases of a fold, at most so many, spread over all of them."""
    chosen = np.linspace(0, len(fold.train) - 1, min(most, len(fold.train))).round().astype(int)
    return [data.cases[fold.train[i]] for i in chosen]


def _labelled(data: SegmentationData, fold: Fold) -> Iterator[tuple[Voxels, np.ndarray]]:
    """Yields training cases and where their only target is, ``(Z, Y, X)`` bool."""
    for case in _spread(data, fold, LEARNED_FROM):
        voxels = data.read(case)
        assert voxels.labels is not None, case.name
        yield voxels, np.isin(voxels.labels, scored(data.labels)[0][1])


def _segment_by(rule: Rule, labels: Labels, voxels: Voxels, name: str) -> Segmentation:
    margin = rule.margin(voxels.image, voxels.mask)
    found = margin > 0 if voxels.mask is None else (margin > 0) & voxels.mask
    objects = separated(found) if labels.instances else None
    # The first class of the only target: of objects their edge, which belongs to the object.
    return Segmentation(found.astype(np.int16) * scored(labels)[0][1][0], objects, margin[None])


def _one_target(data: SegmentationData) -> bool:
    return len(scored(data.labels)) == 1


def _images_of_one_target(data: SegmentationData) -> bool:
    return data.flat and _one_target(data)


def _shapes(data: SegmentationData) -> bool:
    return not data.labels.instances and not _images_of_one_target(data)


def _always(data: SegmentationData) -> bool:
    return True


BASELINES.register("threshold")(Baseline(_images_of_one_target, True, fit_threshold))
BASELINES.register("otsu")(Baseline(_one_target, False, fit_otsu))
BASELINES.register("prior")(Baseline(_shapes, True, fit_prior))
BASELINES.register(MAJORITY)(Baseline(_always, False, fit_majority))
