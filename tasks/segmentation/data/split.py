"""Which cases are learned from and which are held out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from core.data.split import group_of, hold_out, name_hash
from core.errors import ConfigError, DataError
from core.files import load_json
from tasks.segmentation.config import DataConfig
from tasks.segmentation.data.cases import Case, Fold
from tasks.segmentation.data.place import replace_file

SEED = 12345
"""Of nnU-Net's folds."""
OPTION = "--data.subject"
FEW = 5
"""Fewer training cases than that give none away to validate on."""


def check(config: DataConfig) -> None:
    """Raises ``ConfigError`` for options that contradict each other or are no shares."""
    if not 0 <= config.validation_share < 1:
        raise ConfigError(f"--data.validation_share {config.validation_share} must lie between 0 and 1")
    if not 0 < config.label_share <= 1:
        raise ConfigError(f"--data.label_share {config.label_share} must be above 0 and at most 1")
    if config.folds < 0 or config.folds == 1:
        raise ConfigError(f"--data.folds {config.folds}: cross-validation needs 2 folds or more; 0 is off")
    if config.fold is not None and not (config.folds or config.splits):
        raise ConfigError(
            f"--data.fold {config.fold} is one of several; give --data.folds 5 or --data.splits too"
        )
    if config.folds and config.fold is not None and not 0 <= config.fold < config.folds:
        raise ConfigError(f"--data.fold {config.fold}: there are folds 0 to {config.folds - 1}")


def make_folds(names: Sequence[str], own: set[int], config: DataConfig) -> tuple[list[Fold], list[str]]:
    """Splits cases.

    A test set of its own is tested on in every fold. Otherwise, ``folds`` or ``splits`` give cross-validation, where
    each fold tests what it does not learn from, or ``test_share`` of the cases, or patients, is held out.

    Args:
        names: Of all cases, sorted.
        own: Positions of those that are for tests alone.
        config: Options.

    Returns:
        The folds, and what the user should know.

    Raises:
        ConfigError: An option is wrong.
        DataError: There are too few cases.
    """
    pool = [i for i in range(len(names)) if i not in own]
    if not pool:
        return [Fold("model", (), (), tuple(sorted(own)))], []
    groups = [group_of(name, config.subject, OPTION) for name in names] if config.subject else list(names)
    notes: list[str] = []
    if own and config.subject:
        shared = [i for i in pool if groups[i] in {groups[k] for k in own}]
        pool = [i for i in pool if i not in shared]
        if shared:
            notes.append(
                f"{len(shared)} left out of training: patients of the test, such as {names[shared[0]]}"
            )
    if not pool:
        return [Fold("model", (), (), tuple(sorted(own)))], notes
    if config.splits:
        folds = _stored(names, pool, config, notes)
        _check_patients(folds, groups, config)
    elif config.folds:
        folds = _cross(pool, groups, config)
    else:
        return _single(names, groups, pool, own, config, notes)
    if config.fold is not None:
        if config.fold >= len(folds):
            raise ConfigError(f"--data.fold {config.fold}: {config.splits} has folds 0 to {len(folds) - 1}")
        folds = [folds[config.fold]]
    if own:
        folds = [replace(fold, test=tuple(sorted(own))) for fold in folds]
    return [_fewer(fold, names, config, notes) for fold in folds], notes


def write_splits(folds: Sequence[Fold], cases: Sequence[Case], path: Path) -> None:
    """Writes training and validation cases of each fold as nnU-Net's ``splits_final.json``."""
    content = [
        {
            "train": [cases[i].name for i in fold.train],
            "val": [cases[i].name for i in fold.validation or fold.test],
        }
        for fold in folds
    ]
    replace_file(path, lambda temporary: temporary.write_text(json.dumps(content, indent=4)))


