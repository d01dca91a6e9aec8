"""Observations on a regular grid of steps: positions, duplicates, gaps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from core.errors import DataError
from tasks.forecasting.data.frequency import ordinals, parse_frequency, period
from tasks.forecasting.data.rows import Rows
from tasks.forecasting.data.series import Stamp, step_start

if TYPE_CHECKING:
    from tasks.forecasting.config import DataConfig

# A series may hold this many times more empty steps than values before its dates are taken for wrong.
MOST_EMPTY = 20

# numpy's units of the steps whose start is a clock time.
_UNITS = {"B": "D", "D": "D", "h": "h", "min": "m", "s": "s"}


def positions_of(
    rows: Rows, codes: np.ndarray, freq: str, stamp: Stamp, notes: list[str]
) -> tuple[np.ndarray, dict[int, pd.Period]]:
    """Returns the step of each row from the first of its series, and that one's period by series number."""
    begins = np.flatnonzero(np.diff(codes, prepend=-1))
    owner = np.cumsum(np.diff(codes, prepend=-1) != 0) - 1
    if stamp == "step":
        starts = {int(codes[row]): step_start(int(rows.times[row]), freq) for row in begins}
        return rows.times.astype(np.int64) - rows.times[begins].astype(np.int64)[owner], starts
    numbers = ordinals(rows.times, freq)
    starts = {int(codes[row]): period(int(numbers[row]), freq) for row in begins}
    multiple = parse_frequency(freq).multiple
    distance = numbers - numbers[begins][owner]
    positions = np.rint(distance / multiple).astype(np.int64)
    off = np.flatnonzero(positions * multiple != distance)
    if len(off) > 0.2 * len(rows.values):
        row = off[0]
        raise DataError(
            f"{rows.where}: timestamps are irregular: {len(off)} of {len(rows.values)} are not whole steps "
            f"of {freq} after the first of their series (first: {rows.line} {rows.numbers[row]}, "
            f"{_time(rows.times[row])}); resample the data or set data.freq"
        )
    if len(off):
        row = off[0]
        notes.append(
            f"timestamps between the steps of {freq}: {len(off)} (first: {rows.line} {rows.numbers[row]}, "
            f"{_time(rows.times[row])}), moved to the nearest step"
        )
    unit = _UNITS.get(parse_frequency(freq).base)
    if unit:
        inside = np.flatnonzero(rows.times.astype(f"datetime64[{unit}]") != rows.times)
        if len(inside):
            row = inside[0]
            notes.append(
                f"timestamps inside a step of {freq}: {len(inside)} (first: {rows.line} {rows.numbers[row]}, "
                f"{_time(rows.times[row])}), set to its start"
            )
    return positions, starts


def _time(value: np.datetime64 | np.int64) -> str:
    return str(pd.Timestamp(value)) if isinstance(value, np.datetime64) else str(value)


def without_duplicates(
    rows: Rows, codes: np.ndarray, positions: np.ndarray, config: DataConfig, freq: str, notes: list[str]
) -> tuple[Rows, np.ndarray, np.ndarray]:
    """Leaves one row a step; rows are sorted by series and time."""
    repeated = np.flatnonzero((codes[1:] == codes[:-1]) & (positions[1:] == positions[:-1])) + 1
    if not len(repeated):
        return rows, codes, positions
    before, after = rows.values[repeated - 1], rows.values[repeated]
    differ = ~((before == after) | (np.isnan(before) & np.isnan(after)))
    if differ.any() and config.duplicates == "error":
        row = repeated[differ][0]
        apart = rows.times[row] != rows.times[row - 1]
        both = (
            f"times {_time(rows.times[row - 1])} and {_time(rows.times[row])} in one step of {freq}"
            if apart
            else f"time {_time(rows.times[row])} twice"
        )
        raise DataError(
            f"{rows.where}: series {rows.ids[row]} has {both} with different values ({rows.line}s "
            f"{rows.numbers[row - 1]} and {rows.numbers[row]}); correct the file, or set "
            "data.duplicates to first, last or mean"
            + (", or data.freq to a finer frequency" if apart else "")
        )
    first = np.ones(len(codes), dtype=bool)
    first[repeated] = False
    if config.duplicates == "mean":
        step = np.cumsum(first) - 1
        mean = pd.Series(rows.values).groupby(step).mean().to_numpy()
        kept = rows.take(first)
        kept.values = mean
        keep = first
    else:
        keep = first if config.duplicates != "last" else np.append(first[1:], True)
        kept = rows.take(keep)
    same = int((~differ).sum())
    if same:
        notes.append(f"rows that repeat another row: {same}, dropped")
    if differ.any():
        notes.append(
            f"rows with a time that their series already has: {int(differ.sum())}, resolved by "
            f"data.duplicates {config.duplicates}"
        )
    return kept, codes[keep], positions[keep]


def regular(rows: Rows, part: slice, positions: np.ndarray, identifier: str) -> tuple[np.ndarray, int, int]:
    """Lays one series on its grid, without what is missing before the first and after the last known value.

    Args:
        rows: Observations sorted by series and time.
        part: Those of the series.
        positions: Their steps, from 0, ascending.
        identifier: Name of the series.

    Returns:
        Values with NaN in gaps (empty if nothing is known), the step of the first, and how many given values
        were cut off.

    Raises:
        DataError: Nearly all steps are empty: a date is wrong.
    """
    length, known = int(positions[-1]) + 1, len(positions)
    if length > MOST_EMPTY * known + 1000:
        jump = int(np.argmax(np.diff(positions)))
        before, after = part.start + jump, part.start + jump + 1
        raise DataError(
            f"{rows.where}: series {identifier} jumps from {_time(rows.times[before])} to "
            f"{_time(rows.times[after])} "
            f"({rows.line}s {rows.numbers[before]} and {rows.numbers[after]}), {length - known} empty "
            "steps in all; correct the dates or set data.freq"
        )
    full = np.full(length, np.nan)
    full[positions] = rows.values[part]
    finite = np.flatnonzero(~np.isnan(full))
    if not len(finite):
        return full[:0], 0, 0
    first, last = int(finite[0]), int(finite[-1]) + 1
    return full[first:last].copy(), first, int(((positions < first) | (positions >= last)).sum())


def interpolated(values: np.ndarray) -> np.ndarray:
    """Fills NaN on straight lines between neighbours, and carries the last value on."""
    missing = np.isnan(values)
    if not missing.any():
        return values.copy()
    steps = np.arange(len(values))
    return np.interp(steps, steps[~missing], values[~missing])


def later(start: pd.Period, steps: int, freq: str, stamp: Stamp) -> pd.Period:
    """Returns the start of a series moved by a number of steps, over weekends for ``B``."""
    parsed = parse_frequency(freq)
    if parsed.base == "B" and stamp != "step":
        day = np.busday_offset(
            np.datetime64(start.to_timestamp(), "D"), steps * parsed.multiple, roll="forward"
        )
        return pd.Period(pd.Timestamp(day), freq="D")
    return start + steps
