"""Small disks in memory, and folders that cannot be written to. Both are made by mounting, which root may do."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PAGE = 4096


@dataclass(frozen=True)
class Disk:
    """A file system of a given size."""

    folder: Path

    @property
    def used(self) -> int:
        """Bytes that are taken."""
        status = os.statvfs(self.folder)
        return (status.f_blocks - status.f_bfree) * status.f_frsize

    def resize(self, size: int) -> None:
        """Gives it another size in bytes."""
        _mount("-o", f"remount,size={max(size, PAGE)}", str(self.folder))  # 0 would be without a limit

    def fill(self) -> None:
        """Leaves no room on it."""
        for _ in range(100):  # more may be written between the question and the answer
            with contextlib.suppress(subprocess.CalledProcessError):
                return self.resize(self.used)
        raise AssertionError(f"{self.folder} cannot be filled")


def may_mount() -> bool:
    """Whether this process may mount."""
    return os.getuid() == 0 and subprocess.run(["mount", "--version"], capture_output=True).returncode == 0


@contextlib.contextmanager
def small_disk(folder: Path, size: int) -> Iterator[Disk]:
    """A disk of ``size`` bytes at ``folder``, which is made; it is gone afterwards."""
    folder.mkdir(parents=True)
    _mount("-t", "tmpfs", "-o", f"size={max(size, PAGE)}", "tmpfs", str(folder))
    try:
        yield Disk(folder)
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@contextlib.contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Nothing can be written below ``folder``."""
    _mount("--bind", str(folder), str(folder))
    try:
        _mount("-o", "remount,ro,bind", str(folder))
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def _mount(*words: str) -> None:
    subprocess.run(["mount", *words], check=True, capture_output=True)
