"""Splits by scene, speaker, patient: what belongs together never stands on both sides."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from core.errors import ConfigError, DataError


@dataclass(frozen=True)
class Split:
    """Positions of the samples on both sides.

    Attributes:
        train: To learn from.
        test: Held out.
        note: One line for the user.
    """

    train: list[int]
    test: list[int]
    note: str


@dataclass
class Fold:
    """A way to split samples; without cross-validation there is one, ``model``.

    Attributes:
        name: Name of the network that is trained on it.
        train: Positions of the samples to learn from, int64.
        validation: Of those that thresholds and early stopping are decided on, int64.
        test: Of the held-out ones, int64.
    """

    name: str
    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray


def check_share(share: float) -> None:
    """Raises ``ConfigError`` unless a share is between 0 and 1."""
    if not 0 < share < 1:
        raise ConfigError(f"--data.test_share {share} is not a share; use a number between 0 and 1")


def check_no_split(share: float, pattern: str | None, default: float) -> None:
    """Raises ``ConfigError`` if a data set whose split is fixed is to be split by these options."""
    if share != default or pattern is not None:
        option = f"--data.scene {pattern!r}" if pattern is not None else f"--data.test_share {share}"
        raise ConfigError(f"{option} splits a folder, not the photographs; give --data.path or leave it out")


def hold_out(names: Sequence[str], share: float, pattern: str | None, option: str) -> Split:
    """Holds out a share of the groups; always the same ones for the same names, in any order.

    Those with the smallest SHA-256 of their names are held out, so that one group more moves one at most to the
    other side.

    Args:
        names: Name of each sample.
        share: Share of the groups that is held out, between 0 and 1; at least one group stays on each side.
        pattern: Regular expression whose first group, or else whose match, is the name of a sample's group;
            ``None`` makes each sample its own.
        option: Flag of the pattern, for errors.

    Raises:
        ConfigError: The pattern is wrong or finds nothing in a name, or the share is not one.
        DataError: There is one group alone.
    """
    check_share(share)
    groups = list(names) if pattern is None else [group_of(name, pattern, option) for name in names]
    order = list(dict.fromkeys(groups))
    if len(order) < 2:
        raise DataError("one group alone cannot be split into training and test; give --data.test_path")
    count = min(len(order) - 1, max(1, round(share * len(order))))
    held_out = set(sorted(order, key=name_hash)[:count])
    train = [i for i, group in enumerate(groups) if group not in held_out]
    test = [i for i, group in enumerate(groups) if group in held_out]
    what = f"{len(order)} groups ({', '.join(sorted(held_out)[:6])})" if pattern else f"{len(order)}"
    note = f"{count} of {what} held out: {len(test)} to test on, {len(train)} to learn from"
    return Split(train, test, note)


def name_hash(group: str) -> str:
    """Returns the SHA-256 of a name, which puts names in an order that has to do with nothing else."""
    # Names of files need not be valid Unicode.
    return hashlib.sha256(group.encode(errors="surrogateescape")).hexdigest()


def group_of(name: str, pattern: str, option: str) -> str:
    """Returns the first group of a pattern in a sample's name, or else its match: the sample's group.

    Raises:
        ConfigError: The pattern, which ``option`` gave, is wrong or finds nothing.
    """
    try:
        found = re.search(pattern, name)
    except re.error as error:
        raise ConfigError(f"{option} {pattern!r} is not a regular expression: {error}") from None
    if found is None:
        raise ConfigError(
            f"{option} {pattern!r} finds nothing in the name {name}; every name needs its group"
        )
    return found.group(1) if found.groups() else found.group(0)
