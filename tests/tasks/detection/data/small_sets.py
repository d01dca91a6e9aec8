"""Small data sets of each format on disk."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


def picture(path: Path, width: int = 40, height: int = 30, orientation: int = 1) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    if orientation > 1:
        exif[274] = orientation
    Image.fromarray(np.zeros((height, width), np.uint8)).save(path, exif=exif)
    return path


def text(path: Path, content: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")
    return path


def xml(
    path: Path,
    objects: Iterable[tuple[str, Sequence[Any]]] = (),
    size: tuple[int, int] = (40, 30),
    extra: str = "",
) -> Path:
    rows = [
        f"<object><name>{name}</name>{extra}<bndbox><xmin>{box[0]}</xmin><ymin>{box[1]}</ymin>"
        f"<xmax>{box[2]}</xmax><ymax>{box[3]}</ymax></bndbox></object>"
        for name, box in objects
    ]
    head = f"<annotation><filename>{path.stem}.png</filename>"
    sides = f"<size><width>{size[0]}</width><height>{size[1]}</height></size>"
    return text(path, "\n".join([head, sides, *rows, "</annotation>"]))


def coco(
    path: Path,
    images: Sequence[dict[str, Any]],
    annotations: Sequence[dict[str, Any]],
    categories: Sequence[tuple[int, str]] = ((1, "cat"), (2, "dog")),
) -> Path:
    content = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": number, "name": name} for number, name in categories],
    }
    return text(path, json.dumps(content))


def entry(number: int, name: str, width: int = 40, height: int = 30) -> dict[str, Any]:
    return {"id": number, "file_name": name, "width": width, "height": height}


def thing(number: int, image: int, box: Sequence[Any], category: int = 1, **more: Any) -> dict[str, Any]:
    return {"id": number, "image_id": image, "category_id": category, "bbox": list(box), **more}
