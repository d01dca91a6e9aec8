"""One limit for what loaders keep: arrays stay in memory up to it, and beyond it lie in files that are mapped."""

from __future__ import annotations

import math
import mmap
import os
import tempfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import numpy.typing as npt
import psutil

from core.errors import ConfigError, DataError

LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
"""Where a container says how much memory it may take, bytes; the machine has more."""
SHARE = 0.25
"""Of the machine's memory that loaded data may take by default, in all processes of a training together."""
FILE = 1 << 26
"""Bytes of a file for small arrays: systems limit how many files a process may map."""
ALIGNED = 64


class Store:
    """Keeps loaded arrays: in memory up to a limit, the others in files that are mapped into memory.

    Values are the same wherever they lie. Pages of a mapped file are the system's to take back when memory is short.
    The files are in ``$SKIPWAY_CACHE`` or ``~/.cache/skipway`` and have no names, so that nothing is left of them
    however the process ends. Loader processes that are forked off share all arrays.

    Args:
        gigabytes: ``--data.memory``, GB (10^9 bytes); by default a quarter of the machine's memory.

    Raises:
        ConfigError: The limit is below 0.
    """

    def __init__(self, gigabytes: float | None = None) -> None:
        if gigabytes is not None and not gigabytes >= 0:
            raise ConfigError(f"--data.memory {gigabytes} must be 0 or more")
        # Its module imports torch, which who only lists files can do without.
        from core.train.distributed import environment_world

        own = machine_memory() * SHARE / environment_world().size
        self.limit = int(own if gigabytes is None else gigabytes * 1e9)
        self.held, self.mapped = 0, 0
        self._file: mmap.mmap | None = None
        self._end = 0

    def keep(self, array: np.ndarray) -> np.ndarray:
        """Returns an array that is kept: the given one, or an equal one in a file.

        Raises:
            DataError: The disk is full or cannot be written.
        """
        if self._fits(array.nbytes):
            return array
        kept = self._map(array.shape, array.dtype)
        kept[...] = array
        return kept

    def empty(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> np.ndarray:
        """Returns an array to be filled.

        Raises:
            DataError: The disk is full or cannot be written.
        """
        kind = np.dtype(dtype)
        return np.empty(shape, kind) if self._fits(_bytes(shape, kind)) else self._map(shape, kind)

    def resized(self, array: np.ndarray, count: int) -> np.ndarray:
        """Returns an array of :meth:`empty` with another number of rows, without a second copy in memory.

        Nothing else may look at the array.

        Raises:
            DataError: The disk is full or cannot be written.
        """
        shape, more = (count, *array.shape[1:]), count - len(array)
        if array.flags.owndata and (more <= 0 or self._fits(_bytes((more, *shape[1:]), array.dtype))):
            array.resize(shape, refcheck=False)
            return array
        if more <= 0:
            return array[:count]
        larger = self._map(shape, array.dtype)
        larger[: len(array)] = array
        return larger

    def notes(self) -> list[str]:
        """Returns a line for the user where the limit was reached."""
        if not self.mapped:
            return []
        return [
            f"{self.mapped / 1e9:.3g} GB of the data lie in a file in {cache_home()}, which is slower: they are more "
            f"than {self.limit / 1e9:.3g} GB, see --data.memory"
        ]

    def _fits(self, size: int) -> bool:
        fits = self.held + size <= self.limit
        self.held += size if fits else 0
        return fits

    def _map(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        size = -(-_bytes(shape, dtype) // ALIGNED) * ALIGNED
        if self._file is None or self._end + size > len(self._file):
            self._file, self._end = _new_file(max(size, FILE)), 0
        array = np.frombuffer(self._file, dtype, math.prod(shape), self._end).reshape(shape)
        self._end += size
        self.mapped += size
        return array


def machine_memory() -> int:
    """Returns the memory that there is to use, bytes."""
    least = psutil.virtual_memory().total
    for file in LIMITS:
        with suppress(OSError, ValueError):  # without a limit it says max
            least = min(least, int(Path(file).read_text()))
    return least


def cache_home() -> Path:
    """Returns the folder for files that can be made again: ``$SKIPWAY_CACHE`` or ``~/.cache/skipway``."""
    return Path(os.environ.get("SKIPWAY_CACHE") or Path.home() / ".cache" / "skipway")


def _bytes(shape: tuple[int, ...], dtype: np.dtype) -> int:
    return math.prod(shape) * dtype.itemsize


def _new_file(size: int) -> mmap.mmap:
    folder = cache_home()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            # A disk that is full is an error here; with pages that are written later it would be a signal.
            os.posix_fallocate(file.fileno(), 0, size)
            return mmap.mmap(file.fileno(), size)
    except OSError as error:
        raise DataError(
            f"{folder}: no file of {size / 1e9:.3g} GB for data beyond --data.memory ({error.strerror}); name another "
            "folder by SKIPWAY_CACHE, or raise --data.memory"
        ) from None
