"""Checkpoints that survive a kill at any moment.

A file holds tensors and primitives only, so ``weights_only=True`` loads it. It is written beside its final
place, flushed to disk and renamed; the one before is kept as ``previous.pt``. One process writes to a folder.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import torch

from core.errors import TrainingError

LAST = "last.pt"
PREVIOUS = "previous.pt"


def save_checkpoint(state: dict[str, Any], folder: Path) -> None:
    """Writes ``last.pt`` into ``folder`` and keeps the former one as ``previous.pt``.

    A kill leaves the old pair, the new pair, or ``previous.pt`` alone, which is then the newest whole file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    last = folder / LAST
    # A fixed name: what a kill leaves of it is overwritten by the next checkpoint.
    temporary = folder / f".{LAST}.tmp"
    with open(temporary, "wb") as file:
        torch.save(state, file)
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
    for path in found:
        try:
            return torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # torch raises many types for a damaged file
            print(f"warning: {path} is damaged ({type(error).__name__})", file=sys.stderr)
    if found:
        raise TrainingError(
            f"no readable checkpoint in {folder}; delete that folder to start this part again"
        )
    return None
