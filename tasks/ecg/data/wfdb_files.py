"""WFDB records: a text header, and samples in .dat or, as in the PhysioNet/CinC challenges, MATLAB 4 files."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

import numpy as np
import wfdb

from tasks.ecg.data.raw import MILLIVOLTS, RawRecord, unusable

BYTES = {
    "8": 1,
    "16": 2,
    "24": 3,
    "32": 4,
    "61": 2,
    "80": 1,
    "160": 2,
    "212": 1.5,
    "310": 4 / 3,
    "311": 4 / 3,
}
"""Bytes of a sample in each format of fixed length."""
COMPRESSED = ("508", "516", "524")

_GAIN = re.compile(r"^(?P<gain>[-+0-9.eE]*)(\([-+0-9]+\))?(/(?P<units>\S+))?$")
_FORMAT = re.compile(r"^(?P<fmt>\d+)(x(?P<frame>\d+))?(:\d+)?(\+(?P<offset>\d+))?$")
_NORMALISED_GAIN = 1000.0  # units/mV
_EXCESS = 0.01  # share by which a file may be longer than its header says: some writers pad blocks
_REMEDY = "correct gain and unit in the header"


def header_of(path: Path) -> Path | None:
    """Returns the header of a WFDB record that is given by any of its names, None if the file is of another kind.

    Raises:
        DataError: It is a .mat or .dat without a header beside it.
    """
    if path.suffix.lower() == ".hea":
        return path
    beside = path.with_name(path.name + ".hea")
    if beside.exists():
        return beside
    if path.suffix.lower() not in (".mat", ".dat"):
        return None
    beside = path.with_suffix(".hea")
    if not beside.exists():
        raise unusable(path, f"has no header {beside.name} beside it, which gives rate, gain and leads")
    return beside


def read_wfdb(header: Path) -> RawRecord:
    """Reads a record by its header.

    Raises:
        DataError: A file is missing or damaged, or is shorter or longer than the header says.
    """
    if not header.is_file():
        raise unusable(header, "there is no such header")
    lines = [line.strip() for line in header.read_text(encoding="utf-8", errors="replace").splitlines()]
    lines = [line for line in lines if line]
    fields = [line.split() for line in lines if not line.startswith("#")]
    if not fields:
        raise unusable(header, "is no WFDB header: it has no first line with name, number of leads and rate")
    several = "/" in fields[0][0]  # segments, with a header each
    notes = [] if several else _check_signals(header, fields)
    if len(fields[0]) < 3:
        notes.append("the header gives no sampling rate: 250 Hz, WFDB's default")
    try:
        record = wfdb.rdrecord(str(header.with_suffix("")))
    except Exception as error:  # wfdb raises whatever its parser meets in a damaged file
        raise unusable(header, f"cannot be read as a WFDB record ({_reason(error)})") from None
    if record.p_signal is None or not record.sig_name:
        raise unusable(header, "has no leads")
    if not all(record.sig_name):
        raise unusable(header, "does not name its leads; add their names at the ends of their lines")
    signal = record.p_signal
    if _is_normalised(signal):
        signal = signal * (np.asarray(record.adc_gain) / _NORMALISED_GAIN)
        notes.append("header gains are each lead's range (as in LUDB): taken as 1 µV a unit")
    rows, leads, others = [], [], []
    # wfdb reads headers as ASCII, and takes µV for V.
    units = record.units if several else [_units(line) or "mV" for line in fields[1:]]
    for name, unit, values in zip(record.sig_name, units, signal.T, strict=True):
        factor = MILLIVOLTS.get(str(unit).lower())
        if factor is None:
            others.append(f"{name} ({unit})")
        else:
            leads.append(str(name))
            rows.append(values * factor)
    if not rows:
        raise unusable(header, f"no lead is in a unit of voltage: {', '.join(others)}; correct the header")
    if others:
        notes.append(f"not in a unit of voltage, left out: {', '.join(others)}")
    comments = [line.lstrip("#").strip() for line in lines if line.startswith("#") and line.strip("# ")]
    return RawRecord(np.stack(rows), float(record.fs), leads, _REMEDY, comments, notes)


def _check_signals(header: Path, fields: list[list[str]]) -> list[str]:
    first, signals = fields[0], fields[1:]
    if len(first) < 2 or not first[1].isdigit():
        raise unusable(header, f"is no WFDB header: its first line is {' '.join(first)[:60]!r}")
    count = int(first[1])
    if not count:
        raise unusable(header, "has no leads")
    if len(signals) != count:
        raise unusable(header, f"promises {count} leads, and has lines of {len(signals)}")
    if len(first) > 2 and _number(re.split(r"[/(]", first[2])[0]) <= 0:
        raise unusable(header, f"gives {first[2]} as the sampling rate; correct its first line")
    samples = int(first[3]) if len(first) > 3 and first[3].isdigit() else 0
    _check_files(header, signals, samples)
    notes = []
    lacking = sum(not _gain(line) for line in signals)
    if lacking:
        notes.append(f"the header gives no gain for {lacking} of {count} leads: 200 units/mV, WFDB's default")
    if not all(_units(line) for line in signals):
        notes.append("the header gives no unit: mV, WFDB's default")
    return notes


def _check_files(header: Path, signals: list[list[str]], samples: int) -> None:
    frames: dict[str, float] = defaultdict(float)
    offsets: dict[str, int] = {}
    for number, fields in enumerate(signals, 1):
        found = _FORMAT.match(fields[1]) if len(fields) > 1 else None
        if found is None or found["fmt"] not in (*BYTES, *COMPRESSED):
            raise unusable(header, f"lead {number} has no format that is known: {' '.join(fields)[:60]!r}")
        if len(fields) > 2 and not _GAIN.match(fields[2]):
            raise unusable(header, f"lead {number} has no gain that can be read: {fields[2][:60]!r}")
        frames[fields[0]] += BYTES.get(found["fmt"], 0) * int(found["frame"] or 1)
        offsets[fields[0]] = int(found["offset"] or 0)
    lengths = {}
    for name, frame in frames.items():
        path = header.parent / name
        if not path.is_file():
            raise unusable(header, f"its file {name} is missing; copy it beside the header")
        if not path.stat().st_size:
            raise unusable(path, "is empty (0 bytes)")
        _check_matlab(path)
        if frame:  # a compressed file's length says nothing
            lengths[name] = (path.stat().st_size - offsets[name]) / frame
    for name, length in lengths.items():
        promised = samples or round(min(lengths.values()))
        if length < promised - 0.5:
            raise unusable(
                header.parent / name,
                f"is cut off: holds {int(length)} of the {promised} samples that {header.name} promises",
            )
        if length > promised * (1 + _EXCESS) + 1:
            raise unusable(
                header.parent / name,
                f"holds {int(length)} samples, and {header.name} promises {promised}; correct the header",
            )


def _check_matlab(path: Path) -> None:
    if path.suffix.lower() == ".mat":
        with path.open("rb") as file:
            if file.read(6) == b"MATLAB":
                raise unusable(path, "is of MATLAB 5 or later; WFDB reads MATLAB 4: save it with -v4")


def _is_normalised(signal: np.ndarray) -> bool:
    """Whether the gains of a header are each lead's own range, as in LUDB: Einthoven's law holds without them alone."""
    return signal.shape[1] > 1 and bool(np.all(np.abs(np.ptp(signal, axis=0) - 1) < 1e-9))


def _gain(line: list[str]) -> float:
    found = _GAIN.match(line[2]) if len(line) > 2 else None
    return _number(found["gain"]) if found else 0.0


def _units(line: list[str]) -> str | None:
    found = _GAIN.match(line[2]) if len(line) > 2 else None
    return found["units"] if found else None


def _number(text: str | None) -> float:
    try:
        return float(text or 0)
    except ValueError:
        return 0.0


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:120] or type(error).__name__
