"""Ways in which a folder goes bad."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path


def files_below(folder: Path) -> list[Path]:
    """The files below a folder, in an order that does not change."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _copied(folder: Path, rng: random.Random) -> Path:
    path = rng.choice(files_below(folder))
    other = rng.choice(files_below(folder))
    if other != path:
        shutil.copy(path, other)
    return other


def _swapped(folder: Path, rng: random.Random) -> Path:
    path = rng.choice(files_below(folder))
    path.rename(path.with_name(f"{path.stem}_new{path.suffix}"))
    return path


def _ending(folder: Path, rng: random.Random) -> Path:
    path = rng.choice(files_below(folder))
    path.rename(path.with_suffix(rng.choice([".dat", ".PNG", ".txt", "", ".nii", ".csv"])))
    return path


def _emptied(folder: Path, rng: random.Random) -> Path:
    path = rng.choice(files_below(folder)).parent
    for file in files_below(path):
        file.unlink()
    return path


def _removed(folder: Path, rng: random.Random) -> Path:
    path = rng.choice(files_below(folder)).parent
    if path == folder:
        _emptied(folder, rng)
    else:
        shutil.rmtree(path)
    return path


def _looped(folder: Path, rng: random.Random) -> Path:
    path = rng.choice(files_below(folder)).parent / "loop"
    os.symlink(folder.absolute(), path)
    return path


def _strange(folder: Path, rng: random.Random) -> Path:
    path = rng.choice(files_below(folder))
    name = rng.choice(
        ["a b", "é\u0301", "x" * 200, "-rf", "#1", "a%20b", "q'u\"o", "new\nline", "\x1b[31mred"]
    )
    return path.rename(path.with_name(name + path.suffix))


def _hidden(folder: Path, rng: random.Random) -> Path:
    path = rng.choice(files_below(folder)).parent / "._junk.png"
    path.write_bytes(b"\x00\x05\x16\x07")
    return path


FOLDER: dict[str, Callable[[Path, random.Random], Path]] = {
    "a file copied over another": _copied,
    "a file renamed": _swapped,
    "a file with another ending": _ending,
    "a folder emptied": _emptied,
    "a folder missing": _removed,
    "a loop of links": _looped,
    "a strange file name": _strange,
    "a file of another system": _hidden,
}
