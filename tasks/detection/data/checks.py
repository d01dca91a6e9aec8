"""Looks at image sets before anything is learned: the same image on both sides of a split, counts, empty classes."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from core.data.split import group_of
from core.errors import DataError
from tasks.detection.data.dataset import ImageSet
from tasks.detection.data.select import subset

SMALL, LARGE = 32**2, 96**2
"""COCO's limits of small and large objects, pixels."""
SHOWN = 5
"""Images and classes that are named; more are counted."""

_HEAD = 8192


def content_hashes(paths: Sequence[Path]) -> list[bytes]:
    """Returns the SHA-256 of the content of each file.

    Raises:
        DataError: A file cannot be read.
    """
    return _each(_sha256, paths)


def same_content(paths: Sequence[Path]) -> list[list[int]]:
    """Returns the positions of files of equal content, in groups of two or more.

    Only files of equal size are opened, and only those that begin alike are read to the end.

    Raises:
        DataError: A file cannot be read.
    """
    groups = [list(range(len(paths)))]
    for look in (_size, _head, _sha256):
        finer: list[list[int]] = []
        members = [i for group in groups for i in group]
        found = dict(zip(members, _each(look, [paths[i] for i in members]), strict=True))
        for group in groups:
            alike: dict[bytes, list[int]] = defaultdict(list)
            for i in group:
                alike[found[i]].append(i)
            finer += [same for same in alike.values() if len(same) > 1]
        groups = finer
    return groups


def drop_leaks(
    train: ImageSet, validation: ImageSet, test: ImageSet, group: str | None
) -> tuple[ImageSet, ImageSet, list[str]]:
    """Leaves out of training what is held out too, and out of validation what is tested on.

    Args:
        train: To learn from.
        validation: To look at while learning.
        test: Held out; it stays as it is.
        group: Regular expression that finds the scene in an image's name; scenes must not be on both sides either.

    Returns:
        Training and validation images that are left, and a line for each kind of finding.

    Raises:
        DataError: A file cannot be read.
        ConfigError: The expression is wrong or finds nothing.
    """
    parts = [test, validation, train]
    sides = np.repeat(np.arange(3), [len(part) for part in parts])
    names = [str(name) for part in parts for name in part.names]
    paths = [part.path(i) for part in parts for i in range(len(part))]
    groups = same_content(paths)
    dropped = np.zeros(len(names), bool)
    notes = []
    leaks = sorted(i for same in groups for i in same if sides[i] > sides[same].min())
    dropped[leaks] = True
    if leaks:
        notes.append(_told(leaks, names, "also held out, and {are} left out of what is learned from"))
    twice = [i for same in groups for i in same[1:] if not dropped[i]]
    if twice:
        notes.append(_told(twice, names, "the same file as another one of the same part, and {are} kept"))
    if group is not None:
        scenes = [group_of(name, group, "--data.group") for name in names]
        first: dict[str, int] = {}
        for scene, side in zip(scenes, sides.tolist(), strict=True):
            first.setdefault(scene, side)
        shared = [i for i, scene in enumerate(scenes) if sides[i] > first[scene] and not dropped[i]]
        dropped[shared] = True
        if shared:
            notes.append(_told(shared, names, "of a scene that is held out, and {are} left out"))
    kept = [np.flatnonzero(~dropped[sides == side]) for side in (2, 1)]
    return subset(train, kept[0]), subset(validation, kept[1]), notes


def describe(images: ImageSet, classes: Sequence[str], part: str) -> list[str]:
    """Returns what a user should know of a set: classes, sizes, and what is missing.

    Args:
        images: One image or more.
        classes: Names.
        part: What the set is called: training, test.
    """
    counts = np.bincount(images.labels[~images.crowd], minlength=len(classes))
    order = np.argsort(-counts, kind="stable")
    named = [f"{classes[i]} {counts[i]:,}" for i in order if counts[i]]
    notes = [f"{part}: {len(images):,} images, {counts.sum():,} objects: {_some(named, 2 * SHOWN)}"]
    per_image = np.diff(images.start)
    if len(images.area):
        shares = np.histogram(images.area, [0, SMALL, LARGE, np.inf])[0] / len(images.area)
        small, medium, large = (f"{100 * share:.0f} %" for share in shares)
        notes.append(
            f"{part}: {np.median(per_image):g} objects in the median image, {per_image.max()} at most; {small} small, "
            f"{medium} medium, {large} large (below 32 x 32, below 96 x 96 pixels, above)"
        )
    if empty := int((per_image == 0).sum()):
        shows = "shows" if empty == 1 else "show"
        notes.append(f"{part}: {empty:,} of {len(images):,} images {shows} no object; kept as background")
    if crowd := int(images.crowd.sum()):
        what = "1 object" if crowd == 1 else f"{crowd:,} objects"
        are = "is" if crowd == 1 else "are"
        notes.append(f"{part}: {what} marked as crowd or difficult {are} neither learned nor scored")
    missing = [name for name, count in zip(classes, counts, strict=True) if not count]
    if missing:
        notes.append(f"{part}: no object of {_some(missing, SHOWN)}")
    return notes


def _told(positions: Sequence[int], names: Sequence[str], what: str) -> str:
    listed = _some([names[i] for i in positions], SHOWN)
    count, are = ("1 image", "is") if len(positions) == 1 else (f"{len(positions):,} images", "are")
    return f"{count} ({listed}) {are} {what.format(are=are)}"


def _some(names: Sequence[str], shown: int) -> str:
    listed = ", ".join(names[:shown])
    return listed if len(names) <= shown else f"{listed} and {len(names) - shown} more"


def _each(look: Callable[[Path], bytes], paths: Sequence[Path]) -> list[bytes]:
    try:
        # Reading and hashing both let other threads run.
        with ThreadPoolExecutor() as pool:
            return list(pool.map(look, paths))
    except OSError as error:
        raise DataError(f"{error.filename}: cannot be read ({error.strerror})") from None


def _size(path: Path) -> bytes:
    return str(path.stat().st_size).encode()


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_HEAD)


def _sha256(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
