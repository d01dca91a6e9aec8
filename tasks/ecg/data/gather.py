"""Reads listed records, with everything that was wrong told.

Twelve leads of 10 s at 100 Hz take 48 kB: all of PTB-XL takes 1 GB.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track

from core.data.cache import Store
from core.data.split import group_of
from core.data.tally import Tally
from core.errors import DataError
from tasks.ecg.config import DataConfig
from tasks.ecg.data import challenge, ptbxl, table
from tasks.ecg.data.dataset import content_of
from tasks.ecg.data.listing import Entry, Listing
from tasks.ecg.data.prepare import prepare
from tasks.ecg.data.records import Record, read_record
from tasks.ecg.data.synthetic import COMMENT

PROGRESS_FROM = 500
"""Number of records above which a progress bar is worth its line."""


@dataclass
class Pool:
    """Records of one folder, or of two.

    Attributes:
        entries: What was listed of each record.
        patients: Whose each is.
        known: Whether that is known; else the patient is the record's own name.
        signals: ``(leads, samples)`` float32 of each, mV.
        present: ``(leads,)`` bool of each.
        labels: Names of the labels of each.
        codes: Codes of each, as its header has them; empty where labels are elsewhere.
        contents: Hash of each signal.
        listing: What the classes are chosen from.
        synthetic: Some are made.
        notes: What was dropped, changed or assumed.
    """

    listing: Listing
    entries: list[Entry] = field(default_factory=list)
    patients: list[str] = field(default_factory=list)
    known: list[bool] = field(default_factory=list)
    signals: list[np.ndarray] = field(default_factory=list)
    present: list[np.ndarray] = field(default_factory=list)
    labels: list[list[str]] = field(default_factory=list)
    codes: list[list[str]] = field(default_factory=list)
    contents: list[bytes] = field(default_factory=list)
    synthetic: bool = False
    notes: list[str] = field(default_factory=list)

    @property
    def names(self) -> list[str]:
        """Name of each record."""
        return [entry.name for entry in self.entries]

    def keep(self, indices: list[int]) -> None:
        """Keeps some of the records, in place."""
        for column in (
            "entries", "patients", "known", "signals", "present", "labels", "codes", "contents",
        ):  # fmt: skip
            values = getattr(self, column)
            setattr(self, column, [values[i] for i in indices])


_LISTERS: dict[str, Callable[[Path, DataConfig], Listing]] = {
    "ptbxl": ptbxl.list_ptbxl,
    "ludb": table.list_ludb,
    "table": table.list_table,
    "challenge": challenge.list_challenge,
}


def list_records(folder: Path, config: DataConfig) -> Listing:
    """Lists the records of a folder, of the layout that is named or found.

    Raises:
        DataError: The folder is missing, or of no layout that is known.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: is not a folder")
    layout = config.name if config.name in _LISTERS else _layout(folder, config)
    return _LISTERS[layout](folder, config)


def _layout(folder: Path, config: DataConfig) -> str:
    if config.table or (folder / table.TABLE).is_file():
        return "table"
    if (folder / ptbxl.DATABASE).is_file():
        return "ptbxl"
    if (folder / table.LUDB).is_file():
        return "ludb"
    if challenge.has_codes(folder):
        return "challenge"
    raise DataError(
        f"{folder}: has neither {ptbxl.DATABASE}, nor {table.LUDB}, nor {table.TABLE} (columns file, labels), nor WFDB "
        "headers with a line Dx:; see --data.name and --data.table"
    )


def read_pool(folder: Path, config: DataConfig, store: Store, tested: bool = False) -> Pool:
    """Reads all records of a folder.

    Args:
        folder: The folder.
        config: Layout, leads, filters, and the pattern of the patients.
        store: Keeps the signals.
        tested: It is a test folder. Its records may be named in another way than those of the training, for which the
            pattern was made: where it finds nothing, it is not used.

    Raises:
        ConfigError: The pattern of the patients is wrong or finds nothing in a name, or a filter does not fit.
        DataError: There is no usable record.
    """
    listing = list_records(folder, config)
    pool = Pool(listing, notes=list(listing.notes))
    dropped, changed = Tally("records"), Tally("records")
    entries = listing.entries
    if tested and config.patient:
        unnamed = [entry.name for entry in entries if not _names_patient(config.patient, entry.name)]
        if unnamed:
            pool.notes.append(
                f"--data.patient {config.patient!r} finds nothing in {len(unnamed)} of {len(entries)} names, such as "
                f"{unnamed[0]}: not used"
            )
            config = replace(config, patient=None)
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as threads:
        found = threads.map(_reader(config), entries)
        for entry, result in zip(
            entries,
            track(
                found,
                total=len(entries),
                description="Reading records",
                transient=True,
                console=Console(stderr=True),
                disable=len(entries) <= PROGRESS_FROM or not sys.stderr.isatty(),
            ),
            strict=True,
        ):
            if isinstance(result, str):
                dropped.add(entry.name, result)
                continue
            record, signal, present = result
            for note in record.notes:
                changed.add(entry.name, note)
            _add(pool, entry, record, store.keep(signal), present, config)
    if not pool.entries:
        raise DataError(f"{folder}: no usable record; {dropped.notes('left out: ')[0]}")
    pool.notes += [*dropped.notes("left out: "), *changed.notes()]
    return pool


def _reader(config: DataConfig) -> Callable[[Entry], tuple[Record, np.ndarray, np.ndarray] | str]:
    """Returns what reads a record, or says why it is of no use."""

    def read(entry: Entry) -> tuple[Record, np.ndarray, np.ndarray] | str:
        try:
            record = read_record(entry.file, config.units, config.input_rate)
            signal, present = prepare(record, config)
        except DataError as error:
            return str(error).removeprefix(f"{entry.file}: ").removeprefix(f"{entry.file.stem}: ")
        # The signal at its own rate would take several times the memory.
        return replace(record, signal=record.signal[:, :0].copy()), signal, present

    return read


def _names_patient(pattern: str, name: str) -> bool:
    try:
        return re.search(pattern, name) is not None
    except re.error:
        return True  # told where it is used


def _add(
    pool: Pool, entry: Entry, record: Record, signal: np.ndarray, present: np.ndarray, config: DataConfig
) -> None:
    patient = group_of(entry.name, config.patient, "--data.patient") if config.patient else entry.patient
    pool.entries.append(entry)
    pool.patients.append(patient or entry.name)
    pool.known.append(bool(patient))
    pool.signals.append(signal)
    pool.present.append(present)
    pool.labels.append(challenge.labels_of(record.codes) if entry.labels is None else entry.labels)
    pool.codes.append(record.codes if entry.labels is None else [])
    pool.contents.append(content_of(signal))
    pool.synthetic |= COMMENT in record.comments
