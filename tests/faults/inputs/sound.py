"""Whether a file that a command wrote is whole."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np


def unsound(path: Path) -> str | None:
    """Says what is wrong with a result, or nothing."""
    check = CHECKS.get(path.suffix.lower())
    if path.stat().st_size == 0:
        return "is empty"
    try:
        return check(path) if check else None
    except Exception as error:
        return f"cannot be read: {' '.join(str(error).split())[:100]}"


def _table(path: Path) -> str | None:
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    if len(rows) < 2:
        return "has no row"
    if len({len(row) for row in rows}) > 1:
        return "has rows of unequal lengths"
    return None


def _numbers(values: np.ndarray) -> str | None:
    if values.size == 0:
        return "holds nothing"
    return None if np.isfinite(values).all() else "holds values that are not finite"


def _array(path: Path) -> str | None:
    return _numbers(np.load(path, allow_pickle=False))


def _picture(path: Path) -> str | None:
    from PIL import Image

    with Image.open(path) as image:
        image.load()
    return None


def _volume(path: Path) -> str | None:
    import nibabel

    return _numbers(np.asarray(nibabel.load(path).dataobj)) if ".nii" in path.name else None


def _refuse(name: str) -> float:
    raise ValueError(f"{name} is no JSON")


def _json(path: Path) -> str | None:
    json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse)
    return None


def _lines(path: Path) -> str | None:
    for line in path.read_text(encoding="utf-8").splitlines():
        json.loads(line, parse_constant=_refuse)
    return None


CHECKS = {
    ".csv": _table,
    ".npy": _array,
    ".png": _picture,
    ".jpg": _picture,
    ".tif": _picture,
    ".gz": _volume,
    ".nii": _volume,
    ".json": _json,
    ".jsonl": _lines,
}
