"""What is checked about options and records: values, twins, leaks between training and test."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np

from core.data.split import check_share
from core.errors import ConfigError
from tasks.ecg.config import DataConfig
from tasks.ecg.data.gather import Pool
from tasks.ecg.data.leads import wanted_leads

RATES = (20, 5000)
"""Hz."""


def check_options(config: DataConfig) -> None:
    """Raises ``ConfigError`` if options are out of range or contradict each other."""
    check_share(config.test_share)
    if not 0 <= config.validation_share < 1:
        raise ConfigError(
            f"--data.validation_share {config.validation_share} must be 0 or more, and less than 1"
        )
    if not RATES[0] <= config.rate <= RATES[1]:
        raise ConfigError(f"--data.rate {config.rate} must lie between {RATES[0]} and {RATES[1]} Hz")
    if config.input_rate is not None and not 0 < config.input_rate < math.inf:
        raise ConfigError(f"--data.input_rate {config.input_rate} must be a rate in Hz")
    if config.least < 1:
        raise ConfigError(f"--data.least {config.least} must be 1 or more")
    if config.labels == []:
        raise ConfigError("--data.labels is an empty list; name the classes, or leave it out")
    if config.folds < 0 or config.folds == 1:
        raise ConfigError(f"--data.folds {config.folds}: cross-validation needs 2 folds or more; 0 is off")
    if config.folds and config.test_path:
        raise ConfigError("--data.folds and --data.test_path exclude each other; leave one of them out")
    if config.table and config.name not in ("auto", "table"):
        raise ConfigError(f"--data.table is not for --data.name {config.name}; leave one of them out")
    wanted_leads(config.leads)


def drop_twins(pool: Pool, first: int) -> None:
    """Finds records of the same content, in place and with notes.

    Those that are tested stay and those that are learned from go, and so do the latter of a patient who is tested. Of
    equal records elsewhere all stay; their patients become one, so that no split parts them.

    Args:
        pool: Records to learn from, then those of a test folder.
        first: Where the latter begin.
    """
    names = pool.names
    tested = {content: i for i, content in enumerate(pool.contents) if i >= first}
    patients = {pool.patients[i] for i in range(first, len(names)) if pool.known[i]}
    leaks = {i: tested[pool.contents[i]] for i in range(first) if pool.contents[i] in tested}
    known = [i for i in range(first) if pool.known[i] and pool.patients[i] in patients and i not in leaks]
    if leaks:
        leak, twin = next(iter(leaks.items()))
        pool.notes.append(
            f"{len(leaks)} records to learn from left out: the test has the same, such as {names[leak]} ({names[twin]})"
        )
    if known:
        pool.notes.append(
            f"{len(known)} records to learn from left out: their patients are tested, such as {names[known[0]]}"
        )
    out = {*leaks, *known}
    pool.keep([i for i in range(len(names)) if i not in out])
    _join_patients(pool)


def _join_patients(pool: Pool) -> None:
    owner: dict[str, str] = {}

    def root(patient: str) -> str:
        while patient in owner:
            patient = owner[patient]
        return patient

    same: dict[bytes, int] = {}
    within: list[tuple[str, str]] = []
    between: list[tuple[str, str]] = []
    for i, content in enumerate(pool.contents):
        first = same.setdefault(content, i)
        if first == i:
            continue
        one, other = root(pool.patients[first]), root(pool.patients[i])
        (within if one == other else between).append((pool.names[i], pool.names[first]))
        if one != other:
            owner[other] = one
    pool.patients = [root(patient) for patient in pool.patients]
    for pairs, what in (
        (within, "the same as another of their patient"),
        (between, "the same as one of another patient; they stay on one side of the split"),
    ):
        if pairs:
            pool.notes.append(f"{len(pairs)} records are {what}, such as {pairs[0][0]} ({pairs[0][1]})")


def unique_names(names: list[str]) -> list[str]:
    """Returns names of which a repeated one has a number."""
    counts = Counter(names)
    seen: Counter[str] = Counter()
    taken, result = {*names}, []
    for name in names:
        seen[name] += 1
        new = name
        while counts[name] > 1 and seen[name] > 1 and new in taken:
            new = f"{name}#{seen[name]}"
            seen[name] += new in taken
        taken.add(new)
        result.append(new)
    return result


def rare_notes(classes: list[str], labels: np.ndarray, learned: np.ndarray, tested: np.ndarray) -> list[str]:
    """Returns a line on classes without positive records to learn from or to test on.

    Args:
        classes: Their names.
        labels: ``(records, classes)`` bool.
        learned: Records that are learned from in some fold; empty if nothing is learned.
        tested: Records that are tested in some fold.
    """
    notes = []
    for indices, what in ((learned, "learn from"), (tested, "test on")):
        without = [name for name, some in zip(classes, labels[indices].any(0), strict=True) if not some]
        if len(indices) and without:
            more = ", ..." if len(without) > 6 else ""
            notes.append(f"no record to {what} is positive for: {', '.join(without[:6])}{more}")
    return notes
