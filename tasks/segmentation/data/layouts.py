"""Finds out how a folder is laid out, and the files of its cases."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from core.errors import DataError
from core.registry import Registry
from tasks.segmentation.data.folders import VESSEL, find_drive, find_folders, find_images
from tasks.segmentation.data.found import CHANNEL, Found, RawCase, group_channels, image_files
from tasks.segmentation.data.place import ENDINGS, ending_of, stem
from tasks.segmentation.data.raw import find_decathlon, find_nnunet

__all__ = ["LAYOUTS", "VESSEL", "Found", "RawCase", "find_cases", "find_inputs", "other_files"]

LAYOUTS: Registry[Callable[[Path], Found | None]] = Registry("layout")
"""Functions that return what they find, or ``None`` if a folder is not theirs; in the order in which they are tried."""
LAYOUTS.register("decathlon")(find_decathlon)
LAYOUTS.register("nnunet")(find_nnunet)
LAYOUTS.register("drive")(find_drive)
LAYOUTS.register("folders")(find_folders)


def find_cases(path: Path, layout: str = "auto", labelled: bool = True) -> Found:
    """Finds the cases of a folder.

    Args:
        path: The folder.
        layout: One of :data:`LAYOUTS`, or auto.
        labelled: Whether labels are needed; otherwise a plain folder of images will do too.

    Raises:
        DataError: There is no such folder, or it holds nothing that is laid out so.
    """
    if not path.is_dir():
        raise DataError(f"{path}: there is no such folder")
    names = list(LAYOUTS) if layout == "auto" else [layout]
    found = next((each for name in names if (each := LAYOUTS[name](path)) is not None), None)
    if found is None and not labelled:
        found = find_images(path)
    if found is None:
        kind = "" if layout == "auto" else f" of the layout {layout}"
        raise DataError(
            f"{path}: no images with labels{kind}; give imagesTr and labelsTr (with dataset.json), image and label, or "
            "train and test with these"
        )
    return found


def find_inputs(path: Path, channels: int | None = None) -> list[tuple[str, tuple[Path, ...]]]:
    """Finds the images to segment.

    Args:
        path: A file, or a folder of files. Channels of a case are files NAME_0000, NAME_0001, ..., or one file; with
            one of them, the others are found beside it.
        channels: What the model takes. Files with such numbers are put together only if there are that many, since
            cameras number their pictures so too.

    Returns:
        Name and files of each case, sorted.

    Raises:
        DataError: There is no such file or folder, or no image in it.
    """
    if path.is_file():
        match = CHANNEL.match(stem(path))
        beside = image_files(path.parent, ending_of(path)) if match and ending_of(path) else [path]
        groups = _groups(beside, channels)
        return [(name, files) for name, files in groups.items() if path in files] or [(stem(path), (path,))]
    if not path.is_dir():
        raise DataError(f"{path}: there is no such file or folder")
    files = image_files(path)
    if not files:
        raise DataError(f"{path}: no images in this folder; give files of {', '.join(ENDINGS)}")
    return sorted(_groups(files, channels).items())


def other_files(path: Path) -> list[Path]:
    """Returns what :func:`find_inputs` leaves out of a folder for its ending; not hidden files and subfolders."""
    if not path.is_dir():
        return []
    files = (item for item in path.iterdir() if item.is_file() and not item.name.startswith("."))
    # Spacings of TIFF stacks are in such files.
    return sorted(item for item in files if not ending_of(item) and item.suffix.lower() != ".json")


def _groups(files: list[Path], channels: int | None) -> dict[str, tuple[Path, ...]]:
    groups = group_channels(files)
    if channels is None:
        return groups
    wrong = {stem(file) for items in groups.values() if len(items) not in (1, channels) for file in items}
    return group_channels(files, wrong)
