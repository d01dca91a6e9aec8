"""Methods without a network, scored on the same images by the same measures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from rich.progress import track

from core.registry import Registry
from core.task import Evaluation
from tasks.detection.config import DetScoringConfig
from tasks.detection.data.dataset import DetectionData, ImageSet, Targets
from tasks.detection.data.images import read_rgb
from tasks.detection.matching import overlaps
from tasks.detection.postprocess import Limits, suppress
from tasks.detection.regions import find_regions
from tasks.detection.results import Detections
from tasks.detection.scoring import Method, score

LEARNED_FROM = 100
"""Training images that regions are learned from."""
GOOD = 0.6
"""Overlap from which a training region is an object, and below which it is background: loose boxes are not wanted."""
SAME = 0.5
"""Overlap from which a usual box is right."""
NMS = 0.4
"""Overlap of two regions of one class, of which the less probable goes."""
TREES = 60
USUAL = 30
"""Usual boxes of a class."""
SAMPLED = 5000
"""Boxes that the usual ones are found from."""

Fit = Callable[[DetectionData, DetScoringConfig], Method]
BASELINES: Registry[Fit] = Registry("baseline")
ALWAYS = "prior"


def score_baselines(config: Any, data: DetectionData) -> dict[str, Evaluation]:
    """Scores the baselines of ``config.scoring.baselines``, in this order; the usual boxes where none is asked for.

    All of them learn, so that there are none where the data has no training images. They have no intervals.
    """
    if not len(data.train):
        return {}
    scoring = replace(config.scoring, bootstrap=0)
    results = {}
    for name in scoring.baselines or [ALWAYS]:
        method = BASELINES[name](data, scoring)
        results[name] = score(method, data, scoring, f"searching by {name}")
    return results


@BASELINES.register("regions")
def fit_regions(data: DetectionData, scoring: DetScoringConfig) -> Method:
    """Regions that differ from the background, whose class a random forest tells by size, shape and colour.

    The regions of :func:`tasks.detection.regions.find_regions` in training images that overlap an object by an IoU of
    0.6 are of its class, the others background.
    """
    from sklearn.ensemble import RandomForestClassifier

    background = len(data.classes)
    looks, labels = [], []
    for i in track(_spread(data.train), "learning regions", transient=True):
        regions = find_regions(read_rgb(data.train.path(i)))
        kinds = _kinds(regions.boxes, data.train.targets(i), background)
        looks.append(regions.looks[kinds >= 0])
        labels.append(kinds[kinds >= 0])
    every_look, every_label = np.concatenate(looks), np.concatenate(labels)
    if not (every_label < background).any():
        return _find_nothing
    forest = RandomForestClassifier(TREES, min_samples_leaf=3, random_state=0)
    forest.fit(every_look, every_label)
    objects = forest.classes_ < background

    def search(image: np.ndarray) -> Detections:
        regions = find_regions(image)
        if not len(regions.boxes):
            return nothing()
        probabilities = forest.predict_proba(regions.looks)[:, objects]
        best = probabilities.argmax(1)
        found = Detections(
            regions.boxes, probabilities.max(1).astype(np.float32), forest.classes_[objects][best]
        )
        return suppressed(found, scoring, NMS)

    return _each(search)


@BASELINES.register(ALWAYS)
def fit_prior(data: DetectionData, scoring: DetScoringConfig) -> Method:
    """The usual boxes of each class in every image, which is not looked at.

    They are the centres of k-means over the corners as shares of the image's sides. A box scores the share of the
    training images in which an object of the class overlaps it by an IoU of 0.5.
    """
    from sklearn.cluster import KMeans

    train = data.train
    rng = np.random.default_rng(0)
    owner = np.repeat(np.arange(len(train)), np.diff(train.start))
    shares = train.boxes / np.tile(train.sizes[owner], 2)
    usual, scores, labels = [], [], []
    for label in range(len(data.classes)):
        mine = np.flatnonzero((train.labels == label) & ~train.crowd)
        if len(mine) > SAMPLED:
            mine = np.sort(rng.choice(mine, SAMPLED, replace=False))
        count = min(USUAL, len(np.unique(shares[mine], axis=0)))
        if not count:
            continue
        centres = KMeans(count, n_init=1, random_state=0).fit(shares[mine]).cluster_centers_
        hits = overlaps(centres, shares[mine]) >= SAME
        images = [len(np.unique(owner[mine[hit]])) for hit in hits]
        usual.append(centres)
        scores.append(np.array(images) / len(np.unique(owner[mine])) * _share_with(train, owner, label))
        labels.append(np.full(count, label))
    if not usual:
        return _find_nothing
    corners, frequency = np.concatenate(usual), np.concatenate(scores).astype(np.float32)
    kinds = np.concatenate(labels)

    def search(image: np.ndarray) -> Detections:
        height, width = image.shape[:2]
        boxes = (corners * [width, height, width, height]).astype(np.float32)
        return suppressed(Detections(boxes, frequency, kinds), scoring, scoring.iou)

    return _each(search)


def suppressed(found: Detections, scoring: DetScoringConfig, iou: float) -> Detections:
    """Returns the boxes above the score that no better one of their class covers, the most certain first."""
    found = found.take(found.scores >= scoring.score)
    return found.take(suppress(found, Limits(iou=iou, max_detections=scoring.max_detections)))


def nothing() -> Detections:
    """Returns no detections."""
    return Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))


def _each(search: Callable[[np.ndarray], Detections]) -> Method:
    def method(images: Sequence[np.ndarray]) -> list[Detections]:
        return [search(image) for image in images]

    return method


def _find_nothing(images: Sequence[np.ndarray]) -> list[Detections]:
    return [nothing() for _ in images]


def _kinds(boxes: np.ndarray, targets: Targets, background: int) -> np.ndarray:
    """Returns the class of each region ``(N,)``, ``background`` for none, -1 for one in a crowd."""
    if not len(targets.boxes):
        return np.full(len(boxes), background)
    overlap = overlaps(boxes, targets.boxes, targets.crowd)
    nearest = overlap.argmax(1)
    kinds = np.where(targets.crowd[nearest], -1, targets.labels[nearest])
    return np.where(overlap.max(1, initial=0) >= GOOD, kinds, background)


def _spread(images: ImageSet) -> list[int]:
    """Returns images spread over all of them, at most so many."""
    count = min(len(images), LEARNED_FROM)
    return np.linspace(0, len(images) - 1, count).round().astype(int).tolist()


def _share_with(images: ImageSet, owner: np.ndarray, label: int) -> float:
    """Returns the share of the images that have an object of a class."""
    return len(np.unique(owner[(images.labels == label) & ~images.crowd])) / len(images)
