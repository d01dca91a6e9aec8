"""Which records are learned from, validated on and tested: whole patients, and rare labels on every side."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from core.data.split import Fold, hold_out, name_hash
from core.errors import ConfigError, DataError
from tasks.ecg.config import DataConfig
from tasks.ecg.data.ptbxl import FOLDS


def stratified(patients: Sequence[str], labels: np.ndarray, shares: Sequence[float]) -> np.ndarray:
    """Deals patients out to parts so that each gets its share of every label.

    The iterative stratification of Sechidis et al., "On the stratification of multi-label data", ECML PKDD 2011,
    algorithm 1, with patients in place of samples: the rarest label first, each of its patients to the part that lacks
    most of it, then most records. Patients with more of the label come first, and equal ones in the order of the hashes
    of their names, so that nothing depends on the order of the records.

    Args:
        patients: Of each record.
        labels: ``(records, classes)`` bool.
        shares: Of the parts; they sum to 1.

    Returns:
        Part of each record, int64 ``(records,)``.
    """
    names = sorted(set(patients), key=name_hash)
    number = {name: i for i, name in enumerate(names)}
    group = np.array([number[patient] for patient in patients])
    sizes = np.bincount(group, minlength=len(names))
    counts = np.zeros((len(names), labels.shape[1]), np.int64)
    np.add.at(counts, group, labels)
    share = np.asarray(shares, np.float64)
    lacking, room = share[:, None] * counts.sum(0), share * sizes.sum()
    part = np.full(len(names), -1)

    def deal(patient: np.integer, wanted: np.ndarray) -> None:
        # Sums of shares are not exact, and what is equal must stay equal.
        best = int(np.lexsort((np.arange(len(share)), -room.round(6), -wanted.round(6)))[0])
        part[patient] = best
        lacking[best] -= counts[patient]
        room[best] -= sizes[patient]

    while (left := counts[part < 0].sum(0)).any():
        rarest = int(np.argmin(np.where(left > 0, left, left.max() + 1)))
        holders = np.flatnonzero((part < 0) & (counts[:, rarest] > 0))
        for patient in holders[np.argsort(-counts[holders, rarest], kind="stable")]:
            deal(patient, lacking[:, rarest])
    for patient in np.flatnonzero(part < 0):
        deal(patient, room)
    return part[group]


def split_records(
    patients: Sequence[str],
    labels: np.ndarray,
    official: Sequence[int | None],
    first: int,
    config: DataConfig,
) -> tuple[list[Fold], list[str]]:
    """Splits records by patient.

    With official folds 10 is tested and 9 validated on (with a test folder, 10 is learned from); cross-validation in
    10 folds takes each as the test once and the one before it for validation. A patient with records on several sides
    stays where they are tested, or else validated on; the other records are left out.

    Else the patients with the smallest hashes of their names are tested, so that one patient more moves one at most to
    the other side, and the validation and the folds of a cross-validation are stratified.

    Args:
        patients: Of each record; one never stands on two sides.
        labels: ``(records, labels)`` bool, to give each side its share of.
        official: Official fold of each record, 1 to 10, where there is one.
        first: Where the records of a test folder begin; their number if there is none.
        config: Shares and number of folds.

    Returns:
        The folds, and notes.

    Raises:
        ConfigError: There are fewer patients than folds.
        DataError: There is one patient alone, or nothing is left to learn from.
    """
    everything = np.arange(len(patients))
    own, test = everything[:first], everything[first:]
    whole = len(own) > 0 and all(official[i] is not None for i in own)
    fold_of = np.array([official[i] or 0 for i in own], np.int64)
    notes: list[str] = []
    if not whole and any(official[i] is not None for i in own):
        notes.append("some records have no official fold; not used")
    if config.folds:
        folds = _cross(patients, labels, fold_of if whole and config.folds == FOLDS else None, config)
        return folds, [*notes, *_left_out(folds, len(patients))]
    if len(test):
        tested = np.zeros(len(own), bool)
    elif whole and (fold_of == FOLDS).any() and (fold_of < FOLDS - 1).any():
        tested = fold_of == FOLDS
    else:
        whole = False
        split = hold_out(_several([patients[i] for i in own]), config.test_share, None, "--data.patient")
        tested = np.isin(own, split.test)
        test = own[tested]
    test = test if len(test) else own[tested]
    rest = own[~tested]
    if whole:
        validation = own[fold_of == FOLDS - 1]
        notes.append(f"official folds: {FOLDS} is tested, {FOLDS - 1} validated on" if tested.any() else
                     f"official folds: {FOLDS - 1} is validated on")  # fmt: skip
    else:
        validation = _validation(rest, patients, labels, config.validation_share)
    fold = _apart(Fold("model", np.setdiff1d(rest, validation), validation, own[tested]), patients)
    fold.test = test
    if len(own) and not len(fold.train):
        raise DataError("no record is left to learn from: all are held out; give records of more patients")
    return [fold], [*notes, *_left_out([fold], len(patients))]


def _apart(fold: Fold, patients: Sequence[str]) -> Fold:
    """Leaves every patient on one side, as official folds may not: where they are tested, or else validated on."""
    validation = _without(fold.validation, fold.test, patients)
    train = _without(fold.train, np.concatenate([fold.test, validation]), patients)
    return Fold(fold.name, train, validation, fold.test)


def _without(records: np.ndarray, others: np.ndarray, patients: Sequence[str]) -> np.ndarray:
    """Returns the records whose patients have none among others."""
    owners = {patients[i] for i in others}
    return np.array([i for i in records if patients[i] not in owners], np.int64)


def _left_out(folds: Sequence[Fold], count: int) -> list[str]:
    """Returns a line on records that stand on no side of some fold."""
    every = np.arange(count)
    used = [np.isin(every, np.concatenate([fold.train, fold.validation, fold.test])) for fold in folds]
    left = count - int(np.all(used, 0).sum())
    if not left:
        return []
    where = " in some fold" if len(folds) > 1 else ""
    records = "1 record is" if left == 1 else f"{left} records are"
    return [
        f"{records} not learned from or validated on{where}: the official folds have the same, or others of the "
        "patient, on another side"
    ]


def _several(patients: list[str]) -> list[str]:
    if len(set(patients)) < 2:
        raise DataError(
            f"all records are of one patient, {patients[0]}, who cannot be learned from and tested on; give "
            "--data.test_path, or another --data.patient"
        )
    return patients


def _cross(
    patients: Sequence[str], labels: np.ndarray, official: np.ndarray | None, config: DataConfig
) -> list[Fold]:
    everything = np.arange(len(patients))
    count, several = config.folds, len(set(patients))
    if count > several:
        raise ConfigError(
            f"--data.folds {count}: there are {several} patients; use 2 to {several} folds"
            if several > 1
            else f"--data.folds {count}: all records are of one patient; leave it out and give --data.test_path"
        )
    part = official - 1 if official is not None else stratified(patients, labels, [1 / count] * count)
    folds = []
    for k in range(count):
        test, rest = everything[part == k], everything[part != k]
        if official is None:
            validation = _validation(rest, patients, labels, config.validation_share)
        else:
            validation = everything[part == (k - 1) % count]
        folds.append(_apart(Fold(f"fold{k + 1}", np.setdiff1d(rest, validation), validation, test), patients))
    return folds


def _validation(rest: np.ndarray, patients: Sequence[str], labels: np.ndarray, share: float) -> np.ndarray:
    owners = [patients[i] for i in rest]
    if not share or len(set(owners)) < 2:
        return rest[:0]
    part = stratified(owners, labels[rest], [1 - share, share])
    return rest[part == 1]
