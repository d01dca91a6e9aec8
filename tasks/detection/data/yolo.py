"""YOLO: one text file for an image; a row is a class and a box, or a class and a polygon, in shares of the sides."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tasks.detection.data.annotations import AnnotationBuilder
from tasks.detection.data.notes import Notes, number
from tasks.detection.data.outlines import ring
from tasks.detection.data.parts import Filled, file_lines
from tasks.detection.data.yolo_files import YoloSet

MOST_CLASSES = 10_000
"""Numbers of classes that nothing names end here: beyond, a row is taken for damaged."""


def read_yolo(found: YoloSet, notes: Notes) -> Filled:
    """Reads text files; where no file names the classes, they are named by their numbers."""
    builders: dict[str, AnnotationBuilder] = {}
    for name, images in found.parts.items():
        builders[name] = AnnotationBuilder("line", notes, relative=True)
        taken: set[Path] = set()
        for file in images:
            if file in taken:
                notes.add("image", "listed twice, taken once", str(file))
                continue
            taken.add(file)
            label_file = _label_file(file, found.labels)
            if label_file is None:
                notes.add("image", "with no annotation file, taken as without objects", str(file))
            image = builders[name].image(file, str(label_file or file))
            if label_file is not None:
                _fill(builders[name], image, label_file, found.names)
    classes = found.names
    if classes is None:
        highest = max((max(builder.used(), default=-1) for builder in builders.values()), default=-1)
        classes = [str(k) for k in range(highest + 1)]
    return Filled(builders, classes, list(range(1, len(classes) + 1)))


def _label_file(image: Path, folder: Path | None) -> Path | None:
    tried = []
    if folder is not None:
        tried.append(folder / f"{image.stem}.txt")
    # The last folder that is named images has one beside it that is named labels, with the same folders inside.
    for k in reversed(range(len(image.parts) - 1)):
        if image.parts[k].lower() == "images":
            tried.append(Path(*image.parts[:k], "labels", *image.parts[k + 1 :]).with_suffix(".txt"))
            break
    tried.append(image.with_suffix(".txt"))
    return next((item for item in tried if item.is_file()), None)


def _fill(builder: AnnotationBuilder, image: int, file: Path, names: list[str] | None) -> None:
    for line, text in enumerate(file_lines(file), start=1):
        fields = text.split()
        if not fields:
            continue
        where = f"{file} line {line}"
        label, values = number(fields[0]), [number(item) for item in fields[1:]]
        if not label.is_integer() or label < 0:
            builder.notes.add("row", "whose class is no whole number, dropped", where)
        elif label >= (MOST_CLASSES if names is None else len(names)):
            known = f"{MOST_CLASSES:,}" if names is None else f"{len(names)} that have names"
            builder.notes.add("row", f"of a class beyond the {known}, dropped", f"{where}, class {label:g}")
        elif len(values) == 4:
            x, y, width, height = values
            box = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
            builder.add(image, int(label), box, line)
        else:
            _fill_outline(builder, image, int(label), values, line)


def _fill_outline(builder: AnnotationBuilder, image: int, label: int, values: list[float], line: int) -> None:
    outline = ring(values)
    if outline is None:
        what = "with neither four numbers nor a polygon after the class, dropped"
        builder.notes.add("row", what, builder.where(image, line))
        return
    box = np.concatenate([outline.min(0), outline.max(0)]).astype(np.float64).tolist()
    builder.add(image, label, box, line, rings=[outline])
