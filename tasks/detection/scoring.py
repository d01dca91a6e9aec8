"""Scores of a detector, or of any other method, on the held-out images: COCO's numbers, and one row an image."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from rich.progress import track
from torch import nn

from core.errors import DataError
from core.task import Evaluation
from tasks.detection.coco_eval import CocoResult, evaluate_coco
from tasks.detection.config import DetScoringConfig
from tasks.detection.confusion import confusion_matrix
from tasks.detection.data.dataset import DetectionData, ImageSet
from tasks.detection.data.images import read_rgb
from tasks.detection.detector import Detector, configured
from tasks.detection.intervals import bootstrap
from tasks.detection.matching import Matches, match
from tasks.detection.results import Detections

NAMED = 8
"""Classes that a note names."""
LEAST = 0.001
"""Least score in the validation of a training."""

Method = Callable[[Sequence[np.ndarray]], list[Detections]]
"""Finds objects in RGB images ``(H, W, 3)`` uint8, as many answers as images; labels are those of the data."""


@dataclass(frozen=True)
class Outputs:
    """What the pictures of a test need.

    Attributes:
        found: What was found in each test image, in labels of the data.
        result: COCO's numbers for boxes.
        matches: Which box finds which object.
        confusion: ``(C + 1, C + 1)``, see :func:`tasks.detection.confusion.confusion_matrix`.
    """

    found: list[Detections]
    result: CocoResult
    matches: Matches
    confusion: np.ndarray


def score_detector(detector: Detector, config: Any, data: DetectionData) -> Evaluation:
    """Scores a trained model on the test images.

    Classes are matched by their names. What the model finds of classes that the data has not is left out; classes of
    the data that the model does not know are missed.

    Raises:
        DataError: No class of the data is one of the model's, or an image cannot be read.
    """
    labels, notes = _match_classes(detector.classes, data.classes)
    scoring: DetScoringConfig = config.scoring

    shared = [name for name in detector.classes if name in data.classes]
    detect = partial(configured(detector, scoring), multi_label=scoring.multi_label, classes=shared)

    def search(images: Sequence[np.ndarray]) -> list[Detections]:
        return [_renamed(each, labels) for each in detect(images)]

    result = score(search, data, scoring, "searching the test images", masks=detector.masks)
    result.notes += notes
    if not len(data.train) and scoring.baselines:
        result.notes.append("no baselines: they learn, and these data have no training images")
    return result


def validation_score(
    network: nn.Module, images: ImageSet, classes: Sequence[str], size: int
) -> dict[str, float]:
    """Returns ``map`` and ``map50`` of a network in training, which is left in its mode.

    Args:
        network: Network of this task.
        images: Validation images.
        classes: Names of the classes.
        size: Side of the square that images are fitted into, pixels.
    """
    training = network.training
    detector = Detector(network, classes, range(1, len(classes) + 1), size, {})
    network.train(training)
    # Of a model with masks too the boxes alone are scored.
    detect = partial(detector.detect, score=LEAST, multi_label=True, draw_masks=False)
    found = [each for batch in _batches(images, DetScoringConfig().batch) for each in detect(batch)]
    stats = evaluate_coco(images, found, classes).stats
    # Validation images without any object have no mAP; nothing is better than another weight then.
    return {name: 0.0 if math.isnan(stats[name]) else stats[name] for name in ("map", "map50")}


def score(
    method: Method, data: DetectionData, scoring: DetScoringConfig, what: str, masks: bool = False
) -> Evaluation:
    """Scores a method on the test images with a progress bar.

    The metrics:

    - ``map``, ``map50``, ``map75``, ``map_small``, ..., ``mar_large``: COCO's twelve numbers for boxes, ``segm_map``
      and so on for masks. Where the test has nothing of a kind they are left out, but for ``map``.
    - ``<class>/map`` and ``<class>/map50``.
    - ``map_low``, ``map_high``, ``map50_low``, ``map50_high``: 95 % intervals for other test images of this kind.
    - ``precision``, ``recall``, ``f1``: over the boxes of all images at ``scoring.confidence`` and IoU 0.5.

    Args:
        method: What is scored.
        data: Images and what is in them.
        scoring: Confidence and resamplings.
        what: Words at the progress bar.
        masks: Whether the method gives masks, which are scored where the data has outlines.
    """
    truth = data.test
    found: list[Detections] = []
    steps = math.ceil(len(truth) / scoring.batch)
    for batch in track(_batches(truth, scoring.batch), what, total=steps, transient=True):
        found += method(batch)
    result = evaluate_coco(truth, found, data.classes)
    matches = match(truth, found, len(data.classes))
    rows = image_rows(truth, matches, scoring.confidence)
    metrics = dict(result.stats)
    if masks and truth.polygons is not None:
        segm = evaluate_coco(truth, found, data.classes, "segm").stats
        metrics |= {f"segm_{name}": value for name, value in segm.items()}
    for name, ap, ap50 in zip(data.classes, result.ap, result.ap50, strict=True):
        metrics |= {f"{name}/map": float(ap), f"{name}/map50": float(ap50)}
    metrics |= _at_confidence(rows)
    if scoring.bootstrap:
        for name, (low, high) in bootstrap(matches, scoring.bootstrap, seed=0).items():
            metrics |= {f"{name}_low": low, f"{name}_high": high}
    kept = {name: value for name, value in metrics.items() if name == "map" or not math.isnan(value)}
    confusion = confusion_matrix(truth, found, len(data.classes), scoring.confidence)
    notes = _notes(kept, data, matches, scoring)
    return Evaluation(kept, rows, Outputs(found, result, matches, confusion), notes)


def _batches(images: ImageSet, size: int) -> Iterator[list[np.ndarray]]:
    """Yields the images of a set, ``size`` at a time."""
    for first in range(0, len(images), size):
        yield [read_rgb(images.path(i)) for i in range(first, min(first + size, len(images)))]


def image_rows(truth: ImageSet, matches: Matches, confidence: float) -> pd.DataFrame:
    """Returns a row for each image: objects, boxes from a confidence on, and how they agree at IoU 0.5.

    The columns are ``image``, ``objects`` (crowds left out), ``found`` (boxes in crowds left out), ``right``,
    ``missed``, ``false``, ``mean_iou`` of the right ones, and ``f1``, which is nan where there is nothing and nothing
    was found.
    """
    sure = matches.score >= confidence
    right, false = sure & matches.right[0], sure & matches.false()[0]

    def per_image(values: np.ndarray) -> np.ndarray:
        return np.bincount(matches.image, values, len(truth))

    objects, hits, wrong = matches.counts.sum(1), per_image(right), per_image(false)
    with np.errstate(invalid="ignore"):
        return pd.DataFrame(
            {
                "image": truth.names,
                "objects": objects,
                "found": (hits + wrong).astype(int),
                "right": hits.astype(int),
                "missed": (objects - hits).astype(int),
                "false": wrong.astype(int),
                "mean_iou": per_image(right * matches.iou) / hits,
                "f1": 2 * hits / (objects + hits + wrong),
            }
        )


def f1_curve(matches: Matches) -> tuple[np.ndarray, np.ndarray]:
    """Returns scores in falling order, and F1 over all boxes that score as much or more, both ``(N,)``."""
    order = np.argsort(-matches.score, kind="stable")
    hits, wrong = np.cumsum(matches.right[0, order]), np.cumsum(matches.false()[0, order])
    with np.errstate(invalid="ignore"):
        return matches.score[order], 2 * hits / (matches.counts.sum() + hits + wrong)


def named(names: Sequence[str]) -> str:
    """Returns names in a row, the first few of many."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def _match_classes(known: Sequence[str], wanted: Sequence[str]) -> tuple[np.ndarray, list[str]]:
    """Returns the data's label of each class of a model, -1 for none, and what there is to say."""
    labels = np.array([wanted.index(name) if name in wanted else -1 for name in known])
    if (labels < 0).all():
        raise DataError(
            f"no class of the data ({named(wanted)}) is one of the model's ({named(known)}); rename the classes"
        )
    notes = []
    if unknown := [name for name in wanted if name not in known]:
        notes.append(f"classes that the model does not know, counted as missed: {named(unknown)}")
    if extra := [name for name in known if name not in wanted]:
        notes.append(f"classes of the model that the data has not, left out: {named(extra)}")
    return labels, notes


