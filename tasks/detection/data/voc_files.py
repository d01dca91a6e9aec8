"""Where a VOC data set has its XML files, images and lists."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from tasks.detection.data.parts import file_lines, files_below, folders_of, named_folder, part_folders

LOOKED_FOR = "VOC (Annotations, JPEGImages and ImageSets; or .xml files beside the images)"
ANNOTATIONS = ("annotations", "xml", "xmls", "labels")
IMAGES = ("jpegimages", "images", "imgs")


@dataclass(frozen=True)
class VocHome:
    """Where images and their XML files lie.

    Attributes:
        images: Folder of the images.
        annotations: Folder of the XML files, with the same names and the same folders inside.
        names: Names without ending that belong to the part; ``None`` takes all.
        listed_in: File that the names are from.
    """

    images: Path
    annotations: Path
    names: tuple[str, ...] | None = None
    listed_in: Path | None = None


@dataclass
class VocPart:
    """A part, from one folder or several."""

    homes: list[VocHome] = field(default_factory=list)


def find_voc(path: Path, images: Path | None) -> dict[str, VocPart]:
    """Returns the parts of a VOC data set; empty where it is none.

    Args:
        path: The folder that holds ``Annotations``, or XML files, or folders of such, as VOCdevkit does.
        images: Folder of the images, if it is known.
    """
    found = _homes(path, images)
    if found:
        return found
    for name, folder in part_folders(path).items():
        for home in _homes(folder, images).values():
            found.setdefault(name, VocPart()).homes += home.homes
    if found:
        return found
    years = [*folders_of(path), *folders_of(path / "VOCdevkit")]
    for folder in years:
        if re.fullmatch(r"VOC\d{4}", folder.name):
            for name, part in _homes(folder, images).items():
                found.setdefault(name, VocPart()).homes += part.homes
    return found


def _homes(path: Path, images: Path | None) -> dict[str, VocPart]:
    annotations = named_folder(path, ANNOTATIONS)
    if annotations is not None and _has_xml(annotations):
        inside = images or named_folder(path, IMAGES) or path
        lists = _lists(path / "ImageSets" / "Main")
        if not lists:
            return {"all": VocPart([VocHome(inside, annotations)])}
        return {
            name: VocPart([VocHome(inside, annotations, names, file)])
            for name, (file, names) in lists.items()
        }
    beside = any(item.suffix.lower() == ".xml" for item in path.iterdir()) if path.is_dir() else False
    return {"all": VocPart([VocHome(images or path, path)])} if beside else {}


def _has_xml(path: Path) -> bool:
    return next(files_below(path, (".xml",)), None) is not None


def _lists(folder: Path) -> dict[str, tuple[Path, tuple[str, ...]]]:
    """Returns the lists of names by part, with the files that they are from."""
    files = {name: folder / f"{name}.txt" for name in ("train", "val", "trainval", "test")}
    found = {name: (file, names) for name, file in files.items() if (names := _names(file))}
    both = found.pop("trainval", None)
    if both is not None and "train" not in found:
        file, names = both
        held_out = set(found["val"][1]) if "val" in found else set()
        found = {"train": (file, tuple(name for name in names if name not in held_out)), **found}
    return found


def _names(file: Path) -> tuple[str, ...]:
    if not file.is_file():
        return ()
    return tuple(line.strip() for line in file_lines(file) if line.strip())
