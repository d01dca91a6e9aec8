"""Folders of images for training and evaluation: listing, loading, pairing, leaks."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from rich.progress import track

from core.data.cache import Store
from core.data.digest import add_arrays
from core.data.images.files import ENDINGS, match_channels, read_picture
from core.errors import DataError

PAIR_FOLDERS = (("noisy", "clean"), ("lq", "gt"), ("input", "target"), ("lr", "hr"))
"""Names of the folders with the degraded and the clean images, in any case."""
PAIR_MARKS = (("real", "mean"), ("noisy", "clean"), ("noisy", "gt"), ("lq", "gt"), ("lr", "hr"))
"""Words between underscores that tell the two images of a pair apart; PolyU writes ``_real`` and ``_mean``."""
SHOWN = 3
"""Files that are named one by one; more are counted."""
PROGRESS_FROM = 50
"""Number of files above which a progress bar is worth its line."""


@dataclass
class Loaded:
    """Images that were read.

    Attributes:
        names: File names, with the folder's name in front where they would be ambiguous.
        images: ``(H, W, C)`` uint8, uint16 or float32, one C for all.
        notes: What was dropped or changed, one line each.
        store: What keeps the images.
    """

    names: list[str]
    images: list[np.ndarray]
    notes: list[str] = field(default_factory=list)
    store: Store = field(default_factory=Store)

    def select(self, keep: Sequence[int], notes: Sequence[str] = ()) -> Loaded:
        """Returns the images at these positions, with notes of their own."""
        return Loaded([self.names[i] for i in keep], [self.images[i] for i in keep], list(notes), self.store)


def list_pictures(path: Path) -> list[Path]:
    """Lists the images of a folder, sorted by name with numbers in their order (2 before 10).

    Args:
        path: A folder, whose subfolders and hidden files are left out; or one file, which is returned.

    Raises:
        DataError: ``path`` is missing, or the folder holds no image.
    """
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise DataError(f"{path}: there is no such file or folder")
    found = [item for item in _files(path) if item.suffix.lower() in ENDINGS]
    if not found:
        raise DataError(f"{path}: no images in this folder; give one with files of {', '.join(ENDINGS)}")
    return sorted(found, key=_natural)


def other_files(path: Path) -> list[Path]:
    """Lists what :func:`list_pictures` leaves out of a folder for its ending; not hidden files and subfolders."""
    return sorted((item for item in _files(path) if item.suffix.lower() not in ENDINGS), key=_natural)


def _files(path: Path) -> Iterator[Path]:
    return (item for item in path.iterdir() if item.is_file() and not item.name.startswith("."))


def _natural(path: Path) -> tuple[list[tuple[int, str]], str]:
    parts = re.split(r"(\d+)", path.name.lower())
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts if part], path.name


def set_name(path: Path) -> str:
    """Returns the name of an image set; that of ``Set5/HR`` is Set5."""
    path = path.resolve()
    return path.parent.name if path.name.lower() == "hr" else path.name


def set_names(paths: Sequence[Path]) -> list[str]:
    """Returns :func:`set_name` of each path, each name once: the second has its parent's in front, or a number."""
    found: list[str] = []
    for path in paths:
        name = set_name(path)
        if name in found:
            path = path.resolve()
            path = path.parent if path.name.lower() == "hr" else path
            name = f"{path.parent.name}_{name}"
        number, unnumbered = 1, name
        while name in found:
            number += 1
            name = f"{unnumbered}_{number}"
        found.append(name)
    return found


def load_pictures(
    path: Path | Sequence[Path],
    channels: int,
    *,
    min_size: int = 1,
    progress: bool = False,
    store: Store | None = None,
) -> Loaded:
    """Reads images and drops, with a note, what cannot be learned from.

    Dropped are unreadable files, images with a side below ``min_size``, and exact duplicates.

    Args:
        path: A folder, a file, or several of them.
        channels: C of the result; gray and RGB are converted into each other.
        min_size: Smallest height and width in pixels.
        progress: Shows a bar for more than 50 files.
        store: Keeps the images; a new one by default.

    Raises:
        DataError: A path is missing, or no image is left.
    """
    roots = [path] if isinstance(path, Path) else list(path)
    files = [item for root in roots for item in list_pictures(root)]
    names = _unique_names(files)
    result = Loaded([], [], store=store or Store())
    counts = _Counts()
    seen: dict[str, str] = {}
    for name, item in track(
        list(zip(names, files, strict=True)),
        description="Reading images",
        transient=True,
        disable=not progress or len(files) <= PROGRESS_FROM,
    ):
        image = _read(item, channels, counts)
        if image is None or counts.too_small(name, image, min_size):
            continue
        first = seen.setdefault(content_digest([image]), name)
        if first != name:
            counts.dropped.append(f"{name}: left out, the same pixels as {first}")
            continue
        result.names.append(name)
        result.images.append(result.store.keep(image))
    if not result.images:
        raise DataError(f"{roots[0]}: no usable image; {counts.dropped[0]}")
    result.notes = counts.notes()
    return result


