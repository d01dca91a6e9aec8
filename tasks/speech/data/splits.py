"""Which recordings are learned from and which are held out: by lists, by speaker, or in folds over speakers."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

import numpy as np

from core.data.split import hold_out, name_hash
from core.errors import ConfigError, DataError
from tasks.speech.config import DataConfig
from tasks.speech.data.folders import LISTS, FileList
from tasks.speech.data.pool import Pool

TEST, VALIDATION, TRAIN, UNUSED = range(4)
"""Part of a recording; of two equal ones the first part keeps it."""
FEW = 10
"""Speakers below which none of those to learn from is spared for validation: recordings of all of them are."""

_NEARLY = 0.01  # a list of which a smaller share is here belongs to another selection of the recordings


def split_pool(pool: Pool, config: DataConfig, words: Collection[str], tested: bool) -> np.ndarray:
    """Splits the recordings of a folder, by its lists or else by speaker.

    Args:
        pool: Recordings; gets notes.
        config: Shares.
        words: Words to spot; one recording of each stays in the training if any is held out by speaker.
        tested: The test is elsewhere; a testing list is left out then, since it is for tests alone.

    Returns:
        Part of each recording, uint8 ``(M,)``.

    Raises:
        DataError: All are by one speaker, so that none can be held out.
    """
    part = np.full(len(pool.names), TRAIN, np.uint8)
    testing, validation = _usable_lists(pool, tested)
    if testing:
        listed = np.isin(pool.keys, [*testing.here])
        part[listed] = UNUSED if tested else TEST
        if tested and listed.any():
            pool.notes.append(
                f"{listed.sum()} that {LISTS['testing']} names are not used: --data.test_path is tested"
            )
    elif not tested:
        part[_hold(pool, np.arange(len(part)), pool.groups, words, config.test_share)] = TEST
    drop_shared_speakers(pool, part, TEST)
    if validation:
        part[(part == TRAIN) & np.isin(pool.keys, [*validation.here])] = VALIDATION
        drop_shared_speakers(pool, part, VALIDATION)
    else:
        hold_validation(pool, part, words, config.validation_share)
    return part


def split_folds(pool: Pool, config: DataConfig, words: Collection[str]) -> list[tuple[str, np.ndarray]]:
    """Splits the recordings of a folder in several ways, so that each is held out once; no speaker is on both sides.

    Returns:
        Name and parts ``(M,)``, as of :func:`split_pool`, of each fold.

    Raises:
        ConfigError: There are fewer speakers than folds.
    """
    groups, count = pool.groups, config.folds
    speakers = sorted(set(groups), key=name_hash)
    if count > len(speakers):
        raise ConfigError(
            f"--data.folds {count}: {pool.path} has {len(speakers)} speakers; use 2 to {len(speakers)} folds"
        )
    names = [f"fold{k + 1}" for k in range(count)]
    # Networks are saved under the names of their folds, which a dot would cut.
    if count == len(speakers) and all(pool.speakers) and all(re.fullmatch(r"[\w-]+", s) for s in speakers):
        names = speakers = sorted(speakers)
    folds = []
    first = len(pool.notes)
    for k, name in enumerate(names):
        part = np.where(np.isin(groups, speakers[k::count]), TEST, TRAIN).astype(np.uint8)
        hold_validation(pool, part, words, config.validation_share)
        folds.append((name, part))
    pool.notes[first:] = dict.fromkeys(pool.notes[first:])
    return folds


def hold_validation(pool: Pool, part: np.ndarray, words: Collection[str], share: float) -> None:
    """Moves a share of the training, in place, to the validation: whole speakers unless they are few."""
    train, speakers = np.flatnonzero(part == TRAIN), pool.groups
    groups = [speakers[i] for i in train]
    names = [pool.names[i] for i in train]
    few = len(set(groups)) < FEW
    if not share or len(train) < 2:
        return
    if few and len(set(groups)) < len(names):
        pool.notes.append(
            f"validation is on other recordings of the same speakers, since fewer than {FEW} are left to learn from"
        )
    part[_hold(pool, train, names if few else groups, words, share)] = VALIDATION


def drop_shared_speakers(pool: Pool, part: np.ndarray, held_out: int) -> None:
    """Takes out, in place, what is learned from or validated on by speakers of a held-out part."""
    held = {pool.speakers[i] for i in np.flatnonzero(part == held_out)} - {""}
    shared = [i for i in np.flatnonzero((part > held_out) & (part < UNUSED)) if pool.speakers[i] in held]
    if shared:
        part[shared] = UNUSED
        what = "test" if held_out == TEST else "validation"
        pool.notes.append(
            f"{len(shared)} left out, since their speakers are in the {what}, such as {pool.names[shared[0]]}"
        )


def drop_twins(pool: Pool, part: np.ndarray) -> None:
    """Takes out, in place and with notes, recordings of the same content.

    The same content under two words is of use for neither. Of equal recordings of one word the first stays, and one in
    the test rather than one to learn from.
    """
    same: dict[bytes, list[int]] = {}
    for index, content in enumerate(pool.contents):
        same.setdefault(content, []).append(index)
    notes: dict[str, list[str]] = {}
    for indices in same.values():
        if len(indices) < 2:
            continue
        kept = min(indices, key=lambda i: part[i])
        other = next((i for i in indices if pool.words[i] != pool.words[kept]), None)
        for i in indices:
            if other is not None:
                kind, twin = "the same recording is under two words", other if i == kept else kept
            elif i == kept:
                continue
            elif part[i] > part[kept] and part[kept] < TRAIN:
                kind, twin = "the same recording is held out", kept
            else:
                kind, twin = "the same recording is there twice", kept
            notes.setdefault(kind, []).append(f"{pool.names[i]} ({pool.names[twin]})")
            part[i] = UNUSED
    for kind, examples in notes.items():
        pool.notes.append(f"{len(examples)} left out, {kind}: {', '.join(examples[:2])}")


def _usable_lists(pool: Pool, tested: bool) -> tuple[FileList | None, FileList | None]:
    """Returns the lists of test and validation, as far as their files are here."""
    lists = pool.lists
    usable = {
        kind: item for kind, item in lists.items() if item.here and len(item.here) >= _NEARLY * item.entries
    }
    testing, validation = usable.get("testing"), usable.get("validation")
    if testing or tested or not lists:
        return testing, validation
    if "testing" in lists:
        entries, here = lists["testing"].entries, len(lists["testing"].here)
        why = f"{LISTS['testing']} names {entries} files, of which {here} are here"
    else:
        why = f"there is no {LISTS['testing']}"
    how = f"tested on {LISTS['validation']}" if validation else "tested on a share of the speakers"
    pool.notes.append(f"{why}; {how}")
    return validation, None


def _hold(
    pool: Pool, among: np.ndarray, groups: Sequence[str], words: Collection[str], share: float
) -> np.ndarray:
    """Returns which of the recordings ``among`` are held out, by their groups; each word keeps one group at least."""
    if len(set(groups)) < 2:
        raise DataError(
            f"{pool.path}: all recordings are by one speaker, {groups[0]}, who cannot be learned from and tested on; "
            "give --data.test_path, or --data.speaker '.+' to hold out single recordings"
        )
    held = np.zeros(len(among), bool)
    held[hold_out(groups, share, None, "--data.speaker").test] = True
    order, which = np.unique(groups, return_inverse=True)
    spoken, word = np.unique([pool.words[i] for i in among], return_inverse=True)
    lost = np.bincount(word[~held], minlength=len(spoken)) == 0
    for number in np.flatnonzero(lost):
        if spoken[number] in words:
            last = max(set(which[word == number]), key=lambda group: name_hash(str(order[group])))
            held[which == last] = False
    return among[held]
