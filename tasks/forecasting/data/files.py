"""Bytes of a user's file as text: compression, encoding, and what is no text at all."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

from core.errors import DataError


def read_text(path: Path) -> tuple[str, list[str]]:
    """Reads a text file, gzipped or not.

    Args:
        path: The file.

    Returns:
        Its text and notes: an encoding other than UTF-8 is said.

    Raises:
        DataError: The file is missing, empty, a truncated archive or not text.
    """
    if path.is_fifo() or path.is_char_device():
        raise DataError(f"{path}: is a pipe or a device; give a file")
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"{path}: there is no such file; check data.path") from None
    except IsADirectoryError:
        raise DataError(
            f"{path}: this is a folder; data.path must be a file (a folder is read as data.name m4)"
        ) from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check its permissions") from None
    if content[:2] == b"\x1f\x8b":
        try:
            content = gzip.decompress(content)
        except (EOFError, OSError, zlib.error):
            raise DataError(f"{path}: the gzip file is truncated or damaged; copy it again") from None
    if not content.strip():
        raise DataError(f"{path}: the file is empty")
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        encoding = "utf-16"
    else:
        encoding = "utf-8-sig"
        if b"\0" in content[:65536]:
            raise DataError(
                f"{path}: this is a binary file, not text; data.path takes .csv, .jsonl (each also "
                "as .gz) and .parquet files"
            )
    try:
        return content.decode(encoding), []
    except UnicodeDecodeError:
        return content.decode("cp1252", errors="replace"), [
            f"{path.name}: the file is not UTF-8; it was read as Windows-1252"
        ]
