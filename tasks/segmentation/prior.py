"""Where things usually are: the mean of label maps, stretched to the shape of a case."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from tasks.segmentation.data.cases import Case, Voxels
from tasks.segmentation.labels import IGNORE, Labels
from tasks.segmentation.measures import confusion

SIDE = 128
"""Longest side of a mean, voxels: finer detail says nothing in it."""
WEIGHTS = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3)
"""Of the background that are tried: with less than 1, more is labelled than is probable, which Dice rewards."""
WEIGHED_ON = 20
"""Cases that the weight is chosen on."""


@dataclass(frozen=True)
class Prior:
    """A mean of label maps.

    Attributes:
        maps: ``(outputs, z, y, x)`` float32, share of the cases that have each class or region there.
        labels: What they mean.
        weight: Of the background.
    """

    maps: np.ndarray
    labels: Labels
    weight: float = 1.0

    def probabilities(self, shape: Sequence[int]) -> np.ndarray:
        """Returns the mean in another shape, ``(outputs, Z, Y, X)``."""
        return _stretched(self.maps, shape)

    def classes(self, probabilities: np.ndarray) -> np.ndarray:
        """Returns the classes ``(Z, Y, X)`` int16 of :meth:`probabilities`; later regions win."""
        if not self.labels.regions:
            weights = np.ones((len(probabilities), 1, 1, 1), np.float32)
            weights[0] = self.weight
            return (probabilities * weights).argmax(0).astype(np.int16)
        classes = np.zeros(probabilities.shape[1:], np.int16)
        for probability, label in zip(probabilities, self.labels.order, strict=True):
            classes[probability > self.weight * (1 - probability)] = label
        return classes


def learn_prior(cases: Sequence[Case], read: Callable[[Case], Voxels], labels: Labels) -> Prior:
    """Returns the mean of the labels of training cases, in their median shape or a coarser one.

    Args:
        cases: One or more.
        read: Reads the voxels of a case.
        labels: What label maps mean.
    """
    median = np.median([case.geometry.shape for case in cases], axis=0)
    shape = np.maximum(1, np.round(median * min(1.0, SIDE / median.max()))).astype(int)
    total, counted = np.zeros((labels.outputs, *shape), np.float32), np.full(shape, 1e-6, np.float32)
    for case in cases:
        classes = _classes(read(case))
        # Every second, third, ... voxel is enough for a much coarser map, and cheap.
        steps = [max(1, n // (2 * m)) for n, m in zip(classes.shape, shape, strict=True)]
        fewer = classes[tuple(slice(None, None, step) for step in steps)]
        total += _stretched(_maps(fewer, labels), shape)
        counted += _stretched((fewer != IGNORE)[None], shape)[0]
    priors = [Prior(total / counted, labels, weight) for weight in WEIGHTS]
    dice = np.zeros(len(priors))
    for case in cases[:: -(-len(cases) // WEIGHED_ON)]:
        truth = _classes(read(case))
        probabilities = priors[0].probabilities(truth.shape)
        dice += [_mean_dice(truth, prior.classes(probabilities), labels) for prior in priors]
    return priors[int(dice.argmax())]


def _classes(voxels: Voxels) -> np.ndarray:
    """The label map, with ``IGNORE`` outside of the field of view too."""
    assert voxels.labels is not None
    return voxels.labels if voxels.mask is None else np.where(voxels.mask, voxels.labels, np.int16(IGNORE))


def _mean_dice(truth: np.ndarray, classes: np.ndarray, labels: Labels) -> float:
    pairs = zip(labels.region_maps(truth), labels.region_maps(classes), strict=True)
    return float(np.nan_to_num([confusion(*pair, truth != IGNORE).dice for pair in pairs]).mean())


def _maps(classes: np.ndarray, labels: Labels) -> np.ndarray:
    """Returns one map for each output of a network, ``(outputs, Z, Y, X)`` bool."""
    if labels.regions:
        return labels.region_maps(classes)
    return np.stack([classes == i for i in range(len(labels.names))])


def _stretched(maps: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    from skimage.transform import resize

    return np.stack(
        [resize(each.astype(np.float32), shape, order=1, mode="edge", anti_aliasing=False) for each in maps]
    )
