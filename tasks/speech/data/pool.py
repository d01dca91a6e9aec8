"""Folders of recordings to clips of one length, with everything that was wrong told."""

from __future__ import annotations

import hashlib
import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track

from core.data.cache import Store
from core.data.split import group_of
from core.data.tally import Tally
from core.errors import DataError
from tasks.speech.config import DataConfig
from tasks.speech.data.audio import fit, printable, read_recording
from tasks.speech.data.folders import FileList, find_recordings, key_of, speaker_of

LONGEST = 4
"""Files longer than so many clips hold more than a word."""
PROGRESS_FROM = 500
"""Number of files above which a progress bar is worth its line."""


@dataclass
class Pool:
    """Recordings of one folder, or of several.

    Attributes:
        path: The folder, for messages.
        names: Paths relative to it.
        words: Word of each.
        speakers: Speaker of each, ``""`` where that is not known.
        store: What keeps the waves.
        waves: ``(M, L)`` int16.
        contents: Hash of each wave.
        lists: Lists of held-out files.
        noise: Long recordings of noise.
        notes: What was dropped, changed or assumed.
    """

    path: str
    store: Store
    names: list[str] = field(default_factory=list)
    words: list[str] = field(default_factory=list)
    speakers: list[str] = field(default_factory=list)
    waves: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), np.int16))
    contents: list[bytes] = field(default_factory=list)
    lists: dict[str, FileList] = field(default_factory=dict)
    noise: list[Path] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def groups(self) -> list[str]:
        """Speaker of each recording; one whose speaker is not known is its own."""
        return [speaker or name for speaker, name in zip(self.speakers, self.names, strict=True)]

    @property
    def keys(self) -> list[str]:
        """What lists call each recording."""
        return [key_of(name, word) for name, word in zip(self.names, self.words, strict=True)]


def read_pool(path: str, config: DataConfig, store: Store) -> Pool:
    """Reads all recordings of a folder.

    Args:
        path: The folder.
        config: Rate, duration and pattern of the speakers.
        store: Keeps the recordings.

    Raises:
        DataError: There is no usable recording.
        ConfigError: The pattern of the speakers is wrong or finds nothing in a name.
    """
    folder = find_recordings(Path(path))
    length = round(config.rate * config.duration)
    # Pages of the array that are never written take no memory.
    waves = store.empty((len(folder.files), length), np.int16)
    pool = Pool(path, store, lists=folder.lists, noise=folder.noise, notes=folder.notes)
    dropped, changed, cut = Tally(), Tally(), 0
    for stored, word in track(
        folder.files,
        description="Reading recordings",
        transient=True,
        console=Console(stderr=True),
        disable=len(folder.files) <= PROGRESS_FROM or not sys.stderr.isatty(),
    ):
        file, name = folder.root / stored, printable(stored)
        try:
            recording = read_recording(file, config.rate, LONGEST * config.duration)
        except DataError as error:
            dropped.add(name, str(error).removeprefix(f"{printable(file)}: "))
            continue
        wave = waves[len(pool.names)]
        wave[:] = to_int16(fit(recording.samples, length))
        if not wave.any():
            dropped.add(name, "is silent, all its samples are zero")
            continue
        for note in recording.notes:
            changed.add(name, note)
        cut += len(recording.samples) > length
        pool.names.append(name)
        pool.words.append(word)
        pool.speakers.append(
            group_of(name.rpartition("/")[2], config.speaker, "--data.speaker") or ""
            if config.speaker
            else speaker_of(name, word)
        )
        pool.contents.append(hashlib.blake2b(wave.data, digest_size=16).digest())
    if not pool.names:
        raise DataError(f"{path}: no usable recording; {dropped.notes('left out, since it ')[0]}")
    pool.waves = waves
    resize(pool, len(pool.names))
    pool.notes += [*dropped.notes("left out, since it "), *changed.notes()]
    if cut:
        pool.notes.append(
            f"{cut} longer than --data.duration {config.duration:g} s, of which the loudest part is taken"
        )
    _note_speakers(pool)
    return pool


def to_int16(samples: np.ndarray) -> np.ndarray:
    """Maps samples in [-1, 1] to 16 bit; full scale is 32768, and 1 becomes the largest number below."""
    return np.clip(np.rint(samples * np.float32(32768)), -32768, 32767).astype(np.int16)


def resize(pool: Pool, count: int) -> None:
    """Changes the number of waves where they are: full Speech Commands has 3.4 GB, and a copy would take twice that."""
    pool.waves = pool.store.resized(pool.waves, count)


def append(pool: Pool, other: Pool) -> None:
    """Adds the recordings of another pool at the end."""
    count = len(pool.names)
    resize(pool, count + len(other.names))
    pool.waves[count:] = other.waves
    pool.names += other.names
    pool.words += other.words
    pool.speakers += other.speakers
    pool.contents += other.contents


def select(pool: Pool, keep: np.ndarray) -> None:
    """Keeps the recordings at these positions, which grow, where they are."""
    for place, index in enumerate(keep):
        if place != index:
            pool.waves[place] = pool.waves[index]
    resize(pool, len(keep))
    for values in (pool.names, pool.words, pool.speakers, pool.contents):
        values[:] = [values[i] for i in keep]


def _note_speakers(pool: Pool) -> None:
    unnamed = [name for name, speaker in zip(pool.names, pool.speakers, strict=True) if not speaker]
    if unnamed:
        which = (
            "no file"
            if len(unnamed) == len(pool.names)
            else f"{len(unnamed)} files, such as {unnamed[0]}, do not"
        )
        verb = "names its speaker" if which == "no file" else "name their speaker"
        pool.notes.append(
            f"{which} {verb}: each counts as a speaker of its own; --data.speaker tells who speaks"
        )
