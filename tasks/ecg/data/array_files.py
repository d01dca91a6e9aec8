"""Records in CSV and NumPy files."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tasks.ecg.config import LEADS
from tasks.ecg.data.raw import RawRecord, millivolts, unusable

TIMES = {"s": 1.0, "sec": 1.0, "seconds": 1.0, "ms": 1e-3, "milliseconds": 1e-3, "us": 1e-6}
"""Seconds in a unit of a CSV file's time column."""
KEYS = {
    "signal": ("signal", "signals", "ecg", "data", "x"),
    "rate": ("rate", "fs", "sampling_rate", "frequency"),
    "leads": ("leads", "lead_names", "sig_name"),
    "units": ("units", "unit"),
}
"""Names of the arrays in an .npz file, and names that others use for them."""

_TIME = re.compile(r"^(time|t|timestamp|seconds|ms)\s*(?:[(\[_]?\s*(\w+?)\s*[)\]]?)?$", re.IGNORECASE)
_UNIT = re.compile(r"^(?P<lead>.*?)\s*[(\[]\s*(?P<units>[munµμ]?v)\s*[)\]]$", re.IGNORECASE)
_COUNTERS = ("", "index", "sample", "samples", "n")
_JITTER = 0.3  # share of a sample's time by which times may be off a regular grid
_ROUND = 0.0005  # share by which a rate may be off a whole number through times that are rounded
_REMEDY = "check its unit, and give it by --units in predict, --data.units elsewhere"


def read_csv(path: Path, units: str, rate: float | None) -> RawRecord:
    """Reads a CSV file: a row of names, then a column a lead; a column ``time`` gives the rate.

    Names may carry a unit (``II (uV)``, ``time (ms)``). The separator is a comma, a semicolon or a tab.

    Raises:
        DataError: It is no such table, a column is not numbers, or nothing says the rate.
    """
    try:
        with path.open(encoding="utf-8-sig") as file:
            first = file.readline()
        separator = max(",;\t", key=first.count)
        table = pd.read_csv(path, sep=separator, encoding="utf-8-sig", skipinitialspace=True)
    except (UnicodeDecodeError, ValueError) as error:
        reason = " ".join(str(error).split())[:120]
        raise unusable(path, f"is no table of numbers ({reason})") from None
    names = [str(name).strip() for name in table.columns]
    if all(_is_number(name) for name in names):
        raise unusable(path, "its first row is numbers; it must name the leads, such as I,II,III")
    if table.empty:
        raise unusable(path, "holds no samples")
    rows, leads = [], []
    for name, (_, column) in zip(names, table.items(), strict=True):
        if name.lower() in _COUNTERS or name.startswith("Unnamed:"):
            continue
        values = _numbers(path, name, column)
        time = _TIME.match(name)
        if time:
            rate = _rate_of(path, name, values, time)
        else:
            unit = _UNIT.match(name)
            leads.append(unit["lead"] if unit else name)
            rows.append(values * millivolts(path, unit["units"] if unit else units))
    if not rows:
        raise unusable(path, "has no column of a lead")
    signal = np.stack(rows)
    _check_ends(path, leads, signal)
    return RawRecord(signal, _known(path, rate, "a column time"), leads, _REMEDY)


