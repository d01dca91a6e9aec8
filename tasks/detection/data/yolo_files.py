"""Where a YOLO data set has its images, labels and names of classes."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from core.data.images.files import ENDINGS
from core.errors import DataError
from core.yaml12 import load_yaml
from tasks.detection.data.notes import Notes
from tasks.detection.data.parts import (
    ORDER,
    file_lines,
    files_below,
    images_below,
    named_folder,
    part_folders,
    part_name,
)

LOOKED_FOR = "YOLO (data.yaml; images and labels; or .txt files beside the images)"
YAMLS = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")
NAMES = ("classes.txt", "obj.names", "classes.names", "_darknet.labels")
"""Files that list the classes, one a line."""


@dataclass(frozen=True)
class YoloSet:
    """What is to be read.

    Attributes:
        parts: Images by the name of the part.
        labels: Folder of the labels, where it is not found by the place of an image.
        names: Names of the classes, in the order of their numbers; ``None`` where they are not told.
    """

    parts: dict[str, list[Path]]
    labels: Path | None
    names: list[str] | None


def find_yolo(path: Path, images: Path | None, notes: Notes) -> YoloSet | None:
    """Returns the images of a YOLO data set; ``None`` where it is none.

    Args:
        path: A YAML file; or the folder that holds one, ``images`` and ``labels``, or folders of parts.
        images: Folder of the images, if it is known; ``path`` then holds the labels.
        notes: Where notes go.

    Raises:
        DataError: The YAML file is damaged, or names what does not exist.
    """
    if path.is_file():
        return _from_yaml(path, notes) if path.suffix.lower() in (".yaml", ".yml") else None
    file = _yaml_in(path)
    if file is not None:
        return _from_yaml(file, notes)
    if images is not None:
        return YoloSet({"all": images_below(images)}, path, _names_in(path)) if _labelled(path) else None
    pictures, labels = named_folder(path, ("images",)), named_folder(path, ("labels",))
    if pictures is not None and labels is not None and _labelled(labels):
        inside = part_folders(pictures)
        parts = {name: images_below(folder) for name, folder in inside.items()}
        parts = parts or {"all": images_below(pictures)}
        return YoloSet(parts, None, _names_in(path) or _names_in(labels))
    found: dict[str, list[Path]] = {}
    for name, folder in part_folders(path).items():
        inside_labels = named_folder(folder, ("labels",))
        if _labelled(inside_labels) if inside_labels is not None else _labels_beside(folder):
            found[name] = images_below(folder)
    if found:
        return YoloSet(found, None, _names_in(path) or _names_in(path / "train"))
    if _labels_beside(path):
        return YoloSet({"all": images_below(path)}, None, _names_in(path))
    return None


def _yaml_in(path: Path) -> Path | None:
    by_name = next((path / name for name in YAMLS if (path / name).is_file()), None)
    if by_name is not None:
        return by_name
    files = [item for item in sorted(path.glob("*.yaml")) if _mentions_parts(item)]
    return files[0] if len(files) == 1 else None


def _mentions_parts(file: Path) -> bool:
    keys = {line.split(":")[0] for line in file_lines(file) if ":" in line}
    return "names" in keys and "train" in keys


def _labelled(folder: Path) -> bool:
    return any(item.name not in NAMES for item in files_below(folder, (".txt",)))


def _labels_beside(folder: Path) -> bool:
    return any(item.with_suffix(".txt").is_file() for item in images_below(folder))


def _names_in(folder: Path) -> list[str] | None:
    file = next((folder / name for name in NAMES if (folder / name).is_file()), None)
    return None if file is None else [line.strip() for line in file_lines(file) if line.strip()]


def _from_yaml(file: Path, notes: Notes) -> YoloSet:
    try:
        content = load_yaml(file.read_bytes())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())[:120]
        raise DataError(f"{file}: is no YAML ({reason}); correct it") from None
    if not isinstance(content, dict):
        raise DataError(f"{file}: needs the keys train, val and names, as YOLO has them")
    bases = [file.parent]
    if isinstance(content.get("path"), str):
        bases.insert(0, file.parent / content["path"])
    parts: dict[str, list[Path]] = {}
    for key, value in content.items():
        name = part_name(key) if isinstance(key, str) else None
        if name is None or not value:
            continue
        entries = value if isinstance(value, list) else [value]
        found = [_entry(file, key, entry, bases, notes) for entry in entries]
        images = [image for item in found if item is not None for image in item]
        if any(item is not None for item in found):
            parts[name] = images
    if not parts:
        raise DataError(f"{file}: none of its train, val and test folders exists; correct path: there")
    return YoloSet({name: parts[name] for name in ORDER if name in parts}, None, _yaml_names(file, content))


def _entry(file: Path, key: str, entry: object, bases: list[Path], notes: Notes) -> list[Path] | None:
    """Returns the images of a folder or list of files that a YAML file names."""
    if not isinstance(entry, str):
        raise DataError(f"{file}: {key} must name a folder or a .txt list, got {entry!r}")
    # Roboflow writes ../train/images for a folder beside the YAML file.
    tried = [base / text for text in (entry, entry.removeprefix("../")) for base in bases]
    place = next((Path(os.path.abspath(item)) for item in tried if item.exists()), None)
    if place is None:
        if part_name(key) == "train":
            raise DataError(f"{file}: {key}: {entry} does not exist; correct it or path: there")
        notes.add("part", "left out, since the folder does not exist", f"{file}, {key}: {entry}")
        return None
    if place.is_dir():
        return images_below(place)
    if place.suffix.lower() in ENDINGS:
        return [place]
    lines = [line.strip() for line in file_lines(place)]
    return [_listed(line, [place.parent, *bases]) for line in lines if line]


def _listed(line: str, bases: list[Path]) -> Path:
    """Returns an image of a list; where there is none, the first place that was tried."""
    tried = [base / line.removeprefix("./") for base in bases]
    return Path(os.path.abspath(next((item for item in tried if item.is_file()), tried[0])))


def _yaml_names(file: Path, content: dict[Any, Any]) -> list[str] | None:
    names, count = content.get("names"), content.get("nc")
    if names is None:
        return [str(k) for k in range(count)] if isinstance(count, int) else None
    if isinstance(names, dict):
        if sorted(names, key=str) != sorted(range(len(names)), key=str):
            raise DataError(f"{file}: names must count from 0 without gaps, got {list(names)[:20]}")
        names = [names[k] for k in range(len(names))]
    if not isinstance(names, list) or not names:
        raise DataError(f"{file}: names must be a list of the classes, or numbers and classes")
    if isinstance(count, int) and count != len(names):
        raise DataError(f"{file}: nc is {count}, but there are {len(names)} names; correct one of them")
    texts = [str(name) for name in names]
    twice = next((name for name in texts if texts.count(name) > 1), None)
    if twice is not None:
        raise DataError(f"{file}: two classes are named {twice}; rename one")
    return texts
