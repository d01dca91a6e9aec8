"""Recordings written as Speech Commands has them: folders of words, lists of held-out speakers, background noise."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import soundfile

from core.data.split import name_hash
from core.errors import DataError
from core.train.seeds import derive_seed
from tasks.speech.config import NOISE_FOLDER

RATE = 16000
"""Hz."""
TEST, VALIDATION = 0.2, 0.1
"""Shares of the speakers that the lists name."""
_NOISES = {"white_noise": 0.0, "pink_noise": 1.0, "rumble": 2.0}
"""Noise recordings, and the power of the frequency by which their power falls."""


def random_of(seed: int, *key: str | int) -> np.random.Generator:
    """Returns the generator of one speaker, one clip or one recording: none depends on what was made before."""
    return np.random.Generator(np.random.PCG64(derive_seed(seed, "words", *key)))


def by_hash(speakers: Iterable[str]) -> list[str]:
    """Returns the speakers in the order in which they are held out: for validation first, then to test on."""
    return sorted(set(speakers), key=name_hash)


def write_layout(
    folder: Path, clips: Iterable[tuple[str, str, int, np.ndarray]], seed: int, seconds: float = 20.0
) -> int:
    """Writes recordings of 16 bit and 16 kHz, the lists and the noise.

    Args:
        folder: New or empty folder.
        clips: Word (the name of its folder), speaker (8 hexadecimal digits), number, and samples ``(N,)`` in [-1, 1].
        seed: Seed of the noise.
        seconds: Length of each noise recording, s.

    Returns:
        Number of clips.

    Raises:
        DataError: The folder holds something already, or cannot be written.
    """
    written: list[tuple[str, str]] = []
    try:
        if folder.is_dir() and any(folder.iterdir()):
            raise DataError(f"{folder} is not empty; name a new folder")
        for word, speaker, number, samples in clips:
            name = f"{word}/{speaker}_nohash_{number}.wav"
            _write(folder / name, samples)
            written.append((name, speaker))
        order = by_hash(speaker for _, speaker in written)
        first, last = round(VALIDATION * len(order)), round((VALIDATION + TEST) * len(order))
        for kind, held_out in (("validation", order[:first]), ("testing", order[first:last])):
            names = sorted(name for name, speaker in written if speaker in held_out)
            (folder / f"{kind}_list.txt").write_text("".join(f"{name}\n" for name in names))
        for kind, power in _NOISES.items():
            noise = coloured(round(seconds * RATE), power, random_of(seed, kind))
            _write(folder / NOISE_FOLDER / f"{kind}.wav", 0.1 * noise)
    except OSError as error:
        raise DataError(f"{folder} cannot be written: {error.strerror or error}") from None
    return len(written)


def coloured(length: int, power: float, rng: np.random.Generator) -> np.ndarray:
    """Returns noise ``(length,)`` of standard deviation 1 whose power falls as ``1 / f^power`` from 50 Hz on."""
    spectrum = np.fft.rfft(rng.standard_normal(length, dtype=np.float32))
    noise = np.fft.irfft(spectrum * np.maximum(np.fft.rfftfreq(length, 1 / RATE), 50) ** (-power / 2), length)
    return noise / noise.std()


def _write(path: Path, samples: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    scaled = np.round(np.clip(samples, -1, 1) * 32767).astype(np.int16)
    soundfile.write(os.fsencode(path), scaled, RATE, subtype="PCM_16")
