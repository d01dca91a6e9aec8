"""Records of any format: one signal in mV, leads by their standard names, what the header says of the patient."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from tasks.ecg.data.array_files import read_csv, read_numpy
from tasks.ecg.data.leads import MODIFIED, standard_lead
from tasks.ecg.data.raw import RawRecord, unusable
from tasks.ecg.data.wfdb_files import header_of, read_wfdb

Units = Literal["mV", "uV", "V"]
ENDINGS = (".hea", ".mat", ".csv", ".npy", ".npz")
"""Endings of the files that are read, in lower case; a .mat, or a .dat, goes with a .hea beside it."""
RATES = (10.0, 100_000.0)
"""Lowest and highest sampling rate, Hz; beyond them a header is damaged."""
SIZES = (0.01, 50.0)
"""Smallest and largest size of a record, mV: the median over leads of the range that holds 99 % of the samples. A heart
gives 0.2 to 5 mV on the skin, so that a unit that is wrong by 1000 is always found."""
GAP = 0.2
"""Longest gap that is always bridged, s: a T wave is as long."""
LOST = 0.1
"""Share of a lead in longer gaps above which it counts as missing."""

_FLAT = 1e-6  # mV
_PATIENT = re.compile(r"^\s*<?(age|sex|dx)>?\s*:\s*(.*?)\s*$", re.IGNORECASE)


@dataclass
class Record:
    """A record in memory.

    Attributes:
        name: Name of the file without its ending.
        signal: ``(leads, samples)`` float32 in mV, finite. Flat and lost leads are left out.
        rate: Sampling rate, Hz.
        leads: Standard name of each row, each once.
        age: Years, None where unknown.
        sex: ``M`` or ``F``, None where unknown.
        codes: Of the header's line ``Dx:``, in its order.
        comments: Lines of the header's comments.
        notes: What was repaired, left out or assumed.
    """

    name: str
    signal: np.ndarray
    rate: float
    leads: list[str]
    age: float | None = None
    sex: str | None = None
    codes: list[str] = field(default_factory=list)
    comments: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def read_record(path: Path, units: Units = "mV", input_rate: float | None = None) -> Record:
    """Reads a record.

    Args:
        path: WFDB header (.hea), or its .mat, .dat or name without an ending; .csv; .npy; .npz.
        units: Unit of samples in CSV and NumPy files that do not say it.
        input_rate: Sampling rate of CSV and NumPy files that do not say it, Hz.

    Raises:
        DataError: The record is missing, damaged, cut off, without a rate, of an impossible amplitude, or has no lead
            with a signal.
    """
    ending = path.suffix.lower()
    header = header_of(path)
    if path.is_dir():
        raise unusable(path, "is a folder, not a record")
    if header is not None:
        path, raw = header, read_wfdb(header)
    elif not path.exists():
        raise unusable(path, "there is no such file")
    elif not path.stat().st_size:
        raise unusable(path, "is empty (0 bytes)")
    elif ending in _ARRAYS:
        raw = _ARRAYS[ending](path, units, input_rate)
    else:
        known = ", ".join(ENDINGS)
        raise unusable(path, f"records of this kind are not read; known are {known}, and .dat beside a .hea")
    return _finished(path, raw)


def find_records(folder: Path) -> list[Path]:
    """Returns the records under a folder at any depth, in order; a header and its signal files are one (the .hea).

    Hidden files and folders are left out. CSV files are returned whatever they hold.
    """
    found = []
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder)
        if path.suffix.lower() not in ENDINGS or any(part.startswith(".") for part in relative.parts):
            continue
        if path.is_file() and (path.suffix.lower() != ".mat" or not path.with_suffix(".hea").exists()):
            found.append(path)
    return found


_ARRAYS = {".csv": read_csv, ".npy": read_numpy, ".npz": read_numpy}


def _finished(path: Path, raw: RawRecord) -> Record:
    if not (np.isfinite(raw.rate) and RATES[0] <= raw.rate <= RATES[1]):
        raise unusable(
            path,
            f"a sampling rate of {raw.rate:g} Hz is impossible; {RATES[0]:g} to {RATES[1]:g} Hz are read",
        )
    if not raw.values.size:
        raise unusable(path, "holds no samples")
    notes = [*raw.notes]
    rows: dict[str, np.ndarray] = {}
    bridges: dict[str, list[str]] = {}
    lost, flat = [], []
    for name, values in zip(raw.leads, raw.values, strict=True):
        lead, sign = standard_lead(name)
        if lead in rows or lead in lost or lead in flat:
            raise unusable(path, f"has lead {lead} twice ({', '.join(raw.leads)}); rename or remove one")
        if name.strip().upper() in MODIFIED:
            notes.append(f"{name.strip()} taken as {lead}")
        repaired = _bridged(lead, sign * values, raw.rate, bridges)
        if repaired is None:
            lost.append(lead)
        elif np.ptp(repaired) < _FLAT:
            flat.append(lead)
        else:
            rows[lead] = repaired
    notes += [f"{_named(leads, raw)}: {text}" for text, leads in bridges.items()]
    many = f"without samples for more than {100 * LOST:g} % of the time"
    for kind, leads in ((many, lost), ("flat", flat)):
        if leads:
            notes.append(f"{_named(leads, raw)} {kind}: counts as missing")
    if not rows:
        raise unusable(path, f"no lead has a signal; all are flat or {many}")
    signal = np.stack(list(rows.values()))
    _check_size(path, signal, raw.remedy)
    record = Record(
        path.stem, signal.astype(np.float32), raw.rate, list(rows), comments=raw.comments, notes=notes
    )
    _read_comments(record)
    return record


def _named(leads: list[str], raw: RawRecord) -> str:
    return "all leads" if len(leads) == len(raw.leads) > 1 else f"lead {', '.join(leads)}"


def _bridged(lead: str, values: np.ndarray, rate: float, bridges: dict[str, list[str]]) -> np.ndarray | None:
    """Returns a lead without gaps, None if too much is lost; what was done is added to ``bridges``, by its text."""
    known = np.isfinite(values)
    if known.all():
        return values
    edges = np.diff(np.concatenate([[0], ~known, [0]]).astype(np.int8))
    starts = np.flatnonzero(edges > 0)
    lengths = np.flatnonzero(edges < 0) - starts
    if not known.any() or lengths[lengths > GAP * rate].sum() > LOST * len(values):
        return None
    longest = int(lengths.argmax())
    text = f"{lengths[longest] / rate:.2g} s at {starts[longest] / rate:.3g} s without samples"
    if len(lengths) > 1:
        text += f", the longest of {len(lengths)} gaps"
    bridges.setdefault(f"{text}, bridged by a straight line", []).append(lead)
    places = np.arange(len(values))
    return np.interp(places, places[known], values[known])


def _check_size(path: Path, signal: np.ndarray, remedy: str) -> None:
    low, high = np.percentile(signal, (0.5, 99.5), axis=1)
    size = float(np.median(high - low))
    if not SIZES[0] <= size <= SIZES[1]:
        word = "small" if size < SIZES[0] else "large"
        raise unusable(path, f"its waves are {size:.2g} mV high, too {word} for a heart; {remedy}")


def _read_comments(record: Record) -> None:
    for line in record.comments:
        match = _PATIENT.match(line)
        if match is None:
            continue
        key, value = match.group(1).lower(), match.group(2)
        if key == "dx":
            record.codes = [code.strip() for code in value.split(",") if code.strip()]
        elif key == "sex":
            record.sex = {"m": "M", "f": "F"}.get(value[:1].lower())
        else:
            number = re.search(r"\d+(\.\d+)?", value)
            record.age = float(number.group()) if number else None
