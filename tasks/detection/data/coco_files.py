"""Where a COCO data set has its JSON files and images."""

from __future__ import annotations

import mmap
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from core.errors import DataError
from tasks.detection.data.parts import images_below, named_folder, part_folders, part_name

LOOKED_FOR = (
    "COCO (_annotations.coco.json in train, valid and test; annotations/instances_*.json; or a .json file)"
)
BESIDE = ("_annotations.coco.json", "_annotations.json", "annotations.json", "labels.json")
"""Names of JSON files that lie beside their images, the usual first."""
OTHERS = ("captions_", "person_keypoints_", "image_info_", "panoptic_", "stuff_")
"""How COCO's files about other things begin."""
ANNOTATIONS = ("annotations", "labels")
"""Folders that hold JSON files."""
CONTAINERS = ("images", "data", "imgs")
"""Folders that hold images, or folders of images."""


@dataclass(frozen=True)
class CocoPart:
    """A JSON file, and the folders that its images may lie in, the likeliest first."""

    file: Path
    folders: tuple[Path, ...]


def find_coco(path: Path, images: Path | None) -> dict[str, CocoPart]:
    """Returns the parts of a COCO data set; empty where it is none.

    Args:
        path: A JSON file; or the folder that holds JSON files, ``annotations``, or folders of parts.
        images: Folder of the images, if it is known.
    """
    if path.is_file():
        if path.suffix.lower() != ".json":
            return {}
        return {"all": _part(path, path.parent, images, _part_of(path))}
    inside = {name: _beside(folder) for name, folder in part_folders(path).items()}
    found = {name: _part(file, file.parent, images, name) for name, file in inside.items() if file}
    if found:
        return found
    folder = named_folder(path, ANNOTATIONS)
    named = _named(folder) if folder is not None else {}
    named = named or _named(path)
    if named:
        return {name: _part(file, path, images, name) for name, file in named.items()}
    file = _beside(folder) if folder is not None else None
    file = file or _beside(path)
    return {"all": _part(file, path, images, None)} if file is not None else {}


def _beside(folder: Path) -> Path | None:
    """Returns the JSON file of a folder: by its name, or the only one that is COCO."""
    by_name = next((folder / name for name in BESIDE if (folder / name).is_file()), None)
    if by_name is not None:
        return by_name
    files = [file for file in sorted(folder.glob("*.json")) if _looks_like_coco(file)]
    return files[0] if len(files) == 1 else None


def _named(folder: Path) -> dict[str, Path]:
    """Returns the JSON files that are named after a part, such as instances_train2017.json or test.json."""
    found: dict[str, Path] = {}
    for file in sorted(folder.glob("*.json")):
        name = _part_of(file)
        if name is not None and not file.name.startswith(OTHERS) and _looks_like_coco(file):
            if name in found:
                first = found[name].name
                raise DataError(
                    f"{folder}: {first} and {file.name} both look like the {name} part; move one away"
                )
            found[name] = file
    return found


def _part_of(file: Path) -> str | None:
    words = [part_name(word) for word in re.split(r"[_.\- ]", file.stem)]
    return next((word for word in words if word is not None), None)


def _looks_like_coco(file: Path) -> bool:
    if not file.stat().st_size:
        return False
    with file.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return content.find(b'"images"') >= 0 and content.find(b'"categories"') >= 0


def _part(file: Path, home: Path, images: Path | None, name: str | None) -> CocoPart:
    """Lists where the images may lie.

    Args:
        file: The JSON file.
        home: Folder of the data set.
        images: Folder of the images, if it is known.
        name: The part, if it is known.
    """
    if images is not None:
        return CocoPart(file, (images,))
    homes = [home, home.parent] if home.name.lower() in ANNOTATIONS else [home]
    year = re.search(r"\d{4}$", file.stem)
    wanted: list[Path] = []
    for container in [item / inside for item in homes for inside in ("", *CONTAINERS)]:
        if name is not None and year is not None:
            wanted.append(container / f"{name}{year[0]}")
        if name is not None:
            wanted += [item for key, item in part_folders(container).items() if key == name]
    wanted += [item / inside for item in homes for inside in (*CONTAINERS, "")]
    return CocoPart(file, tuple(dict.fromkeys(item for item in wanted if item.is_dir())))


class ImageFinder:
    """Finds images by the names in a JSON file, in folders that are listed when they are needed."""

    def __init__(self, folders: tuple[Path, ...]) -> None:
        self.folders = folders
        self._listed: list[tuple[dict[str, Path], dict[str, list[Path]]]] = []

    def find(self, name: str) -> list[Path]:
        """Returns the file; none or several where there is none or it is not clear which one."""
        wanted = name.replace("\\", "/").removeprefix("./")
        for whole, _ in self._lists():
            if wanted in whole:
                return [whole[wanted]]
        base = wanted.rsplit("/", 1)[-1]
        return next((last[base] for _, last in self._lists() if base in last), [])

    def _lists(self) -> Iterator[tuple[dict[str, Path], dict[str, list[Path]]]]:
        for k, folder in enumerate(self.folders):
            if k == len(self._listed):
                whole: dict[str, Path] = {}
                last: dict[str, list[Path]] = defaultdict(list)
                for file in images_below(folder):
                    whole[file.relative_to(folder).as_posix()] = file
                    last[file.name].append(file)
                self._listed.append((whole, last))
            yield self._listed[k]