class _Counts:
    """What was dropped or changed while reading."""

    def __init__(self) -> None:
        self.dropped: list[str] = []
        self.alpha = 0
        self.cut = 0
        self.converted: dict[tuple[int, int], int] = {}

    def too_small(self, name: str, image: np.ndarray, min_size: int) -> bool:
        height, width = image.shape[:2]
        small = min(height, width) < min_size
        if small:
            self.dropped.append(
                f"{name}: left out, {width}x{height} pixels are fewer than {min_size} on a side"
            )
        return small

    def notes(self) -> list[str]:
        lines = self.dropped[:SHOWN]
        more = len(self.dropped) - SHOWN
        if more > 0:
            lines.append(f"{more} more left out for such reasons")
        for (have, want), count in sorted(self.converted.items()):
            lines.append(f"{count} read with {have} and turned into {want} channels")
        if self.cut:
            lines.append(f"{self.cut} clean images cut at the bottom and right to multiples of the scale")
        if self.alpha:
            lines.append(f"alpha of {self.alpha} ignored")
        return lines


def _read(path: Path, channels: int, counts: _Counts) -> np.ndarray | None:
    try:
        picture = read_picture(path)
        pixels = match_channels(picture.pixels, channels, str(path))
    except DataError as error:
        counts.dropped.append(f"left out: {error}")
        return None
    counts.alpha += picture.alpha is not None
    have = picture.pixels.shape[2]
    if have != channels:
        counts.converted[have, channels] = counts.converted.get((have, channels), 0) + 1
    return pixels


def _unique_names(files: list[Path]) -> list[str]:
    names = [item.name for item in files]
    if len(set(names)) < len(names):
        names = [f"{item.parent.name}/{item.name}" for item in files]
    # Folders of the same name in two places.
    return names if len(set(names)) == len(names) else [str(item) for item in files]


def load_pairs(
    path: Path,
    channels: int,
    *,
    scale: int = 1,
    min_size: int = 1,
    progress: bool = False,
    store: Store | None = None,
) -> tuple[Loaded, Loaded]:
    """Reads pairs of a degraded and a clean image.

    A pair has one stem in the two subfolders of :data:`PAIR_FOLDERS` (``LR_X2`` and ``babyx2.png`` are known
    for ``scale=2``), or two files in one folder that differ in a word of :data:`PAIR_MARKS` between
    underscores, as PolyU's ``scene_1_real.JPG`` and ``scene_1_mean.JPG``.

    Args:
        path: The folder.
        channels: C of the result.
        scale: Size of the clean image over that of the degraded one; clean images are cut to its multiples.
        min_size: Smallest height and width of a degraded image in pixels.
        progress: Shows a bar for more than 50 pairs.
        store: Keeps the images; a new one by default.

    Returns:
        Degraded and clean images with the same names in the same order. A pair is dropped, with a note on the
        first, when either file is unreadable, it is too small, or the pair was there before.

    Raises:
        DataError: There are no pairs, a file has no partner, or the sizes of a pair do not fit.
    """
    # Its module imports torch, which who only lists files can do without.
    from core.data.images.resize import modcrop

    pairs = _pair_files(path, scale)
    store = store or Store()
    degraded, clean = Loaded([], [], store=store), Loaded([], [], store=store)
    counts = _Counts()
    seen: dict[str, str] = {}
    for name, (low, high) in track(
        list(pairs.items()),
        description="Reading pairs",
        transient=True,
        disable=not progress or len(pairs) <= PROGRESS_FROM,
    ):
        first, second = _read(low, channels, counts), _read(high, channels, counts)
        if first is None or second is None or counts.too_small(name, first, min_size):
            continue
        want = (first.shape[0] * scale, first.shape[1] * scale)
        # Published high-resolution images often are not cut to what their small versions were made from.
        cut = modcrop(second, scale)
        if cut.shape[:2] == want:
            counts.cut += cut.shape != second.shape
            second = np.ascontiguousarray(cut)
        else:
            sizes = f"{second.shape[1]}x{second.shape[0]}, but {low.name} asks for {want[1]}x{want[0]} pixels"
            raise DataError(f"{high}: is {sizes}; give pairs of scale {scale}")
        earlier = seen.setdefault(content_digest([first, second]), name)
        if earlier != name:
            counts.dropped.append(f"{name}: left out, the same pixels as {earlier}")
            continue
        for loaded, image in ((degraded, first), (clean, second)):
            loaded.names.append(name)
            loaded.images.append(store.keep(image))
    if not degraded.images:
        raise DataError(f"{path}: no usable pair; {counts.dropped[0]}")
    degraded.notes = counts.notes()
    return degraded, clean


