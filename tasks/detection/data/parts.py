"""What readers of all formats use to find files: names of parts, folders and images."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from core.data.images.files import ENDINGS
from tasks.detection.data.annotations import AnnotationBuilder

PARTS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
}
"""Names of parts in files and folders, to ours."""
ORDER = ("train", "val", "test", "all")
"""The first that knows a class decides on its place in the list."""


@dataclass
class Filled:
    """What a reader found.

    Attributes:
        builders: Rows by the name of the part, with labels that are positions in ``classes``.
        classes: Names of the classes.
        category_ids: COCO's number of each class.
    """

    builders: dict[str, AnnotationBuilder]
    classes: list[str]
    category_ids: list[int]


def part_name(name: str) -> str | None:
    """Returns train, val or test where a file or folder is named so, with or without a year, else ``None``."""
    return PARTS.get(name.lower().rstrip("0123456789_-"))


def folders_of(path: Path) -> list[Path]:
    """Returns the folders inside a folder that are not hidden, sorted."""
    if not path.is_dir():
        return []
    return sorted(item for item in path.iterdir() if item.is_dir() and not item.name.startswith("."))


def named_folder(path: Path, names: Sequence[str]) -> Path | None:
    """Returns the folder inside ``path`` that has one of the names, in any case; the first name wins."""
    inside = {item.name.lower(): item for item in folders_of(path)}
    return next((inside[name] for name in names if name in inside), None)


def part_folders(path: Path) -> dict[str, Path]:
    """Returns the folders inside a folder that are named as parts; of two for one part, the first by name."""
    found: dict[str, Path] = {}
    for item in folders_of(path):
        name = part_name(item.name)
        if name is not None:
            found.setdefault(name, item)
    return {name: found[name] for name in ORDER if name in found}


def files_below(path: Path, endings: Sequence[str]) -> Iterator[Path]:
    """Walks through a folder and those inside in the order of their names, without hidden ones and links to folders.

    Args:
        path: The folder.
        endings: Wanted endings, in lower case.
    """
    for folder, inside, names in os.walk(path):
        inside[:] = sorted(name for name in inside if not name.startswith("."))
        for name in sorted(names):
            if not name.startswith(".") and os.path.splitext(name)[1].lower() in endings:
                yield Path(folder, name)


def images_below(path: Path) -> list[Path]:
    """Returns the images of a folder and of those inside."""
    return list(files_below(path, ENDINGS))


def file_lines(path: Path) -> list[str]:
    """Returns the lines of a text file; bytes that are no UTF-8 are replaced."""
    return path.read_bytes().decode("utf-8-sig", errors="replace").splitlines()
