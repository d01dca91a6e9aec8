"""PTB-XL (https://doi.org/10.13026/kfzx-aw45): its two tables, label sets and official folds."""

from __future__ import annotations

import ast
from pathlib import Path

from core.errors import DataError
from tasks.ecg.config import DataConfig
from tasks.ecg.data.listing import Entry, Listing, name_of, read_table

DATABASE = "ptbxl_database.csv"
STATEMENTS = "scp_statements.csv"
FOLDS = 10
"""Official folds; 9 and 10 were read by people with more care, and are for validation and test."""

_COLUMNS = {
    "diagnostic": "diagnostic",
    "subdiagnostic": "diagnostic_subclass",
    "superdiagnostic": "diagnostic_class",
    "form": "form",
    "rhythm": "rhythm",
}
_CLASSES = ("subdiagnostic", "superdiagnostic")  # sets whose labels are classes of statements


def list_ptbxl(folder: Path, config: DataConfig) -> Listing:
    """Lists the records of PTB-XL.

    As in the benchmark (arXiv:2004.13701, III.A), a statement counts whatever its likelihood is, and records without a
    statement of the set are left out, except in the set all.

    Args:
        folder: With both tables and the folders of records.
        config: Set of labels, and rate: up to 100 Hz the records of 100 Hz are taken, else those of 500 Hz.

    Raises:
        DataError: A table is missing or damaged, or no record is there.
    """
    path, label_set = folder / DATABASE, config.label_set
    rows = read_table(path, ["ecg_id", "patient_id", "scp_codes", "filename_lr", "filename_hr"])
    names = _names(folder / STATEMENTS, label_set)
    column, notes = _files(folder, rows, config.rate)
    entries, without, absent = [], 0, 0
    for number, row in enumerate(rows, 1):
        codes = _codes(path, number, row["scp_codes"])
        labels = list(dict.fromkeys(names[code] for code in codes if code in names))
        if label_set == "all":
            labels = codes
        if not labels and label_set != "all":
            without += 1
            continue
        file = folder / row[column]
        if not file.with_name(f"{file.name}.hea").exists():
            absent += 1
            continue
        patient = row["patient_id"].removesuffix(".0")
        fold = _fold(path, number, row.get("strat_fold", ""))
        entries.append(Entry(name_of(row[column]), file.with_name(f"{file.name}.hea"), patient, labels, fold))
    if not entries:
        raise DataError(
            f"{folder}: none of the records that {DATABASE} names with {label_set} labels is there"
        )
    if without:
        notes.append(f"{without} records left out: they have no {label_set} statement")
    if absent:
        notes.append(f"{absent} records left out: {DATABASE} names them, but they are not there")
    used = {label for entry in entries for label in entry.labels or []}
    codes_of = {} if label_set in _CLASSES else {label: label for label in used}
    return Listing(folder, entries, codes=codes_of, notes=notes)


def _names(path: Path, label_set: str) -> dict[str, str]:
    """Returns the label of each statement that belongs to a set."""
    if label_set == "all":
        return {}
    column = _COLUMNS[label_set]
    # The column of the statements' names has no name.
    rows = read_table(path, ["", "diagnostic", column])
    if label_set in _CLASSES:
        return {row[""]: row[column] for row in rows if row[column] and _is_one(row["diagnostic"])}
    return {row[""]: row[""] for row in rows if _is_one(row[column])}


def _is_one(value: str) -> bool:
    return value in ("1", "1.0")


def _codes(path: Path, number: int, text: str) -> list[str]:
    try:
        codes = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        codes = None
    if not isinstance(codes, dict):
        raise DataError(f"{path}: row {number}, scp_codes: {text[:40]!r} is not a dictionary of statements")
    return [str(code) for code in codes]


def _fold(path: Path, number: int, text: str) -> int | None:
    if not text:
        return None
    value = text.removesuffix(".0")
    if not value.isdigit() or not 1 <= int(value) <= FOLDS:
        raise DataError(f"{path}: row {number}, strat_fold: {text!r} is not a fold from 1 to {FOLDS}")
    return int(value)


def _files(folder: Path, rows: list[dict[str, str]], rate: int) -> tuple[str, list[str]]:
    """Returns which column names the files to read."""
    wanted, other = ("filename_lr", "filename_hr") if rate <= 100 else ("filename_hr", "filename_lr")
    if any((folder / f"{row[wanted]}.hea").exists() for row in rows):
        return wanted, []
    if not any((folder / f"{row[other]}.hea").exists() for row in rows):
        raise DataError(
            f"{folder}: no file that {DATABASE} names is there; unpack records100 or records500 too"
        )
    there = "500" if other == "filename_hr" else "100"
    return other, [f"the records of {there} Hz are taken; those of the other rate are not there"]