def read_numpy(path: Path, units: str, rate: float | None) -> RawRecord:
    """Reads an .npy file, or an .npz file with ``signal`` and, if known, ``rate``, ``leads`` and ``units``.

    The signal is ``(leads, samples)`` or ``(samples, leads)``; without names it must have twelve leads in the standard
    order.

    Raises:
        DataError: It is damaged, is not of numbers, has another shape, or nothing says the rate.
    """
    try:
        with path.open("rb") as file:
            loaded = np.load(file, allow_pickle=False)
            arrays = {"signal": loaded} if isinstance(loaded, np.ndarray) else dict(loaded)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        reason = " ".join(str(error).split())[:120]
        raise unusable(path, f"cannot be read as a NumPy file ({reason})") from None
    fields = {key: _first(arrays, names) for key, names in KEYS.items()}
    signal = fields["signal"]
    if signal is None:
        raise unusable(path, f"has no array called signal; it has {', '.join(arrays) or 'none'}")
    if signal.dtype.kind not in "iuf":
        raise unusable(path, f"its signal is of type {signal.dtype}, not real numbers")
    leads = list(LEADS) if fields["leads"] is None else [str(lead) for lead in np.ravel(fields["leads"])]
    signal = _leads_first(path, np.atleast_2d(signal), leads)
    given = units if fields["units"] is None else fields["units"]
    each = [str(unit) for unit in np.ravel(given)]
    if len(each) not in (1, len(leads)):
        raise unusable(path, f"names {len(leads)} leads and {len(each)} units")
    factors = np.array([millivolts(path, unit) for unit in each])
    if fields["rate"] is not None:
        rate = _one_number(path, fields["rate"])
    return RawRecord(
        signal.astype(np.float64) * factors[:, None], _known(path, rate, "an array rate"), leads, _REMEDY
    )


def _leads_first(path: Path, signal: np.ndarray, leads: list[str]) -> np.ndarray:
    if signal.ndim == 2 and signal.shape[0] == len(leads):
        return signal
    if signal.ndim == 2 and signal.shape[1] == len(leads):
        return signal.T
    raise unusable(
        path,
        f"its signal has the shape {signal.shape}, where one of two sides must be {len(leads)} leads; other leads "
        "need an .npz file with signal, rate and leads",
    )


def _first(arrays: dict[str, Any], names: tuple[str, ...]) -> Any:
    return next((arrays[name] for name in names if name in arrays), None)


def _one_number(path: Path, value: np.ndarray) -> float:
    if value.size != 1 or value.dtype.kind not in "iuf":
        raise unusable(path, "its rate is not one number")
    return float(value.ravel()[0])


def _known(path: Path, rate: float | None, where: str) -> float:
    if rate is None:
        raise unusable(
            path,
            f"does not say its sampling rate; add {where}, or give it by --input_rate in predict, --data.input_rate "
            "elsewhere",
        )
    return rate


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _numbers(path: Path, name: str, column: pd.Series) -> np.ndarray:
    numbers = pd.to_numeric(column, errors="coerce")
    wrong = np.flatnonzero(numbers.isna() & column.notna())
    if len(wrong):
        raise unusable(
            path, f"row {wrong[0] + 2}, column {name}: {str(column.iloc[wrong[0]])[:40]!r} is not a number"
        )
    return numbers.to_numpy(np.float64)


def _rate_of(path: Path, name: str, times: np.ndarray, match: re.Match[str]) -> float:
    unit = (match.group(2) or ("ms" if match.group(1).lower() == "ms" else "s")).lower()
    if unit not in TIMES:
        raise unusable(path, f"column {name}: unknown unit of time {unit!r}; known are s and ms")
    steps = np.diff(times)
    if not len(steps) or not np.isfinite(times).all():
        raise unusable(path, f"column {name}: needs two times or more, and none missing")
    step = float((times[-1] - times[0]) / len(steps))
    even = times[0] + step * np.arange(len(times))
    if step <= 0 or np.abs(times - even).max() > _JITTER * step:
        raise unusable(path, f"column {name}: the times are not evenly spaced; resample the record")
    rate = 1 / (step * TIMES[unit])
    return float(round(rate)) if abs(rate - round(rate)) < _ROUND * rate else rate


def _check_ends(path: Path, leads: list[str], signal: np.ndarray) -> None:
    ends = [int(np.flatnonzero(np.isfinite(row)).max(initial=-1)) + 1 for row in signal]
    lengths = {
        lead: end for lead, end in zip(leads, ends, strict=True) if end
    }  # an empty column is a lost lead
    if len(set(lengths.values())) > 1:
        short, long = min(lengths, key=lengths.__getitem__), max(lengths, key=lengths.__getitem__)
        raise unusable(
            path,
            f"leads are of unequal lengths: {short} {lengths[short]} samples, {long} {lengths[long]}; cut or fill them",
        )
