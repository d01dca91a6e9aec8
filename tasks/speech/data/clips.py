"""Recordings of words in memory, and how they are split."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from core.data.digest import add_arrays
from core.data.split import Fold
from tasks.speech.config import words_of


@dataclass
class Clips:
    """Recordings of one length.

    Attributes:
        names: Paths relative to the folder, ``bed/0a7c2a8d_nohash_0.wav``; those of noise alone are
            ``silence/running_tap.wav@31.2500`` with the second at which they begin.
        waves: ``(M, L)`` int16.
        labels: ``(M,)`` int64, places in the list of classes.
        speakers: Who speaks, ``""`` where that is not known.
        old: ``(M,)`` bool, from the data of the model that is extended.
    """

    names: list[str]
    waves: np.ndarray
    labels: np.ndarray
    speakers: list[str]
    old: np.ndarray

    def wave(self, index: int) -> np.ndarray:
        """Returns a recording ``(L,)``, float32 in [-1, 1)."""
        return as_float(self.waves[index])


@dataclass
class SpeechData:
    """A :class:`core.task.Dataset` of spoken words.

    Attributes:
        name: Short name.
        classes: Names of the classes: silence and unknown where they exist, then words; those of an extended model
            come first.
        rate: Sampling rate, Hz.
        clips: All clips of all folds.
        folds: How they are split.
        noise: Long recordings of noise to train with, float32 in [-1, 1].
        test_noise: Other parts of them, held out.
        notes: What was dropped, changed or assumed.
        extends: Leading classes that an extended model already had.
        made_noise: The noise is made, since there was no recording of any.
    """

    name: str
    classes: list[str]
    rate: int
    clips: Clips
    folds: list[Fold]
    noise: list[np.ndarray]
    test_noise: list[np.ndarray]
    notes: list[str] = field(default_factory=list)
    extends: int = 0
    made_noise: bool = False

    @property
    def size(self) -> int:
        """Number of clips."""
        return len(self.clips.names)

    @property
    def words(self) -> list[str]:
        """Classes that are words."""
        return words_of(self.classes)

    @cached_property
    def digest(self) -> str:
        """Hex SHA-256 of clips, classes, split and noise."""
        total = hashlib.sha256(repr((self.classes, self.rate, self.extends)).encode(errors="surrogateescape"))
        arrays = [self.clips.waves, self.clips.labels, self.clips.old, *self.noise, *self.test_noise]
        for fold in self.folds:
            total.update(fold.name.encode(errors="surrogateescape"))
            arrays += [fold.train, fold.validation, fold.test]
        add_arrays(total, arrays)
        return total.hexdigest()


def as_float(waves: np.ndarray) -> np.ndarray:
    """Returns clips of 16 bit, or of single precision already, in [-1, 1]."""
    return waves.astype(np.float32) / np.float32(32768) if waves.dtype == np.int16 else waves


def share_of(share: float, count: int) -> int:
    """Returns a share of a number, but one at least where there is anything to take a share of."""
    return max(1, round(share * count)) if share and count else 0
