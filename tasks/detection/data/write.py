"""Writes data sets as COCO, Pascal VOC and YOLO."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from xml.etree import ElementTree

import numpy as np
import yaml
from rich.progress import track

from core.errors import ConfigError
from core.files import is_new
from tasks.detection.data.dataset import ImageSet, Targets
from tasks.detection.data.read import Found

FOLDERS = {"train": "train", "val": "valid", "test": "test", "all": ""}
"""Part to the folder of it, as Roboflow names them."""
PROGRESS_FROM = 200
"""Number of images above which a progress bar is worth its line."""
MOVED = 0.01
"""Distance that a box may move without a word, pixels."""


@dataclass(frozen=True)
class NamedPart:
    """A part of a data set on its way into another format.

    Attributes:
        images: What is written.
        names: New name of each image: without folders, and no two in a folder with the same stem.
    """

    images: ImageSet
    names: list[str]

    def stem(self, i: int) -> str:
        """Returns the name of image ``i`` without its ending."""
        return Path(self.names[i]).stem


def write_dataset(found: Found, folder: Path, layout: str) -> list[str]:
    """Writes all parts of a data set; images become hard links of the old ones, or copies where that is not possible.

    Args:
        found: The data set.
        folder: New or empty folder.
        layout: Key of :data:`WRITERS`.

    Returns:
        What the format cannot hold, one line each.

    Raises:
        ConfigError: The folder is not empty, or cannot be written.
    """
    if not is_new(folder):
        raise ConfigError(f"--output {folder} exists and is no empty folder; name a new one")
    try:
        return WRITERS[layout](found, folder)
    except OSError as error:
        raise ConfigError(f"--output {folder} cannot be written: {error.strerror or error}") from None


def _named(parts: dict[str, ImageSet], shared: bool = False) -> dict[str, NamedPart]:
    """Returns the parts with new names; ``shared`` is whether the images of all parts come into one folder."""
    taken: set[str] = set()
    return {
        part: NamedPart(images, _new_names(images, taken if shared else set()))
        for part, images in parts.items()
    }


def _new_names(images: ImageSet, taken: set[str]) -> list[str]:
    """Returns names without folders: those below the common one are joined to the name."""
    paths = [PurePosixPath(str(name)) for name in images.names]
    common = os.path.commonpath([path.parent for path in paths]) if paths else ""
    names = []
    for path in paths:
        flat = "_".join(path.relative_to(common).parts) if common else "_".join(path.parts)
        stem = first = Path(flat).stem
        number = 1
        # Annotations of VOC and YOLO go by the stem, and some systems take a.jpg and A.jpg for one.
        while stem.lower() in taken:
            number += 1
            stem = f"{first}_{number}"
        taken.add(stem.lower())
        names.append(stem + path.suffix)
    return names


def _place(part: NamedPart, folder: Path, title: str) -> None:
    """Puts the images of a part into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    places: Any = range(len(part.images))
    if len(part.images) > PROGRESS_FROM:
        places = track(places, f"{title} images", transient=True)
    for i in places:
        source, target = part.images.path(i).resolve(), folder / part.names[i]
        try:
            os.link(source, target)
        except OSError:
            shutil.copyfile(source, target)


def write_coco(found: Found, folder: Path) -> list[str]:
    """Writes ``train/_annotations.coco.json`` with the images beside it, and the same for valid and test."""
    parts = _named(found.parts)
    for name, part in parts.items():
        _place(part, folder / FOLDERS[name], name)
        content = coco_content(part, found.classes, found.category_ids)
        file = folder / FOLDERS[name] / "_annotations.coco.json"
        file.write_text(
            json.dumps(content, ensure_ascii=False, separators=(",", ":")) + "\n", encoding="utf-8"
        )
    return []


def coco_content(part: NamedPart, classes: list[str], category_ids: list[int]) -> dict[str, Any]:
    """Returns the content of a COCO file."""
    images = part.images
    described: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for i, name in enumerate(part.names):
        width, height = (int(side) for side in images.sizes[i])
        number = int(images.ids[i])
        described.append({"id": number, "file_name": name, "width": width, "height": height})
        targets = images.targets(i)
        for k, (left, top, right, bottom) in enumerate(targets.boxes.astype(float)):
            rings = targets.rings[k] if targets.rings is not None else []
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": category_ids[targets.labels[k]],
                    "bbox": [round(v, 4) for v in (left, top, right - left, bottom - top)],
                    "area": round(float(targets.area[k]), 4),
                    "iscrowd": int(targets.crowd[k]),
                    "segmentation": [[round(v, 4) for v in ring.astype(float).ravel()] for ring in rings],
                }
            )
    categories = [{"id": i, "name": name} for i, name in zip(category_ids, classes, strict=True)]
    return {"images": described, "annotations": annotations, "categories": categories}


def write_voc(found: Found, folder: Path) -> list[str]:
    """Writes ``Annotations``, ``JPEGImages`` and ``ImageSets/Main``; pixels count from the corner of the image."""
    parts = _named(found.parts, shared=True)
    (folder / "Annotations").mkdir(parents=True)
    for name, part in parts.items():
        _place(part, folder / "JPEGImages", name)
        for i, file in enumerate(part.names):
            root = _voc_tree(file, part.images.sizes[i], part.images.targets(i), found.classes)
            ElementTree.indent(root)
            path = folder / "Annotations" / f"{part.stem(i)}.xml"
            ElementTree.ElementTree(root).write(path, encoding="utf-8")
        if name != "all":
            lists = folder / "ImageSets" / "Main"
            lists.mkdir(parents=True, exist_ok=True)
            text = "".join(f"{part.stem(i)}\n" for i in range(len(part.names)))
            (lists / f"{name}.txt").write_text(text, encoding="utf-8")
    lost = []
    if outlined := _outlined(parts):
        lost.append(f"Pascal VOC holds no outlines: those of {outlined:,} objects are not written")
    if found.category_ids != list(range(1, len(found.classes) + 1)):
        lost.append("Pascal VOC holds no numbers of classes: read again, they count from 1")
    if crowd := _crowds(parts):
        lost.append(f"{crowd:,} crowds became difficult objects, the nearest thing that Pascal VOC has")
    return lost


