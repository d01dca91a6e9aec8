"""What an epoch of training clips is made of, see :class:`core.data.loader.Samples`."""

from __future__ import annotations

import copy
import math
import mmap
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from core.data.cache import machine_memory
from core.errors import DataError
from core.train.distributed import environment_world
from core.train.seeds import derive_seed
from tasks.speech.config import SILENCE, UNKNOWN, DataConfig
from tasks.speech.data.augment import (
    add_noise,
    apply_masks,
    change_speed,
    check_augment,
    check_masks,
    crop,
    draw_masks,
    equalise,
    shift,
)
from tasks.speech.data.clips import share_of
from tasks.speech.frontend import FrontEnd

if TYPE_CHECKING:
    from core.data.split import Fold
    from tasks.speech.data.clips import SpeechData

_SEED = 0
"""Of the variants that are kept: they belong to the data, not to a run."""


class KeywordSamples:
    """Clips of the words, and in proportion to them recordings of other words and of noise.

    An epoch has every clip of the words once, draws of other words (the unknown class) and draws of noise (silence).
    Half of the silences are as quiet as the noise that is added to words (arXiv:1710.10361), half may be as loud as
    the recordings, as in the code that came with Speech Commands: a detector hears both.

    Args:
        data: Recordings and classes.
        fold: Which of them are learned from.
        config: Proportions and augmentation.
        front: Front end; a copy is used.
        balance: With ``samples``, every sample is of a class drawn uniformly; the length of an epoch stays.
        workers: Loader processes; they share the features that are kept.

    Attributes:
        variants: Versions of each clip whose features are kept; 0 if clips are returned as waveforms.
        class_counts: Expected samples of each class in an epoch, float64 ``(C,)``.
        note: What was decided and the user should know, one line, or empty.

    Raises:
        ConfigError: Options of the augmentation are wrong.
        DataError: There are no words to learn.
    """

    def __init__(
        self,
        data: SpeechData,
        fold: Fold,
        config: DataConfig,
        front: FrontEnd,
        balance: str,
        workers: int = 0,
    ) -> None:
        check_augment(config)
        self.data, self.config, self.balanced = data, config, balance == "samples"
        # The learner's may move to an accelerator.
        self.front = copy.deepcopy(front)
        self.length = data.clips.waves.shape[1]
        self.frames = front.frames(self.length)
        check_masks(config, self.frames, front.size)
        self.masked = config.masks > 0 and config.mel_masks + config.time_masks > 0
        labels = data.clips.labels[fold.train]
        silence, unknown = (data.classes.index(c) if c in data.classes else -1 for c in (SILENCE, UNKNOWN))
        self.silence = silence
        others = fold.train[labels == unknown] if config.unknown else fold.train[:0]
        words = fold.train[(labels != unknown) & (labels != silence)]
        if not len(words):
            raise DataError(f"fold {fold.name} has no recordings of the words to learn from")
        self.words = len(words)
        # A class that is asked for has one sample at least.
        self.unknown_draws = share_of(config.unknown, self.words) if len(others) else 0
        self.silence_draws = share_of(config.silence, self.words) if silence >= 0 else 0
        # Rows: clips of the words, clips of other words, then silences, whose numbers are negative.
        self.rows = np.concatenate([words, others, -1 - np.arange(self.silence_draws)])
        self.labels = np.where(self.rows < 0, silence, data.clips.labels[self.rows])
        self.others = len(others)
        self.by_class = [
            rows for c in range(len(data.classes)) if len(rows := np.flatnonzero(self.labels == c))
        ]
        self.class_counts = self._class_counts()
        shape = (len(self.rows), self.frames, front.size)
        self.variants, self.note = _affordable(config.variants, shape, len(data.folds))
        # Zeros that are never written take no memory; filled says which features are there.
        self.features = _zeros((shape[0], self.variants, *shape[1:]), torch.float32, workers > 0)
        self.filled = _zeros((shape[0], self.variants), torch.bool, workers > 0)

    def __len__(self) -> int:
        return self.words + self.unknown_draws + self.silence_draws

    def draw(self, index: int, rng: np.random.Generator) -> dict[str, Any]:
        """Returns a sample.

        Returns:
            ``label`` and ``ids`` (name of the clip), and either ``features``, float32 ``(T, F)``, or with 0 variants
            ``wave``, float32 ``(L,)``, with ``mel_masks`` and ``time_masks`` for :func:`apply_masks` where there are
            masks.
        """
        row = self._row(index, rng)
        clip = int(self.rows[row])
        sample: dict[str, Any] = {
            "label": int(self.labels[row]),
            "ids": self.data.clips.names[clip] if clip >= 0 else SILENCE,
        }
        if not self.variants:
            sample["wave"] = torch.from_numpy(self._augmented(clip, rng))
            return sample | (self._masks(rng) if self.masked else {})
        features = self._features(row, int(rng.integers(self.variants)))
        if self.masked:
            masks = {name: mask[None] for name, mask in self._masks(rng).items()}
            sample["features"] = apply_masks(features[None], **masks)[0]
        else:
            sample["features"] = features.clone()
        return sample

    def _class_counts(self) -> np.ndarray:
        if self.balanced:
            present = np.bincount(
                [self.labels[rows[0]] for rows in self.by_class], minlength=len(self.data.classes)
            )
            return len(self) * present / present.sum()
        counts = np.bincount(self.labels[: self.words], minlength=len(self.data.classes)).astype(np.float64)
        if self.others:
            counts[self.labels[self.words]] = self.unknown_draws
        if self.silence_draws:
            counts[self.silence] = self.silence_draws
        return counts

    def _row(self, index: int, rng: np.random.Generator) -> int:
        if self.balanced:
            rows = self.by_class[int(rng.integers(len(self.by_class)))]
            return int(rows[int(rng.integers(len(rows)))])
        if index < self.words:
            return index
        if index < self.words + self.unknown_draws:
            return self.words + int(rng.integers(self.others))
        return index - self.unknown_draws + self.others

    def _features(self, row: int, variant: int) -> Tensor:
        """Features ``(T, F)`` of one version of a clip, a view of what is kept."""
        kept = self.features[row, variant]
        if not self.filled[row, variant]:
            # Of clip and variant alone: whoever computes them first, they are the same.
            clip = int(self.rows[row])
            rng = np.random.Generator(np.random.PCG64(derive_seed(_SEED, "variant", clip, variant)))
            with torch.no_grad():
                kept.copy_(self.front(torch.from_numpy(self._augmented(clip, rng))[None])[0])
            self.filled[row, variant] = True
        return kept

    def _augmented(self, clip: int, rng: np.random.Generator) -> np.ndarray:
        """A new version ``(L,)`` of a clip, float32; of a silence if the number is negative."""
        noise, volume = self.data.noise, self.config.volume
        if clip < 0:
            loud = np.float32(rng.uniform() if rng.random() < 0.5 else 0)
            return add_noise(loud * crop(noise, self.length, rng), noise, volume, rng)
        wave = self.data.clips.wave(clip)
        if self.config.speed:
            wave = change_speed(wave, self.config.speed, rng)
        if self.config.equaliser:
            wave = equalise(wave, self.config.equaliser, rng)
        wave = shift(wave, round(self.config.shift * self.data.rate), rng)
        return add_noise(wave, noise, volume, rng) if rng.random() < self.config.noise else wave

    def _masks(self, rng: np.random.Generator) -> dict[str, Tensor]:
        axes = {
            "mel_masks": (self.config.mel_masks, self.front.size),
            "time_masks": (self.config.time_masks, self.frames),
        }
        return {
            name: torch.from_numpy(draw_masks(self.config.masks, widest, size, rng))
            for name, (widest, size) in axes.items()
        }


def _affordable(variants: int, shape: tuple[int, int, int], folds: int) -> tuple[int, str]:
    """Returns how many versions fit into a quarter of the memory, and a note if it is fewer than asked for.

    Args:
        variants: Versions that are asked for.
        shape: Clips, frames and features.
        folds: All of them keep features at once.
    """
    processes = environment_world().size  # each keeps features of its own
    size = math.prod(shape) * 4 * folds
    possible = machine_memory() // 4 // (size * processes)
    if possible >= variants:
        return variants, ""
    return possible, (
        f"--data.variants {variants} lowered to {possible}: the features of one version of all clips take "
        f"{size / 1e9:.1f} GB, and they may take a quarter of the memory"
    )


def _zeros(shape: tuple[int, ...], dtype: torch.dtype, shared: bool) -> Tensor:
    """Returns zeros whose pages take memory when they are written first; loader processes may share them."""
    if not shared or not math.prod(shape):
        return torch.zeros(shape, dtype=dtype)
    # share_memory_ would write every page, into /dev/shm, which is small in containers.
    pages = mmap.mmap(-1, math.prod(shape) * dtype.itemsize)
    return torch.frombuffer(pages, dtype=dtype).view(shape)
