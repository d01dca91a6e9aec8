"""Folders for results."""

from __future__ import annotations

from pathlib import Path

from core.errors import ConfigError


def make_folder(path: Path, option: str) -> Path:
    """Makes a folder for results, before any work is done for it.

    Raises:
        ConfigError: A file stands in its way, or it cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{option} {path} cannot be made a folder: {error.strerror}") from None
    return path
