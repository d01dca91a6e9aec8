"""Folders as of the PhysioNet/CinC challenges 2020 and 2021: headers with a line ``Dx:`` of SNOMED CT codes."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Sequence
from functools import cache
from pathlib import Path

from core.errors import DataError
from tasks.ecg.config import DataConfig
from tasks.ecg.data.codes import CHALLENGE_CLASSES, UNSCORED, challenge_class
from tasks.ecg.data.listing import Entry, Label, Listing, name_of
from tasks.ecg.data.records import find_records

_PEEKED = 50  # headers in which the line is looked for
_DX = re.compile(rb"^#\s*Dx\s*:", re.MULTILINE)


def has_codes(folder: Path) -> bool:
    """Returns whether one of the first headers under a folder has a line ``Dx:``."""
    headers = [file for file in find_records(folder) if file.suffix == ".hea"]
    return any(_DX.search(file.read_bytes()) for file in headers[:_PEEKED])


def list_challenge(folder: Path, config: DataConfig) -> Listing:
    """Lists all records with headers, at any depth; the classes are the scored ones unless the options name others.

    Raises:
        DataError: There is none.
    """
    headers = [file for file in find_records(folder) if file.suffix == ".hea"]
    if not headers:
        raise DataError(f"{folder}: has no WFDB header (.hea)")
    entries = [Entry(name_of(file.relative_to(folder).as_posix()), file) for file in headers]
    return Listing(
        folder, entries, [scored.name for scored in CHALLENGE_CLASSES], find=find_label, explain=code_notes
    )


def find_label(label: str) -> Label | None:
    """Returns the class of an abbreviation, a code or a name; any other number is taken as a code."""
    scored = challenge_class(label)
    if scored:
        return Label(scored.name, scored.code)
    if label in UNSCORED:
        return Label(UNSCORED[label], label)
    for code, name in UNSCORED.items():
        if name.lower() == label.lower():
            return Label(name, code)
    return Label(label, label) if label.isdigit() else None


@cache
def class_key(label: str) -> str:
    """Returns what all names of a class have in common: abbreviation, code and name, in any case."""
    found = find_label(label.strip())
    return (found.name if found else label.strip()).lower()


def same_class(label: str, among: Collection[str]) -> list[str]:
    """Returns which labels mean a class: the one of this very name, or else all that are other names of it."""
    if label in among:
        return [label]
    return [other for other in among if class_key(other) == class_key(label)]


def labels_of(codes: Sequence[str]) -> list[str]:
    """Returns the names of a record's classes; an unknown code is its own name."""
    found = ((code, find_label(code)) for code in codes)
    return list(dict.fromkeys(label.name if label else code for code, label in found))


def code_notes(codes: Sequence[Sequence[str]], chosen: Sequence[Label]) -> list[str]:
    """Returns what to say about codes of records that are no class."""
    wanted = {code for label in chosen for code in label.code.split("|")}
    counts = Counter(code for record in codes for code in dict.fromkeys(record))
    unscored = {code: n for code, n in counts.items() if code in UNSCORED and code not in wanted}
    unknown = {
        code: n
        for code, n in counts.items()
        if code not in UNSCORED and code not in wanted and not challenge_class(code)
    }
    notes = []
    if unscored:
        most = ", ".join(f"{UNSCORED[code]} ({code}) {n}" for code, n in Counter(unscored).most_common(3))
        notes.append(
            f"{len(unscored)} codes that the challenge does not score are no classes; most frequent: {most}; "
            "--data.labels can name them"
        )
    if unknown:
        most = ", ".join(f"{code} {n}" for code, n in Counter(unknown).most_common(3))
        notes.append(f"{len(unknown)} unknown codes are no classes; most frequent: {most}")
    return notes
