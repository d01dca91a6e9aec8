"""From recordings and their parts to the clips of each class: proportions, rehearsal, silence."""

from __future__ import annotations

import numpy as np

from core.data.split import Fold, name_hash
from tasks.speech.config import SILENCE, UNKNOWN, DataConfig, words_of
from tasks.speech.data.clips import Clips, share_of
from tasks.speech.data.noise import Noise, silence_clips
from tasks.speech.data.pool import Pool, resize, select
from tasks.speech.data.splits import TEST, TRAIN, UNUSED, VALIDATION


def assemble(
    pool: Pool,
    folds: list[tuple[str, np.ndarray]],
    old: np.ndarray,
    classes: list[str],
    config: DataConfig,
    noise: Noise,
) -> tuple[Clips, list[Fold]]:
    """Gives recordings their classes and keeps those that some fold needs.

    Args:
        pool: Recordings; what is not needed is taken out.
        folds: Name and parts of the recordings, uint8 ``(M,)``, of each fold.
        old: Which recordings are of the model that is extended, bool ``(M,)``.
        classes: Names of the classes.
        config: Proportions of silence and unknown, and how much is rehearsed.
        noise: What silence is cut from, unless it is made.

    Returns:
        Clips, and which of them each fold has.
    """
    place = {name: index for index, name in enumerate(classes)}
    unknown, silence = place.get(UNKNOWN, -1), place.get(SILENCE, -1)
    # A folder may be called unknown; one called silence was not read.
    labels = np.array([place.get(word, unknown) for word in pool.words], np.int64)
    words = np.isin(labels, [place[name] for name in words_of(classes)])
    hashes = np.array([name_hash(name) for name in pool.names])
    parts = []
    for _, given in folds:
        part = np.where(labels < 0, UNUSED, given)
        if config.path is not None:  # a folder that is tested alone is tested whole
            _limit_unknown(part, words, labels == unknown, hashes, config.unknown)
        for label in np.unique(labels[old]):
            _keep(part, np.flatnonzero((part == TRAIN) & old & (labels == label)), hashes, config.replay)
        parts.append(part)
    used = np.flatnonzero((np.stack(parts) != UNUSED).any(0))
    select(pool, used)
    words, labels, old = words[used], labels[used], old[used]
    quiet = config.silence if silence >= 0 and not noise.made else 0
    split: list[Fold] = []
    cut: list[tuple[str, np.ndarray]] = []
    for number, (name, _) in enumerate(folds):
        part = parts[number][used]
        places = {kind: np.flatnonzero(part == kind) for kind in (TRAIN, VALIDATION, TEST)}
        for kind in (VALIDATION, TEST):
            count = share_of(quiet, int(words[places[kind]].sum()))
            new = len(used) + len(cut) + np.arange(count)
            cut += silence_clips(noise, config.rate, pool.waves.shape[1], count, kind, number)
            places[kind] = np.concatenate([places[kind], new])
        split.append(Fold(name, places[TRAIN], places[VALIDATION], places[TEST]))
    resize(pool, len(used) + len(cut))
    for index, (_, wave) in enumerate(cut, len(used)):
        pool.waves[index] = wave
    clips = Clips(
        [*pool.names, *(name for name, _ in cut)],
        pool.waves,
        np.pad(labels, (0, len(cut)), constant_values=silence),
        [*pool.speakers, *[""] * len(cut)],
        np.pad(old, (0, len(cut))),
    )
    return clips, split


def _limit_unknown(
    part: np.ndarray, words: np.ndarray, unknown: np.ndarray, hashes: np.ndarray, share: float
) -> None:
    """Takes recordings of other words out of test and validation, in place, down to a share of those of the words."""
    for held_out in (VALIDATION, TEST):
        limit = share_of(share, int((words & (part == held_out)).sum()))
        _keep(part, np.flatnonzero(unknown & (part == held_out)), hashes, limit)


def _keep(part: np.ndarray, indices: np.ndarray, hashes: np.ndarray, count: int) -> None:
    """Takes out, in place, all but ``count`` of some recordings: those whose names have the smallest hashes stay."""
    part[indices[np.argsort(hashes[indices], kind="stable")[count:]]] = UNUSED