def _single(
    names: Sequence[str],
    groups: list[str],
    pool: list[int],
    own: set[int],
    config: DataConfig,
    notes: list[str],
) -> tuple[list[Fold], list[str]]:
    test = sorted(own)
    if not own:
        split = hold_out([groups[i] for i in pool], config.test_share, None, OPTION)
        notes.append(split.note if config.subject is None else _by_patient(groups, pool, split.test))
        test = [pool[i] for i in split.test]
        pool = [pool[i] for i in split.train]
    validation: list[int] = []
    among = len({groups[i] for i in pool})
    if config.validation_share and len(pool) >= FEW and among > 1:
        count = min(among - 1, max(1, round(config.validation_share * among)))
        held = set(sorted({groups[i] for i in pool}, key=name_hash)[:count])
        validation = [i for i in pool if groups[i] in held]
    train = [i for i in pool if i not in set(validation)]
    fold = Fold("model", tuple(train), tuple(validation), tuple(test))
    return [_fewer(fold, names, config, notes)], notes


def _by_patient(groups: list[str], pool: list[int], test: list[int]) -> str:
    held = sorted({groups[pool[i]] for i in test})
    count = len({groups[i] for i in pool})
    shown = ", ".join(held[:3]) + (", ..." if len(held) > 3 else "")
    sizes = f"{len(test)} to test on, {len(pool) - len(test)} to learn from"
    return f"{len(held)} of {count} patients held out ({shown}): {sizes}"


def _cross(pool: list[int], groups: list[str], config: DataConfig) -> list[Fold]:
    """nnU-Net's folds: scikit-learn's, shuffled, of the sorted names."""
    from sklearn.model_selection import KFold

    units = sorted({groups[i] for i in pool})
    if len(units) < config.folds:
        what = "patients" if config.subject else "cases"
        raise DataError(f"{len(units)} {what} are too few for --data.folds {config.folds}; lower it")
    folds = []
    for number, (_, held) in enumerate(
        KFold(config.folds, shuffle=True, random_state=SEED).split(np.array(units))
    ):
        out = {units[i] for i in held}
        test = tuple(i for i in pool if groups[i] in out)
        train = tuple(i for i in pool if groups[i] not in out)
        folds.append(Fold(f"fold_{number}", train, test, test))
    return folds


def _stored(names: Sequence[str], pool: list[int], config: DataConfig, notes: list[str]) -> list[Fold]:
    path = Path(str(config.splits))
    known = {names[i]: i for i in pool}
    try:
        stored = [(list(entry["train"]), list(entry["val"])) for entry in load_json(path.read_text())]
    except FileNotFoundError:
        raise ConfigError(f"--data.splits {path}: there is no such file") from None
    except (OSError, ValueError, TypeError, KeyError):
        raise DataError(
            f'{path}: is no splits_final.json, a list of {{"train": [...], "val": [...]}}'
        ) from None
    missing = sorted({name for sides in stored for side in sides for name in side} - set(known))
    if missing:
        notes.append(f"{len(missing)} of the names in {path.name} are not used, such as {missing[0]}")
    folds = []
    for number, (train, held) in enumerate(stored):
        both = sorted(set(train) & set(held))
        if both:
            raise DataError(
                f"{path}: {both[0]} is on both sides of fold {number}; a case is learned from or tested"
            )
        sides = [tuple(sorted(known[name] for name in side if name in known)) for side in (train, held)]
        if not all(sides):
            raise DataError(
                f"{path}: one side of fold {number} has none of the cases; their names are like {names[0]}"
            )
        folds.append(Fold(f"fold_{number}", sides[0], sides[1], sides[1]))
    if not folds:
        raise DataError(f"{path}: has no folds")
    return folds


def _check_patients(folds: list[Fold], groups: list[str], config: DataConfig) -> None:
    for fold in folds:
        both = {groups[i] for i in fold.train} & {groups[i] for i in fold.test}
        if config.subject and both:
            raise ConfigError(
                f"--data.splits: patient {min(both)} is on both sides of {fold.name}; see {OPTION}"
            )


def _fewer(fold: Fold, names: Sequence[str], config: DataConfig, notes: list[str]) -> Fold:
    if config.label_share == 1:
        return fold
    count = max(1, round(config.label_share * len(fold.train)))
    kept = sorted(sorted(fold.train, key=lambda i: name_hash(names[i]))[:count])
    if fold.name in ("model", "fold_0"):
        notes.append(f"{count} of {len(fold.train)} training cases are used (--data.label_share)")
    return replace(fold, train=tuple(kept))
