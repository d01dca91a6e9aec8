"""COCO's average precision and recall by faster-coco-eval, which gives the numbers of pycocotools."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from tasks.detection.data.dataset import ImageSet, Targets
from tasks.detection.results import Detections

STATS = ("map", "map50", "map75", "map_small", "map_medium", "map_large")
"""Average precision: over IoU 0.5 to 0.95, at 0.5, at 0.75, and over objects of up to 32² and 96² pixels and more."""
RECALLS = ("mar_{0}", "mar_{1}", "mar_{2}", "mar_small", "mar_medium", "mar_large")
"""Average recall with so many detections of a class in an image, and with the most over objects of each size."""


@dataclass(frozen=True)
class CocoResult:
    """Scores of a test; nan where the truth has nothing that could be found.

    Attributes:
        stats: COCO's twelve numbers, ``map``, ``map50``, ``map75``, ``map_small``, ..., ``mar_100``, ``mar_large``.
        ap: ``(C,)`` average precision of each class over the IoUs from 0.5 to 0.95.
        ap50: ``(C,)`` at IoU 0.5.
        precision: ``(10, 101, C)`` highest precision at each IoU and recall, or at a higher recall.
        scores: ``(10, 101, C)`` score from which a recall is reached; 0 where it never is.
        recalls: ``(101,)`` from 0 to 1.
    """

    stats: dict[str, float]
    ap: np.ndarray
    ap50: np.ndarray
    precision: np.ndarray
    scores: np.ndarray
    recalls: np.ndarray


def evaluate_coco(
    truth: ImageSet,
    found: Sequence[Detections],
    classes: Sequence[str],
    kind: Literal["bbox", "segm"] = "bbox",
    max_dets: tuple[int, int, int] = (1, 10, 100),
) -> CocoResult:
    """Scores detections as COCO does.

    Images and classes are numbered by their positions, so that the numbers in files, which may repeat, do not matter.

    Args:
        truth: Images with ``N`` entries and what is in them. Crowds are neither right nor wrong when found; of masks
            this is true of objects without an outline as well.
        found: What was found in each of the ``N`` images, with masks for ``segm``.
        classes: Names; labels are positions in it.
        kind: What must overlap: boxes or masks.
        max_dets: Most detections of a class in an image, the largest for average precision.
    """
    from faster_coco_eval import COCO, COCOeval_faster

    assert len(truth) == len(found)
    true = COCO(
        {
            "images": [
                {"id": i + 1, "width": int(width), "height": int(height)}
                for i, (width, height) in enumerate(truth.sizes)
            ],
            "categories": [{"id": c + 1, "name": name} for c, name in enumerate(classes)],
            "annotations": _true_rows(truth, kind),
        }
    )
    evaluator = COCOeval_faster(true, true.loadRes(_found_rows(found, kind)), kind, print_function=_quiet)
    evaluator.params.maxDets = list(max_dets)
    evaluator.evaluate()
    evaluator.accumulate()
    evaluator.summarize()
    names = [*STATS, *(name.format(*max_dets) for name in RECALLS)]
    stats = dict(zip(names, _or_nan(evaluator.stats).tolist(), strict=True))
    # IoUs, recalls, classes, sizes of objects (all of them first), numbers of detections (the largest last).
    precision = _or_nan(evaluator.eval["precision"][:, :, :, 0, -1])
    return CocoResult(
        stats,
        precision.mean((0, 1)),
        precision[0].mean(0),
        precision,
        np.maximum(evaluator.eval["scores"][:, :, :, 0, -1], 0),
        np.asarray(evaluator.params.recThrs),
    )


def with_size(boxes: np.ndarray) -> np.ndarray:
    """Returns ``(N, 4)`` left, top, width, height in float64 of left, top, right, bottom."""
    wide = boxes.astype(np.float64)
    wide[:, 2:] -= wide[:, :2]
    return wide


def _true_rows(truth: ImageSet, kind: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for i in range(len(truth)):
        targets = truth.targets(i)
        boxes = with_size(targets.boxes).tolist()
        for k, box in enumerate(boxes):
            row = {
                "id": len(rows) + 1,
                "image_id": i + 1,
                "category_id": int(targets.labels[k]) + 1,
                "bbox": box,
                "area": float(targets.area[k]),
                "iscrowd": int(targets.crowd[k]),
            }
            rows.append(row | _outline(targets, k, box) if kind == "segm" else row)
    return rows


def _outline(targets: Targets, k: int, box: list[float]) -> dict[str, Any]:
    rings = targets.rings[k] if targets.rings is not None else []
    if rings:
        return {"segmentation": [ring.astype(np.float64).ravel().tolist() for ring in rings]}
    left, top, width, height = box
    right, bottom = left + width, top + height
    return {"segmentation": [[left, top, right, top, right, bottom, left, bottom]], "iscrowd": 1}


def _found_rows(found: Sequence[Detections], kind: str) -> list[dict[str, Any]]:
    rows = []
    for i, each in enumerate(found):
        # Masks go without boxes: the size of an object is then that of its mask.
        key = "bbox" if kind == "bbox" else "segmentation"
        places: Sequence[Any] = with_size(each.boxes).tolist() if kind == "bbox" else each.masks or []
        rows += [
            {"image_id": i + 1, "category_id": label + 1, "score": score, key: place}
            for label, score, place in zip(each.labels.tolist(), each.scores.tolist(), places, strict=True)
        ]
    return rows


def _or_nan(values: np.ndarray) -> np.ndarray:
    """Returns values with nan in place of COCO's -1: nothing to be found."""
    return np.where(values == -1, np.nan, values)


def _quiet(*words: object) -> None:
    """Prints nothing."""
