"""Records in memory, and how they are split."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from core.data.digest import add_arrays
from core.data.split import Fold


def content_of(signal: np.ndarray) -> bytes:
    """Returns a hash of a signal ``(leads, samples)``; equal signals have equal ones."""
    return hashlib.blake2b(f"{signal.shape}".encode() + signal.tobytes(), digest_size=16).digest()


@dataclass
class EcgData:
    """A :class:`core.task.Dataset` of records with any number of labels each.

    Attributes:
        name: Short name.
        classes: Names of the classes.
        codes: SNOMED CT or SCP code of each class, several joined by ``|`` where they are scored as one; ``""`` where
            the data has none.
        leads: Names of the leads, in the order of the signals.
        rate: Sampling rate, Hz.
        names: Name of each record.
        patients: Whose it is; the record's own name where nothing is known.
        signals: For each record float32 ``(leads, samples)`` in mV; lengths may differ.
        present: ``(records, leads)`` bool: the lead was in the file or follows from others; else it is zeros.
        labels: ``(records, classes)`` bool.
        folds: How they are split.
        notes: What was dropped, changed or assumed.
        synthetic: The records are made.
    """

    name: str
    classes: list[str]
    codes: list[str]
    leads: list[str]
    rate: int
    names: list[str]
    patients: list[str]
    signals: list[np.ndarray]
    present: np.ndarray
    labels: np.ndarray
    folds: list[Fold]
    notes: list[str] = field(default_factory=list)
    synthetic: bool = False

    @property
    def size(self) -> int:
        """Number of records."""
        return len(self.names)

    @cached_property
    def digest(self) -> str:
        """Hex SHA-256 of signals, labels, classes and split."""
        total = hashlib.sha256(repr((self.classes, self.codes, self.leads, self.rate)).encode())
        arrays = [*self.signals, self.present, self.labels]
        for fold in self.folds:
            total.update(fold.name.encode(errors="surrogateescape"))
            arrays += [fold.train, fold.validation, fold.test]
        add_arrays(total, arrays)
        return total.hexdigest()
