"""From a folder to sets of images and boxes, whatever the format."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from core.errors import DataError
from tasks.detection.data.annotations import common_folder
from tasks.detection.data.coco import read_coco
from tasks.detection.data.dataset import ImageSet
from tasks.detection.data.layouts import Layout, find_layout
from tasks.detection.data.notes import Notes
from tasks.detection.data.parts import Filled
from tasks.detection.data.voc import read_voc
from tasks.detection.data.yolo import read_yolo


@dataclass(frozen=True)
class Found:
    """What a folder holds.

    Attributes:
        parts: The sets by the name of the part: train, val and test as far as there are, or all alone where the
            folder is not divided. They share ``root``, the list of classes, and whether there are outlines.
        classes: Names of the classes.
        category_ids: COCO's number of each class: the file's own, or from 1.
        notes: What was dropped, mended or assumed, one line each, with the first file and row.
        layout: coco, voc or yolo.
    """

    parts: dict[str, ImageSet]
    classes: list[str]
    category_ids: list[int]
    notes: list[str]
    layout: str


def read_parts(
    path: Path, layout: str = "auto", images: Path | None = None, one_based: bool = False
) -> Found:
    """Reads a data set with all its parts.

    Args:
        path: The folder, a COCO JSON file or a YOLO YAML file.
        layout: auto, coco, voc or yolo.
        images: Folder of the images, where the annotations do not tell.
        one_based: Pixels in VOC files count from 1, both ends included.

    Returns:
        The parts. Images without objects are kept.

    Raises:
        DataError: There is no such path, no or more than one layout fits, a file is broken, or no image is left.
    """
    path, images = _absolute(path), None if images is None else _absolute(images)
    notes = Notes()
    layout_found = find_layout(path, layout, images, notes)
    (kind,) = layout_found.fitting
    filled = _filled(layout_found, one_based, notes)
    _drop_empty(path, filled, notes)
    _drop_same(filled, notes)
    root = common_folder([item.file for builder in filled.builders.values() for item in builder.images])
    outlines = any(builder.outlined for builder in filled.builders.values())
    parts = {name: builder.build(root, outlines) for name, builder in filled.builders.items()}
    for name, part in parts.items():
        if not len(part):
            _raise_no_image(path, name, notes)
    return Found(parts, filled.classes, filled.category_ids, notes.lines(), kind)


def _absolute(path: Path) -> Path:
    # Lists may name files by absolute paths, which must have a folder in common with the others.
    return Path(os.path.abspath(path))


def _filled(found: Layout, one_based: bool, notes: Notes) -> Filled:
    if found.coco:
        return read_coco(found.coco, notes)
    if found.voc:
        return read_voc(found.voc, one_based, notes)
    assert found.yolo is not None
    return read_yolo(found.yolo, notes)


def _drop_empty(path: Path, filled: Filled, notes: Notes) -> None:
    """Drops a validation or test part that lists no image; nothing can be done without the others."""
    for name, builder in list(filled.builders.items()):
        if not builder.images:
            if name in ("train", "all") or len(filled.builders) == 1:
                _raise_no_image(path, name, notes)
            notes.add("part", "without images, left out", f"{path}, {name}")
            del filled.builders[name]


def _drop_same(filled: Filled, notes: Notes) -> None:
    """Drops a part that is another one again: small sets are often published with one list for train and val."""
    seen: dict[frozenset[Path], str] = {}
    for name, builder in list(filled.builders.items()):
        files = frozenset(item.file for item in builder.images)
        first = seen.setdefault(files, name)
        if first != name:
            notes.add("part", f"with the very images of {first}, left out", name)
            del filled.builders[name]


def _raise_no_image(path: Path, name: str, notes: Notes) -> NoReturn:
    part = "" if name == "all" else f" in the {name} part"
    reasons = "; ".join(notes.lines()[:3]) or "no image is listed or found"
    raise DataError(f"{path}: no image is left{part}: {reasons}")