def _renamed(found: Detections, labels: np.ndarray) -> Detections:
    kept = found.take(labels[found.labels] >= 0)
    return Detections(kept.boxes, kept.scores, labels[kept.labels], kept.masks)


def _at_confidence(rows: pd.DataFrame) -> dict[str, float]:
    right, found, objects = (int(rows[name].sum()) for name in ("right", "found", "objects"))
    return {
        "precision": right / found if found else math.nan,
        "recall": right / objects if objects else math.nan,
        "f1": 2 * right / (found + objects) if found + objects else math.nan,
    }


def _notes(
    metrics: dict[str, float], data: DetectionData, matches: Matches, scoring: DetScoringConfig
) -> list[str]:
    if not matches.counts.sum():
        return ["the test images have no objects: there is no mAP"]
    notes = []
    if "map_low" in metrics:
        spans = [
            f"{words} {metrics[name]:.3f} ({metrics[f'{name}_low']:.3f} to {metrics[f'{name}_high']:.3f})"
            for name, words in (("map", "mAP"), ("map50", "mAP50"))
        ]
        notes.append(
            f"{', '.join(spans)}: 95 % of {scoring.bootstrap} resamplings of the {len(data.test)} test images"
        )
    shown = [name for name in data.classes if f"{name}/map50" in metrics]
    per_class = named([f"{name} {metrics[f'{name}/map50']:.3f}" for name in shown])
    notes.append(f"AP50 by class: {per_class}")
    if absent := [name for name in data.classes if name not in shown]:
        notes.append(f"not in the test images and in no mean: {named(absent)}")
    if "segm_map" in metrics:
        notes.append(f"masks: mAP {metrics['segm_map']:.3f}, mAP50 {metrics['segm_map50']:.3f}")
    if "precision" in metrics:
        scores, f1 = f1_curve(matches)
        best = int(f1.argmax())
        notes.append(
            f"at score {scoring.confidence:g} and IoU 0.5: precision {metrics['precision']:.3f}, recall "
            f"{metrics['recall']:.3f}, F1 {metrics['f1']:.3f}; F1 is highest at score {scores[best]:.2f}: "
            f"{f1[best]:.3f}"
        )
    return notes
