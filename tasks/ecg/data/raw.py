"""What a file holds, before names, units and gaps are put right."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from core.errors import DataError

MILLIVOLTS = {"v": 1e3, "mv": 1.0, "uv": 1e-3, "µv": 1e-3, "μv": 1e-3, "microv": 1e-3, "nv": 1e-6}
"""Millivolts in a unit, whose name is in lower case. Both signs for micro are in use."""


@dataclass
class RawRecord:
    """A file's signal.

    Attributes:
        values: ``(leads, samples)`` float64 in mV; what was not recorded is NaN.
        rate: Sampling rate, Hz.
        leads: Names as in the file.
        remedy: What to do when the amplitude is impossible.
        comments: Lines of the header's comments.
        notes: What was assumed or left out.
    """

    values: np.ndarray
    rate: float
    leads: list[str]
    remedy: str
    comments: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def unusable(path: Path, reason: str) -> DataError:
    """Returns the error about a file; a name that is no Unicode is escaped."""
    return DataError(f"{str(path).encode(errors='backslashreplace').decode()}: {reason}")


def millivolts(path: Path, units: str) -> float:
    """Returns the millivolts in a unit.

    Raises:
        DataError: It is no unit of voltage.
    """
    factor = MILLIVOLTS.get(units.strip().lower())
    if factor is None:
        raise unusable(path, f"unknown unit {units!r}; known are mV, uV and V")
    return factor
