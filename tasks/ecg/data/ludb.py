"""Labels of the Lobachevsky University database (LUDB, https://doi.org/10.13026/eegm-h675)."""

from __future__ import annotations

import csv
import re
from pathlib import Path

from tasks.ecg.data.raw import unusable

COLUMNS = (
    "Rhythms",
    "Electric axis of the heart",
    "Conduction abnormalities",
    "Extrasystolies",
    "Hypertrophies",
    "Cardiac pacing",
    "Ischemia",
    "Non-specific repolarization abnormalities",
    "Other states",
)
"""Columns of diagnoses; a field holds several, one a line."""
GROUPS = {
    "Undefined ischemia/scar/supp.nstemi": "Undefined ischemia or scar",
    "Stemi": "STEMI",
    "I degree av block": "I degree AV block",
    "Iii degree av-block": "III degree AV block",
    "Non-specific intravintricular conduction delay": "Non-specific intraventricular conduction delay",
}
"""Names of the table that are written out or put right."""


def ludb_labels(path: Path) -> dict[str, list[str]]:
    """Reads ``ludb.csv``.

    A diagnosis with a place or a kind counts by what stands before it: ``Ischemia: inferior wall`` is Ischemia,
    ``Ventricular extrasystole, type: couplet`` is Ventricular extrasystole. The axis is a label such as Left axis
    deviation or Horizontal axis, and every line on pacing is Cardiac pacing. The rest stays as it is.

    Args:
        path: The table.

    Returns:
        For each record, by its name, its labels, each once, in the table's order.

    Raises:
        DataError: The file is missing, is no such table, or names a record twice.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise unusable(path, f"cannot be read as LUDB's table ({' '.join(str(error).split())})") from None
    lacking = [column for column in ("ID", *COLUMNS) if column not in (reader.fieldnames or ())]
    if lacking:
        raise unusable(path, f"is not LUDB's table: it has no column {lacking[0]!r}")
    labels: dict[str, list[str]] = {}
    for number, row in enumerate(rows, 1):
        name = (row["ID"] or "").strip()
        if not name:
            raise unusable(path, f"row {number} of the data names no record in ID")
        if name in labels:
            raise unusable(path, f"names record {name} twice")
        found = [
            _label(column, line.strip()) for column in COLUMNS for line in (row[column] or "").splitlines()
        ]
        labels[name] = list(dict.fromkeys(label for label in found if label))
    return labels


def _label(column: str, line: str) -> str:
    line = line.rstrip(".")
    if not line:
        return ""
    if column == "Cardiac pacing":
        return column
    if column == "Electric axis of the heart":
        axis = line.split(":")[-1].strip().capitalize()
        return axis if axis.endswith("deviation") else f"{axis} axis"
    if column == "Extrasystolies":
        return re.split("[:,]", line)[0].strip()
    group = line.split(":")[0].strip()
    return GROUPS.get(group, group)
