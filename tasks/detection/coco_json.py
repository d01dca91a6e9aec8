"""Detections as a file in the form of COCO. Imports no torch."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from core.errors import ConfigError
from core.track.folder import write_atomic
from tasks.detection.results import Detections


def as_coco(
    images: Sequence[dict[str, Any]],
    found: Sequence[Detections],
    classes: Sequence[str],
    category_ids: Sequence[int],
) -> dict[str, Any]:
    """Returns images, categories and annotations with scores, which stand alone.

    The list under ``annotations`` is what COCO's evaluators take as results.

    Args:
        images: Of each image what is known of it, such as ``file_name``, ``width`` and ``height``; ids are added.
        found: What was found in each.
        classes: Names of the classes.
        category_ids: Number of each class.
    """
    annotations: list[dict[str, Any]] = []
    for image_id, each in enumerate(found, 1):
        for i in range(len(each)):
            left, top, right, bottom = (round(float(value), 3) for value in each.boxes[i])
            width, height = round(right - left, 3), round(bottom - top, 3)
            entry: dict[str, Any] = {
                "id": len(annotations) + 1,
                "image_id": image_id,
                "category_id": category_ids[int(each.labels[i])],
                "bbox": [left, top, width, height],
                "area": round(width * height, 3),
                "iscrowd": 0,
                "score": round(float(each.scores[i]), 5),
            }
            if each.masks is not None:
                from tasks.detection.rle import area

                entry |= {"segmentation": each.masks[i], "area": area(each.masks[i])}
            annotations.append(entry)
    categories = [{"id": number, "name": name} for number, name in zip(category_ids, classes, strict=True)]
    numbered = [{"id": image_id, **image} for image_id, image in enumerate(images, 1)]
    return {"images": numbered, "categories": categories, "annotations": annotations}


def write_coco(path: Path, content: dict[str, Any]) -> None:
    """Writes what :func:`as_coco` returned.

    Raises:
        ConfigError: The file cannot be written.
    """
    try:
        write_atomic(path, json.dumps(content))
    except OSError as error:
        raise ConfigError(f"--output {path} cannot be written: {error.strerror}") from None


def counts_of(found: Detections, classes: Sequence[str]) -> str:
    """Returns how many of each class were found, such as ``3 cat, 1 dog``, or ``nothing``."""
    counts = [int((found.labels == label).sum()) for label in range(len(classes))]
    return ", ".join(f"{n} {name}" for n, name in zip(counts, classes, strict=True) if n) or "nothing"
