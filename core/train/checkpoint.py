"""Checkpoints that survive a kill at any moment.

A file holds tensors and primitives only, so ``weights_only=True`` loads it. It is written beside its final
place, flushed to disk and renamed; the one before is kept as ``previous.pt``. One process writes to a folder.
"""

from __future__ import annotations

import os
import sys
import zipfile
from pathlib import Path
from typing import Any

import torch

from core.errors import TrainingError
from core.files import naming

LAST = "last.pt"
PREVIOUS = "previous.pt"


def save_checkpoint(state: dict[str, Any], folder: Path) -> None:
    """Writes ``last.pt`` into ``folder`` and keeps the former one as ``previous.pt``.

    A kill leaves the old pair, the new pair, or ``previous.pt`` alone, which is then the newest whole file.

    Raises:
        OSError: It cannot be written, as on a full disk; the old pair stays.
    """
    folder.mkdir(parents=True, exist_ok=True)
    last = folder / LAST
    # A fixed name: what a kill leaves of it is overwritten by the next checkpoint.
    temporary = folder / f".{LAST}.tmp"
    with naming(last), open(temporary, "wb") as file:
        try:
            torch.save(state, file)
        except (
            RuntimeError
        ) as error:  # torch's writer covers the reason, such as a full disk, with its own words
            raise (error.__context__ if isinstance(error.__context__, OSError) else error) from None
        file.flush()
        os.fsync(file.fileno())
    if last.exists():
        os.replace(last, folder / PREVIOUS)
    os.replace(temporary, last)
    directory = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(directory)  # makes the new names last through a power cut
    finally:
        os.close(directory)


def load_checkpoint(folder: Path) -> dict[str, Any] | None:
    """Returns the newest readable checkpoint of ``folder``, or ``None`` when there is none.

    Raises:
        TrainingError: Files exist, and none of them can be read.
    """
    found = [path for path in (folder / LAST, folder / PREVIOUS) if path.exists()]
    damaged: list[Path] = []
    for path in found:
        try:
            state = _load(path)
        except Exception as error:  # torch raises many types for a damaged file
            damaged.append(path)
            print(f"warning: {path} is damaged ({type(error).__name__})", file=sys.stderr)
            continue
        for former in damaged:  # the next checkpoint must not put it in the place of the good one
            former.unlink(missing_ok=True)
        return state
    if found:
        raise TrainingError(
            f"no readable checkpoint in {folder}; delete that folder to start this part again"
        )
    return None


def _load(path: Path) -> dict[str, Any]:
    with zipfile.ZipFile(path) as archive:
        if (name := archive.testzip()) is not None:  # torch.load reads a flipped bit as another weight
            raise ValueError(f"the checksum of {name} is wrong")
    state = torch.load(path, map_location="cpu", weights_only=True)
    if "step" not in state:
        raise ValueError("no state of a training")
    return state
