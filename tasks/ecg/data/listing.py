"""What a folder lists: its records, whose they are, and their labels."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from core.errors import DataError


class Label(NamedTuple):
    """A class.

    Attributes:
        name: As it is shown.
        code: SNOMED CT or SCP code, two that are one class joined by ``|``; ``""`` where there is none.
    """

    name: str
    code: str


@dataclass
class Entry:
    """A record that is not yet read.

    Attributes:
        name: Path relative to the folder, without an ending.
        file: Where it is.
        patient: Whose it is, ``""`` where that is not known.
        labels: Names of its labels; None if its header holds their codes.
        fold: Official fold, 1 to 10; None if there is none.
    """

    name: str
    file: Path
    patient: str = ""
    labels: list[str] | None = None
    fold: int | None = None


@dataclass
class Listing:
    """The records of a folder.

    Attributes:
        folder: The folder.
        entries: Its records.
        candidates: Labels that are classes by default, in their order; None means all, by name.
        codes: Code of each label that has one.
        find: Finds the class that an option names, None if there is none; by default names are taken as they are.
        explain: Says what became of the codes of all records, given the classes.
        notes: What was dropped or assumed.
    """

    folder: Path
    entries: list[Entry]
    candidates: list[str] | None = None
    codes: dict[str, str] = field(default_factory=dict)
    find: Callable[[str], Label | None] | None = None
    explain: Callable[[Sequence[Sequence[str]], Sequence[Label]], list[str]] | None = None
    notes: list[str] = field(default_factory=list)


def name_of(file: str) -> str:
    """Returns a record's name: its path with ``/`` and without the ending."""
    return re.sub(r"\.(hea|dat|mat|csv|npy|npz)$", "", file.replace("\\", "/"), flags=re.IGNORECASE)


def read_table(path: Path, needed: list[str]) -> list[dict[str, str]]:
    """Returns the rows of a CSV file with a header, stripped.

    Raises:
        DataError: It is missing or empty, is no CSV file in UTF-8, lacks a column, or a row is cut off.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, strict=True)
            columns = [(column or "").strip() for column in reader.fieldnames or []]
            reader.fieldnames = columns
            rows = list(reader)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: is not a CSV file in UTF-8 ({error}); save it as one") from None
    for column in needed:
        if column not in columns:
            raise DataError(f"{path}: has no column {column}; it has {', '.join(columns[:12]) or 'none'}")
    twice = [column for column, count in Counter(columns).items() if count > 1]
    if twice:
        raise DataError(f"{path}: has two columns {twice[0]!r}; rename one of them")
    for number, row in enumerate(rows, 1):
        if None in row or None in row.values():
            raise DataError(f"{path}: row {number} has not {len(columns)} fields as the header; mend it")
    if not rows:
        raise DataError(f"{path}: has no rows")
    return [{column: value.strip() for column, value in row.items()} for row in rows]
