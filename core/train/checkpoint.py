"""Checkpoints that survive a kill at any moment.

A file holds tensors and primitives only, so ``weights_only=True`` loads it. It is written beside its final
place, flushed to disk and renamed; the one before is kept as ``previous.pt``.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from core.errors import TrainingError

LAST = "last.pt"
PREVIOUS = "previous.pt"


def save_atomic(state: dict[str, Any], path: Path) -> None:
    """Writes ``state`` so that ``path`` is at every moment either the old or the new file, never a part."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with open(temporary, "wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def save_checkpoint(state: dict[str, Any], folder: Path) -> None:
    """Writes ``last.pt`` into ``folder`` and keeps the former one as ``previous.pt``."""
    folder.mkdir(parents=True, exist_ok=True)
    last = folder / LAST
    if last.exists():
        # A hard link keeps `last.pt` in place until the new file replaces it.
        link = folder / f".{PREVIOUS}.{os.getpid()}.tmp"
        link.unlink(missing_ok=True)
        os.link(last, link)
        os.replace(link, folder / PREVIOUS)
    save_atomic(state, last)


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
            reason = f"{path}: {type(error).__name__}"
    if found:
        raise TrainingError(f"no readable checkpoint in {folder} ({reason}); delete that folder to start again")
    return None
