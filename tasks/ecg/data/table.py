"""Records of any format with a CSV file of their labels; LUDB, whose CSV file is of another kind."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from core.errors import DataError
from tasks.ecg.config import DataConfig
from tasks.ecg.data.challenge import same_class
from tasks.ecg.data.listing import Entry, Listing, name_of, read_table
from tasks.ecg.data.ludb import ludb_labels
from tasks.ecg.data.ptbxl import DATABASE, STATEMENTS
from tasks.ecg.data.records import find_records

TABLE = "labels.csv"
LUDB = "ludb.csv"
TABLES = (TABLE, DATABASE, STATEMENTS, LUDB, "REFERENCE.csv")
"""Tables that may lie among records."""

_PATIENT = ("patient", "patient_id")
_OTHER = ("file", "labels", "age", "sex", *_PATIENT)  # columns that are no classes
_YES, _NO = ("1", "1.0", "true"), ("0", "0.0", "false", "")


def list_table(folder: Path, config: DataConfig) -> Listing:
    """Lists the records that a table names.

    Args:
        folder: The folder.
        config: Names the CSV file, relative to the folder; by default ``labels.csv``. Columns: ``file``, then either
            ``labels`` with names separated by ``;`` or a column of 0 and 1 for each class. Columns ``patient`` (or
            ``patient_id``), ``age`` and ``sex`` are no classes. Where it names the classes, other columns may hold
            anything; only those of 0 and 1 are labels.

    Raises:
        DataError: The table is missing, lacks columns, names a file twice or one that is not there, or holds something
            else than 0 and 1.
    """
    path = folder / (config.table or TABLE)
    rows = read_table(path, ["file"])
    columns = [column for column in rows[0] if column not in _OTHER]
    listed = "labels" in rows[0]
    if not listed and not columns:
        raise DataError(f"{path}: has no labels; add a column labels, or one of 0 and 1 for each class")
    ignored = [column for column in columns if listed or not _is_label(column, rows, config)]
    columns = [column for column in columns if column not in ignored]
    patient = next((column for column in _PATIENT if column in rows[0]), None)
    entries: list[Entry] = []
    seen: dict[str, int] = {}
    for number, row in enumerate(rows, 1):
        file = row["file"]
        if not file:
            raise DataError(f"{path}: row {number} names no file")
        if file in seen:
            raise DataError(f"{path}: rows {seen[file]} and {number} name the same file {file}; keep one")
        seen[file] = number
        found = _existing(folder / file)
        if found is None:
            raise DataError(f"{path}: row {number} names {file}, which is not in {folder}")
        if listed:
            labels = [label.strip() for label in row["labels"].split(";") if label.strip()]
        else:
            labels = [column for column in columns if _is_set(path, number, column, row[column])]
        name = name_of(file)
        entries.append(Entry(name, found, row[patient] if patient else "", list(dict.fromkeys(labels))))
    _keep_apart(entries, list(seen))
    listing = Listing(folder, entries, candidates=None if listed else columns)
    if ignored:
        listing.notes.append(
            f"{path.name}: columns that are no labels are not used: {', '.join(ignored[:6])}"
        )
    records = [file for file in find_records(folder) if file.name not in TABLES and file != path]
    unlisted = len(records) - len(entries)
    if unlisted > 0:
        what = "record under {} is" if unlisted == 1 else "records under {} are"
        listing.notes.append(f"{unlisted} {what.format(folder)} not in {path.name} and not used")
    return listing


def list_ludb(folder: Path, config: DataConfig) -> Listing:
    """Lists the records of LUDB; each is of another patient.

    Raises:
        DataError: The table is missing or damaged, or none of its records is there.
    """
    labels = ludb_labels(folder / LUDB)
    files = {name_of(file.name): file for file in find_records(folder) if file.suffix == ".hea"}
    entries = [Entry(name, files[name], name, labels[name]) for name in labels if name in files]
    if not entries:
        raise DataError(
            f"{folder}: none of the {len(labels)} records of {LUDB} is there; unpack its folder data too"
        )
    listing = Listing(folder, entries)
    if len(entries) < len(labels):
        listing.notes.append(
            f"{len(labels) - len(entries)} of the {len(labels)} records of {LUDB} are not there"
        )
    return listing


def _existing(path: Path) -> Path | None:
    header = path.with_name(f"{path.name}.hea")
    return next((file for file in (path, header) if file.is_file()), None)


def _is_label(column: str, rows: list[dict[str, str]], config: DataConfig) -> bool:
    """Whether a column is a label: all are, unless options name the classes; then others than 0 and 1 may stand."""
    if not config.labels or any(same_class(label, [column]) for label in config.labels):
        return True
    return all(row[column].lower() in _YES + _NO for row in rows)


def _is_set(path: Path, number: int, column: str, value: str) -> bool:
    if value.lower() in _YES:
        return True
    if value.lower() in _NO:
        return False
    raise DataError(
        f"{path}: row {number}, column {column}: {value!r} is neither 0 nor 1; mend it, or name the "
        "classes by --data.labels if it is none"
    )


def _keep_apart(entries: list[Entry], files: list[str]) -> None:
    """Leaves files their endings whose names are the same without."""
    counts = Counter(entry.name for entry in entries)
    for entry, file in zip(entries, files, strict=True):
        if counts[entry.name] > 1:
            entry.name = file
