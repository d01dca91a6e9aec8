"""What a damage is, and damages of any file."""

from __future__ import annotations

import io
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np

Damage = Callable[[Path, random.Random], None]
"""Makes a good file bad; all random choices come from the generator that is given."""


def _cut(path: Path, rng: random.Random) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: rng.randrange(1, max(len(content), 2))])


def _empty(path: Path, rng: random.Random) -> None:
    path.write_bytes(b"")


def _flip(first: float, last: float, count: int) -> Damage:
    def flip(path: Path, rng: random.Random) -> None:
        content = bytearray(path.read_bytes())
        for _ in range(count):
            place = int(len(content) * rng.uniform(first, last))
            content[min(place, len(content) - 1)] ^= 1 << rng.randrange(8)
        path.write_bytes(content)

    return flip


def _head(path: Path, rng: random.Random) -> None:
    content = bytearray(path.read_bytes())
    for _ in range(3):
        content[rng.randrange(min(64, len(content)))] = rng.randrange(256)
    path.write_bytes(content)


def _longer(path: Path, rng: random.Random) -> None:
    path.write_bytes(path.read_bytes() + rng.randbytes(rng.randrange(1, 500)))


def _zeros(path: Path, rng: random.Random) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def _page(path: Path, rng: random.Random) -> None:
    path.write_text("<!DOCTYPE html><html><body>404 not found</body></html>\n")


def _noise(path: Path, rng: random.Random) -> None:
    path.write_bytes(rng.randbytes(400))


def _folder(path: Path, rng: random.Random) -> None:
    path.unlink()
    path.mkdir()


def _gone(path: Path, rng: random.Random) -> None:
    path.unlink()


def _dangling(path: Path, rng: random.Random) -> None:
    path.unlink()
    path.symlink_to("nowhere")


def _circle(path: Path, rng: random.Random) -> None:
    path.unlink()
    path.symlink_to(path.name)


def _other(path: Path, rng: random.Random) -> None:
    buffer = io.BytesIO()
    np.save(buffer, np.arange(6.0))
    path.write_bytes(buffer.getvalue())


BYTES: dict[str, Damage] = {
    "cut off": _cut,
    "empty": _empty,
    "a bit of the header flipped": _flip(0, 0.05, 1),
    "bits of the body flipped": _flip(0.1, 1, 8),
    "header overwritten": _head,
    "bytes after its end": _longer,
    "zeros": _zeros,
    "a page of a web server": _page,
    "random bytes": _noise,
    "a folder in its place": _folder,
    "missing": _gone,
    "a link to nothing": _dangling,
    "a link to itself": _circle,
    "an array in its place": _other,
}
