"""Single models and pairs of them, compared on the cases that they have not seen."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from tasks.segmentation.config import CONFIGURATIONS
from tasks.segmentation.labels import IGNORE, Labels
from tasks.segmentation.measures import confusion
from tasks.segmentation.resample import classify
from tasks.segmentation.scoring import scored, valid_voxels

if TYPE_CHECKING:
    from rich.progress import Progress

    from tasks.segmentation.data.cases import SegmentationData
    from tasks.segmentation.postprocess import Postprocessing
    from tasks.segmentation.segmenter import Segmenter


@dataclass
class Candidate:
    """A model, or two together.

    Attributes:
        name: Its configurations: ``2d + 3d_fullres``.
        members: Positions of its models.
        cases: Dice of each case and target ``(cases, targets)``; nan where neither truth nor prediction has it.
        predictions: Label map of each case, compressed, since those of all candidates are kept.
    """

    name: str
    members: tuple[int, ...]
    cases: list[list[float]] = field(default_factory=list)
    predictions: list[bytes] = field(default_factory=list)

    @property
    def targets(self) -> np.ndarray:
        """Mean Dice of each target over the cases that have a value; nan without any."""
        scores = np.array(self.cases)
        known = np.isfinite(scores)
        counts = known.sum(0)
        return np.where(counts > 0, np.where(known, scores, 0).sum(0) / np.maximum(counts, 1), np.nan)

    @property
    def dice(self) -> float:
        """Mean over the targets that have a value; -1 without any, so that it never wins."""
        values = self.targets[np.isfinite(self.targets)]
        return float(values.mean()) if len(values) else -1.0


def compare(
    segmenters: Sequence[Segmenter],
    names: Sequence[str],
    data: SegmentationData,
    progress: Progress | None = None,
) -> list[Candidate]:
    """Scores all models and all pairs on the cases that they have not seen, without post-processing.

    Args:
        segmenters: The models; their outputs mean the same.
        names: Where they come from, for models of equal configuration.
        data: Cases; the names of its folds are those of the networks.
        progress: Shows how far it is.

    Returns:
        Single models first, then pairs, each from the simplest configuration to the most complex one.
    """
    candidates = candidates_of([segmenter.plan.configuration for segmenter in segmenters], names)
    jobs = [(fold.name, data.cases[i]) for fold in data.folds for i in fold.validation]
    bar = progress.add_task("segmenting", total=len(jobs) * len(segmenters)) if progress else None
    labels = segmenters[0].labels
    for fold, case in jobs:
        voxels = data.read(case)
        assert voxels.labels is not None, case.name
        probabilities = []
        for segmenter in segmenters:
            found = segmenter.segment(voxels, case.name, folds=[fold], keep_probabilities=True)
            assert found.probabilities is not None
            probabilities.append(found.probabilities)
            if progress and bar is not None:
                progress.advance(bar)
        valid = valid_voxels(voxels)
        for candidate in candidates:
            predicted = classify(np.mean([probabilities[i] for i in candidate.members], 0), labels)
            candidate.predictions.append(zlib.compress(predicted.tobytes(), 1))
            candidate.cases.append(_dice(predicted, voxels.labels, valid, data.labels))
    return candidates


def candidates_of(configurations: Sequence[str], names: Sequence[str]) -> list[Candidate]:
    """Returns single models and pairs without scores, in the order in which the first of equals wins."""
    order = sorted(range(len(names)), key=lambda i: (CONFIGURATIONS.index(configurations[i]), i))
    known = [
        configuration if configurations.count(configuration) == 1 else f"{configuration} ({name})"
        for configuration, name in zip(configurations, names, strict=True)
    ]
    members = [(i,) for i in order] + list(combinations(order, 2))
    return [Candidate(" + ".join(known[i] for i in each), each) for each in members]


def best_of(candidates: Sequence[Candidate]) -> Candidate:
    """Returns the highest mean Dice; of equals the first, which is the simplest."""
    return max(candidates, key=lambda candidate: candidate.dice)


def held_out(candidate: Candidate, data: SegmentationData) -> list[tuple[np.ndarray, np.ndarray]]:
    """Returns prediction and truth ``(Z, Y, X)`` int16 of each case; outside the field of view truth is ``IGNORE``."""
    cases = [data.cases[i] for fold in data.folds for i in fold.validation]
    pairs = []
    for case, stored in zip(cases, candidate.predictions, strict=True):
        voxels = data.read(case)
        assert voxels.labels is not None, case.name
        truth = voxels.labels if voxels.mask is None else np.where(voxels.mask, voxels.labels, IGNORE)
        pairs.append((np.frombuffer(zlib.decompress(stored), np.int16).reshape(truth.shape), truth))
    return pairs


def dice_after(
    chosen: Postprocessing, pairs: Sequence[tuple[np.ndarray, np.ndarray]], labels: Labels
) -> float:
    """Returns the mean Dice of the pairs of :func:`held_out` once the predictions are post-processed."""
    cases = [_dice(chosen.apply(predicted), truth, truth != IGNORE, labels) for predicted, truth in pairs]
    return Candidate("", (), cases).dice


def _dice(predicted: np.ndarray, truth: np.ndarray, valid: np.ndarray, labels: Labels) -> list[float]:
    """Returns the Dice of each target in a case."""
    return [
        confusion(np.isin(truth, classes), np.isin(predicted, classes), valid).dice
        for _, classes in scored(labels)
    ]
