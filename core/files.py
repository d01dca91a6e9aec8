"""Folders for results, files that are one, and files as text."""

from __future__ import annotations

import base64
import binascii
import json
import os
import shutil
import tempfile
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from core.errors import ConfigError, DataError

SHOWN = 5
"""Files that are left out and named."""


class MadeFolder:
    """A temporary folder that is removed when nothing holds this object any more, and not by processes forked off."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="skipway-"))
        weakref.finalize(self, _remove, self.path, os.getpid())


def _remove(path: Path, owner: int) -> None:
    if os.getpid() == owner:
        shutil.rmtree(path, ignore_errors=True)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Gives an ``OSError`` that names no file, as that of a full disk, the name of the one that is written."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise


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


def is_new(folder: Path) -> bool:
    """Whether a folder is free for new files: it does not exist, or is empty."""
    return not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))


def identity(path: Path) -> tuple[int, int]:
    """Returns what two names of one file have in common, also through links, which would be written through."""
    status = path.stat()
    return status.st_dev, status.st_ino


def tell_left_out(names: Sequence[str], shown: int = SHOWN) -> None:
    """Prints which files of a folder are left out for their endings, if there are any."""
    if names:
        what = "1 file with another ending" if len(names) == 1 else f"{len(names)} files with other endings"
        print(f"{what} left out: {', '.join(names[:shown])}{', ...' if len(names) > shown else ''}")


def load_json(text: str | bytes) -> Any:
    """Returns the content of JSON text.

    Raises:
        json.JSONDecodeError: It is none, or one of thousands of brackets in each other.
        UnicodeDecodeError: The bytes are no text.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise json.JSONDecodeError("nested too deeply", "", 0) from None


def from_base64(text: Any, column: str, what: str = "a file") -> bytes:
    """Returns the content of a file that a request holds as base64 text.

    Args:
        text: What stands in the request.
        column: Where, for the message.
        what: What is expected, for the message.

    Raises:
        DataError: It is no such text.
    """
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, TypeError, ValueError):
        raise DataError(f"{column} is not base64 text of {what}") from None