def _pair_files(path: Path, scale: int) -> dict[str, tuple[Path, Path]]:
    if not path.is_dir():
        raise DataError(f"{path}: there is no such folder")
    folders = {item.name.lower(): item for item in sorted(path.iterdir()) if item.is_dir()}
    for low, high in PAIR_FOLDERS:
        first = folders.get(f"{low}_x{scale}", folders.get(low))
        second = folders.get(high)
        if first and second:
            return _matched(path, _by_stem(first, scale), _by_stem(second, 1))
    known = ", ".join(f"{low}/ and {high}/" for low, high in PAIR_FOLDERS)
    files = [item for item in path.iterdir() if item.suffix.lower() in ENDINGS]
    words = [set(item.stem.lower().split("_")) for item in files]
    for low, high in PAIR_MARKS:
        if any(low in word for word in words) and any(high in word for word in words):
            return _matched(path, _by_mark(files, low, high), _by_mark(files, high, low))
    raise DataError(f"{path}: no pairs; give folders {known}, or files named *_noisy.* and *_clean.*")


def _by_stem(folder: Path, scale: int) -> dict[str, Path]:
    # RCAN and DIV2K mark the low-resolution files by x2, x3 or x4 at the end.
    return {
        re.sub(rf"x{scale}$", "", item.stem) if scale > 1 else item.stem: item
        for item in list_pictures(folder)
    }


def _by_mark(files: list[Path], mark: str, other: str) -> dict[str, Path]:
    found = {}
    for item in files:
        words = item.stem.split("_")
        lower = [word.lower() for word in words]
        # From the right: a scene's own name may hold the word too.
        at = max((i for i, word in enumerate(lower) if word in (mark, other)), default=None)
        if at is None:
            found[item.stem] = item
        elif lower[at] == mark:
            found["_".join(words[:at] + words[at + 1 :])] = item
    return found


def _matched(path: Path, low: dict[str, Path], high: dict[str, Path]) -> dict[str, tuple[Path, Path]]:
    alone = [mapping[key].name for mapping in (low, high) for key in mapping if (key in low) != (key in high)]
    marks = [item.name for key, item in low.items() if high.get(key) == item]
    if alone or marks:
        names = alone + marks
        more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
        raise DataError(f"{path}: without a partner: {', '.join(names[:SHOWN])}{more}; add or remove them")
    return {key: (low[key], high[key]) for key in low}


def content_digest(images: Iterable[np.ndarray]) -> str:
    """Returns the hex SHA-256 over type, shape and bytes of each image, in order."""
    total = hashlib.sha256()
    add_arrays(total, images)
    return total.hexdigest()


def drop_leaks(train: Loaded, test: Loaded) -> list[int]:
    """Removes from ``train``, in place and with a note, the images whose pixels are also in ``test``.

    Returns:
        Positions in the old ``train`` of what was kept, to shorten the other half of a paired set.

    Raises:
        DataError: Nothing is left to train on.
    """
    held_out = {content_digest([image]): name for name, image in zip(test.names, test.images, strict=True)}
    twins = [held_out.get(content_digest([image])) for image in train.images]
    kept = [index for index, twin in enumerate(twins) if twin is None]
    if not kept:
        raise DataError("every training image is also a test image; give other folders")
    lines = [
        f"{train.names[i]}: left out, it is the test image {twin}" for i, twin in enumerate(twins) if twin
    ]
    train.notes += lines[:SHOWN]
    if len(lines) > SHOWN:
        train.notes.append(f"{len(lines) - SHOWN} more left out that are test images")
    train.names = [train.names[i] for i in kept]
    train.images = [train.images[i] for i in kept]
    return kept