def _voc_tree(name: str, size: np.ndarray, targets: Targets, classes: list[str]) -> ElementTree.Element:
    root = ElementTree.Element("annotation")
    _child(root, "filename", name)
    sides = _child(root, "size")
    for tag, value in (("width", size[0]), ("height", size[1]), ("depth", 3)):
        _child(sides, tag, str(int(value)))
    for k, box in enumerate(targets.boxes.astype(float)):
        thing = _child(root, "object")
        _child(thing, "name", classes[targets.labels[k]])
        _child(thing, "difficult", str(int(targets.crowd[k])))
        corners = _child(thing, "bndbox")
        for tag, value in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True):
            _child(corners, tag, _decimal(value, 4))
    return root


def _child(parent: ElementTree.Element, tag: str, text: str | None = None) -> ElementTree.Element:
    child = ElementTree.SubElement(parent, tag)
    child.text = text
    return child


def write_yolo(found: Found, folder: Path) -> list[str]:
    """Writes ``data.yaml``, ``images/train`` and ``labels/train``, and the same for val and test."""
    parts = _named(found.parts)
    listed: dict[str, Any] = {}
    moved = 0
    for name, part in parts.items():
        inside = "train" if name == "all" else name
        listed[inside] = f"images/{inside}"
        _place(part, folder / "images" / inside, name)
        labels = folder / "labels" / inside
        labels.mkdir(parents=True)
        for i in range(len(part.names)):
            targets = part.images.targets(i)
            kept = np.flatnonzero(~targets.crowd).tolist()
            rows = [_yolo_row(targets, k, part.images.sizes[i]) for k in kept]
            (labels / f"{part.stem(i)}.txt").write_text("".join(rows), encoding="utf-8")
            moved += sum(_moves(targets, k) for k in kept)
    listed["names"] = dict(enumerate(found.classes))
    text = yaml.safe_dump(listed, sort_keys=False, allow_unicode=True)
    (folder / "data.yaml").write_text(text, encoding="utf-8")
    lost = []
    if crowd := _crowds(parts):
        lost.append(f"YOLO has no mark for crowds and difficult objects: {crowd:,} are not written")
    if found.category_ids != list(range(1, len(found.classes) + 1)):
        lost.append("YOLO counts classes from 0: their numbers in COCO files are not written")
    if moved:
        lost.append(f"YOLO has an outline or a box: {moved:,} boxes become those around their outlines")
    if pieces := sum(_pieces(part.images) for part in parts.values()):
        lost.append(f"YOLO has one outline for an object: the pieces of {pieces:,} are joined by lines")
    return lost


def _yolo_row(targets: Targets, k: int, size: np.ndarray) -> str:
    """Returns the line of an object, in shares of the image: its outline if it has one, else middle and sides."""
    rings = targets.rings[k] if targets.rings is not None else []
    width_height = size.astype(float)
    if rings:
        values = (_joined(rings).astype(float) / width_height).ravel()
    else:
        left_top, right_bottom = targets.boxes[k].astype(float).reshape(2, 2)
        middle, sides = (left_top + right_bottom) / 2, right_bottom - left_top
        values = np.concatenate([middle / width_height, sides / width_height])
    return " ".join([str(int(targets.labels[k])), *(_decimal(v, 8) for v in values)]) + "\n"


def _joined(rings: list[np.ndarray]) -> np.ndarray:
    """Returns one ring ``(N, 2)``: from piece to piece and the same way back, so that the lines enclose nothing."""
    if len(rings) == 1:
        return rings[0]
    closed = [np.concatenate([ring, ring[:1]]) for ring in rings]
    return np.concatenate([*closed, *(ring[:1] for ring in rings[-2::-1])])


def _moves(targets: Targets, k: int) -> bool:
    rings = targets.rings[k] if targets.rings is not None else []
    if not rings:
        return False
    points = np.concatenate(rings)
    around = np.concatenate([points.min(0), points.max(0)])
    return bool(np.abs(around - targets.boxes[k]).max() > MOVED)


def _pieces(images: ImageSet) -> int:
    if images.polygons is None:
        return 0
    return int(((np.diff(images.polygons.objects) > 1) & ~images.crowd).sum())


def _outlined(parts: dict[str, NamedPart]) -> int:
    sets = [part.images.polygons for part in parts.values()]
    return sum(int((np.diff(polygons.objects) > 0).sum()) for polygons in sets if polygons is not None)


def _crowds(parts: dict[str, NamedPart]) -> int:
    return sum(int(part.images.crowd.sum()) for part in parts.values())


def _decimal(value: float, digits: int) -> str:
    """Returns a number without an exponent and without zeros at its end."""
    return f"{value:.{digits}f}".rstrip("0").rstrip(".")


WRITERS: dict[str, Callable[[Found, Path], list[str]]] = {
    "coco": write_coco,
    "voc": write_voc,
    "yolo": write_yolo,
}
"""Format to what writes it."""
