"""What is found in a folder, before any of it is read."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tasks.segmentation.data.place import ending_of, stem
from tasks.segmentation.labels import Labels

CHANNEL = re.compile(r"^(.+)_(\d{4})$")
"""nnU-Net's name of a channel's file: case, number."""


@dataclass(frozen=True)
class RawCase:
    """Files of a case.

    Attributes:
        name: Of the case.
        images: One file for each channel, or one with all.
        label: Label map, if there is one.
        mask: Field of view, if there is one.
    """

    name: str
    images: tuple[Path, ...]
    label: Path | None
    mask: Path | None = None


@dataclass
class Found:
    """Content of a folder.

    Attributes:
        layout: How it was read.
        cases: Those to learn from, with and without labels.
        test: Those that the folder itself holds out.
        labels: What labels mean, where the folder says so.
        channels: Names of the channels, where the folder says so.
        notes: What the user should know.
        dropped: What cannot be used, a line each.
    """

    layout: str
    cases: list[RawCase]
    test: list[RawCase] = field(default_factory=list)
    labels: Labels | None = None
    channels: list[str] | None = None
    notes: list[str] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)


def subfolders(path: Path) -> dict[str, Path]:
    """Returns the folders in a folder by their names in lower case."""
    return {item.name.lower(): item for item in sorted(path.iterdir()) if item.is_dir()}


def image_files(folder: Path, ending: str | None = None) -> list[Path]:
    """Returns the images and volumes of a folder, sorted by name; hidden files are none.

    Args:
        folder: Where to look; subfolders are left out.
        ending: The only ending that counts; all known ones by default.
    """
    files = (item for item in folder.iterdir() if item.is_file() and not item.name.startswith("."))
    return sorted(
        item for item in files if ending_of(item) and ending_of(item) == (ending or ending_of(item))
    )


def group_channels(files: Iterable[Path], single: Collection[str] = ()) -> dict[str, tuple[Path, ...]]:
    """Puts files NAME_0000, NAME_0001, ... together.

    Args:
        files: Images, sorted by name.
        single: Names of files that are cases by themselves though they end in such a number.

    Returns:
        Name of the case to its files. A name that would be there twice, as for ``a.png`` and ``a.tif``, keeps its
        ending.
    """
    groups: dict[str, list[Path]] = {}
    for file in files:
        name = stem(file)
        match = None if name in single else CHANNEL.match(name)
        key = match[1] if match else name
        if key in groups and (match is None or stem(file) in map(stem, groups[key])):
            key = file.name
        groups.setdefault(key, []).append(file)
    return {name: tuple(items) for name, items in groups.items()}


def pair(images: Sequence[Path], labels: Sequence[Path]) -> tuple[list[RawCase], list[str]]:
    """Puts images and label maps of equal names together.

    Returns:
        Cases, whose label is ``None`` where there is none, and a line for each label map without an image.
    """
    by_name = {stem(file): file for file in labels}
    groups = group_channels(images, by_name)
    cases = [RawCase(name, files, by_name.get(name)) for name, files in groups.items()]
    alone = [
        f"{name}: the label map {file} has no image" for name, file in by_name.items() if name not in groups
    ]
    return cases, alone
