"""Background noise: recordings of it, what is held out of them, and clips of silence."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from core.data.cache import Store
from core.data.tally import Tally
from core.errors import DataError
from tasks.speech.config import SILENCE
from tasks.speech.data.audio import printable, read_recording
from tasks.speech.data.folders import list_audio
from tasks.speech.data.layout import coloured
from tasks.speech.data.pool import to_int16
from tasks.speech.data.splits import VALIDATION

TRAINED = 0.8
"""Share of each recording, from its start, that is trained with."""


@dataclass
class Noise:
    """Recordings of noise, each in two parts.

    Attributes:
        names: File names.
        train: First parts, float32.
        held: Last parts, float32.
        made: They are no recordings.
        notes: What was left out.
    """

    names: list[str] = field(default_factory=list)
    train: list[np.ndarray] = field(default_factory=list)
    held: list[np.ndarray] = field(default_factory=list)
    made: bool = False
    notes: list[str] = field(default_factory=list)

    def add(self, name: str, samples: np.ndarray) -> None:
        """Adds a recording ``(N,)``."""
        cut = max(1, round(TRAINED * len(samples)))
        self.names.append(name)
        self.train.append(samples[:cut])
        self.held.append(samples[cut:] if cut < len(samples) else samples)


def find_noise(path: str) -> list[Path]:
    """Lists the recordings of a folder of noise.

    Raises:
        DataError: There are none.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise DataError(f"--data.noise_path {path}: there is no such folder")
    names, _ = list_audio(folder)
    if not names:
        raise DataError(
            f"--data.noise_path {path}: no recordings in this folder; give long WAV or FLAC files"
        )
    return [folder / name for name in names]


def read_noise(paths: list[Path], rate: int, store: Store) -> Noise:
    """Reads recordings of noise, which the store keeps, and makes some if there are none that can be used."""
    noise, dropped, seen = Noise(), Tally(), set[bytes]()
    for path in paths:
        name = printable(path.name)
        try:
            samples = read_recording(path, rate).samples
        except DataError as error:
            dropped.add(name, str(error).removeprefix(f"{printable(path)}: "))
            continue
        content = hashlib.sha256(samples.data).digest()
        if not samples.any():
            dropped.add(name, "is silent, all its samples are zero")
        elif content not in seen:  # an extended model may bring the same noise
            seen.add(content)
            noise.add(name, store.keep(samples))
    noise.notes = dropped.notes("left out of the noise, since it ")
    if not noise.names:
        noise.made = True
        for seed, (name, power) in enumerate((("white", 0.0), ("pink", 1.0))):
            made = 0.1 * coloured(10 * rate, power, np.random.default_rng(seed))
            noise.add(name, np.clip(made, -1, 1).astype(np.float32))
    return noise


def silence_clips(
    noise: Noise, rate: int, length: int, count: int, part: int, fold: int
) -> list[tuple[str, np.ndarray]]:
    """Cuts clips without a word out of the held-out noise, always the same.

    Validation and test have halves of their own, where these are as long as a clip.

    Args:
        noise: Where they are cut from, in turn.
        rate: Sampling rate, Hz.
        length: Samples of a clip; a shorter recording is repeated.
        count: Clips.
        part: For validation or test.
        fold: Number of the fold.

    Returns:
        Name and samples, int16 ``(length,)``, of each.
    """
    rng = np.random.default_rng([part, fold])
    clips = []
    for number in range(count):
        at = number % len(noise.names)
        samples, start = noise.held[at], 0
        half = len(samples) // 2
        if half >= length:
            start = 0 if part == VALIDATION else half
            samples = samples[:half] if part == VALIDATION else samples[half:]
        elif len(samples) < length:
            samples = np.resize(samples, length)
        offset = int(rng.integers(len(samples) - length + 1))
        seconds = (len(noise.train[at]) + start + offset) / rate
        name = f"{SILENCE}/{noise.names[at]}@{seconds:.4f}"
        clips.append((name, to_int16(samples[offset : offset + length])))
    return clips
