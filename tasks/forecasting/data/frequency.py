"""Frequencies: their names, seasonality, horizon, and how they are read off timestamps."""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd

from core.errors import DataError

Stamp = Literal["start", "end", "step"]

STEP_ORIGIN = "2000-01-01"
"""Where time 0 lies for data that counts steps instead of giving dates."""

MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
DAYS = ("MON", "TUE", "WED", "THU", "FRI", "SAT", "SUN")

# Offset aliases of pandas (a month's start or end) and those that pandas 2.2 renamed, to period aliases.
_ALIASES = {
    "YE": "Y", "YS": "Y", "A": "Y", "AS": "Y", "BYE": "Y", "BYS": "Y",
    "QE": "Q", "QS": "Q", "BQE": "Q", "BQS": "Q",
    "ME": "M", "MS": "M", "BME": "M", "BMS": "M", "BM": "M",
    "H": "h", "T": "min", "S": "s", "L": "ms",
    "d": "D", "w": "W", "m": "M", "q": "Q", "y": "Y", "C": "B",
}  # fmt: skip
_TITLES = {"Y": "Yearly", "Q": "Quarterly", "M": "Monthly", "W": "Weekly", "D": "Daily", "h": "Hourly",
           "B": "Weekdays"}  # fmt: skip
_SEASONALITY = {"Y": 1, "Q": 4, "M": 12, "W": 52, "B": 5, "D": 7, "h": 24, "min": 1440, "s": 60, "ms": 1000}
_HORIZON = {"Y": 6, "Q": 8, "M": 18, "W": 13, "B": 10, "D": 14, "h": 48}
_NANOSECONDS = {"ms": 10**6, "s": 10**9, "min": 60 * 10**9, "h": 3600 * 10**9}
_DAY = 86400 * 10**9
# Steps that clocks are set to; timestamps within 2 % of one are taken for it.
_USUAL_STEPS = [s * 10**9 for s in (1, 5, 10, 15, 30)] + [
    m * 60 * 10**9 for m in (1, 5, 10, 15, 20, 30, 60, 120, 180, 240, 360, 480, 720)
]


class Frequency(NamedTuple):
    """A parsed alias: ``(15, "min", "")`` is ``15min``, ``(1, "W", "-WED")`` is ``W-WED``."""

    multiple: int
    base: str
    anchor: str

    @property
    def alias(self) -> str:
        """The period alias of pandas."""
        return f"{self.multiple if self.multiple > 1 else ''}{self.base}{self.anchor}"


def parse_frequency(text: str) -> Frequency:
    """Reads an offset or period alias of pandas, old or new: ``MS``, ``H``, ``15T``, ``W-WED``, ``QS-JAN``.

    Raises:
        DataError: It is not one of them.
    """
    match = re.fullmatch(r"(\d*)([A-Za-z]+)(-[A-Za-z]{3})?", text.strip())
    known = ", ".join(_SEASONALITY)
    if match is None:
        raise DataError(f"data.freq: {text!r} is not a pandas frequency; use one of {known}, such as 15min")
    number, base, anchor = match.groups()
    parsed = _ALIASES.get(base, base)
    if parsed not in _SEASONALITY or number == "0":
        raise DataError(f"data.freq: {text!r} is not a pandas frequency; use one of {known}, such as 15min")
    suffix = (anchor or "").upper()
    if parsed not in ("Y", "Q", "W"):
        suffix = ""
    elif suffix and base.endswith("S"):
        # QS-JAN starts in January; as a period it ends in December.
        suffix = "-" + MONTHS[MONTHS.index(suffix[1:]) - 1] if suffix[1:] in MONTHS else suffix
    if suffix and suffix[1:] not in (DAYS if parsed == "W" else MONTHS):
        raise DataError(f"data.freq: {text!r} names no {'weekday' if parsed == 'W' else 'month'}")
    return Frequency(int(number or 1), parsed, suffix)


def title(freq: str) -> str:
    """Returns the group name of a frequency: ``Monthly`` for ``M``, the alias itself for ``15min``."""
    parsed = parse_frequency(freq)
    return _TITLES.get(parsed.base, parsed.alias) if parsed.multiple == 1 else parsed.alias


def default_seasonality(freq: str) -> int:
    """Steps in a season.

    Y 1, Q 4, M 12, W 52, B 5, D 7, h 24, min 1440, s 60, ms 1000; divided by the multiple where that leaves
    no rest (``15min`` 96, ``2h`` 12), else 1. The M4 competition takes 1 for W and D instead.
    """
    parsed = parse_frequency(freq)
    season, rest = divmod(_SEASONALITY[parsed.base], parsed.multiple)
    return season if not rest else 1


def default_horizon(freq: str) -> int:
    """Steps to forecast if nothing is said: those of the M4 competition (Y 6, Q 8, M 18, W 13, D 14, h 48).

    10 for B; one season, at most 96, for every other frequency.
    """
    parsed = parse_frequency(freq)
    if parsed.multiple == 1 and parsed.base in _HORIZON:
        return _HORIZON[parsed.base]
    return int(np.clip(default_seasonality(freq), 8, 96))


def ordinals(times: np.ndarray, freq: str) -> np.ndarray:
    """Numbers the periods that hold the given ``datetime64`` times, in units of the base frequency.

    ``15min`` counts minutes, so neighbours are 15 apart; ``B`` counts weekdays, a weekend belonging to
    Monday.
    """
    parsed = parse_frequency(freq)
    if parsed.base == "B":
        days = times.astype("datetime64[D]")
        return np.busday_count(np.datetime64("1970-01-01"), np.busday_offset(days, 0, roll="forward"))
    return pd.PeriodIndex(pd.DatetimeIndex(times), freq=parsed._replace(multiple=1).alias).asi8


def period(ordinal: int, freq: str) -> pd.Period:
    """Returns the period of an :func:`ordinals` number; a daily one for ``B``."""
    parsed = parse_frequency(freq)
    if parsed.base == "B":
        return pd.Period(pd.Timestamp(np.busday_offset("1970-01-01", ordinal, roll="forward")), freq="D")
    return _periods(np.array([ordinal]), parsed)[0]


def following_stamps(start: pd.Period, offset: int, count: int, freq: str, stamp: Stamp) -> pd.Index:
    """Returns the times of steps ``offset .. offset + count - 1`` after ``start``; see ``Group.stamp``.

    Text where pandas has no timestamps any more, after 2262.
    """
    parsed = parse_frequency(freq)
    steps = np.arange(offset, offset + count)
    if stamp == "step":
        origin = pd.Period(STEP_ORIGIN, freq=start.freqstr).ordinal
        return pd.Index((start.ordinal - origin) // parsed.multiple + steps)
    if parsed.base == "B":
        first = np.datetime64(start.to_timestamp(), "D")
        days = np.busday_offset(first, steps * parsed.multiple, roll="forward")
        return pd.DatetimeIndex(days.astype("datetime64[ns]"))
    periods = _periods(start.ordinal + steps * parsed.multiple, parsed)
    try:
        if stamp == "end":
            # pandas ends "2M" after two months; data that is stamped at ends means the end of the first.
            single = _periods(periods.asi8, parsed._replace(multiple=1))
            return single.to_timestamp(how="end").normalize()
        return periods.to_timestamp(how="start")
    except pd.errors.OutOfBoundsDatetime:  # timestamps end in 2262; some yearly series of M4 have 835 values
        return periods.astype(str)


def _periods(numbers: np.ndarray, parsed: Frequency) -> pd.PeriodIndex:
    dtype = pd.PeriodDtype(parsed.alias)
    return pd.PeriodIndex(pd.arrays.PeriodArray(numbers.astype(np.int64), dtype=dtype))


def infer_frequencies(codes: np.ndarray, times: np.ndarray) -> list[str | None]:
    """Reads the frequency of each series off the usual distance of its timestamps.

    Args:
        codes: ``(R,)`` series number of each row, 0 .. S-1, ascending.
        times: ``(R,)`` ``datetime64[ns]``, ascending in each series.

    Returns:
        A period alias without anchor for each of the S series, None where a series has a single timestamp.

    Raises:
        ValueError: A distance fits no frequency; the message is the distance.
    """
    series = int(codes[-1]) + 1
    inner = codes[1:] == codes[:-1]
    step = np.diff(times.astype("datetime64[ns]").astype(np.int64))
    inner &= step > 0
    owner, step = codes[1:][inner], step[inner]
    if not len(step):
        return [None] * series
    usual = pd.Series(step).groupby(owner).quantile(0.5, interpolation="lower")
    # Daily data that never falls on a weekend and jumps over one is weekday data.
    weekday = (times.astype("datetime64[D]").astype(np.int64) + 3) % 7
    found: list[str | None] = [None] * series
    months = times.astype("datetime64[M]").astype(np.int64)
    month_step = pd.Series(np.diff(months)[inner]).groupby(owner).quantile(0.5, interpolation="lower")
    daily = usual.index[usual == _DAY].to_numpy()
    rows = np.isin(codes, daily)
    weekdays = bool(len(daily)) and not (weekday[rows] >= 5).any()
    weekdays &= bool((step[np.isin(owner, daily)] >= 3 * _DAY).any())
    for code, distance in zip(usual.index.to_numpy(), usual.to_numpy(), strict=True):
        if distance >= 27.5 * _DAY:
            found[code] = _calendar(int(month_step[code]))
        elif distance == _DAY and weekdays:
            found[code] = "B"
        else:
            found[code] = _clock(int(distance))
    return found


def _calendar(months: int) -> str:
    for length, base in ((12, "Y"), (3, "Q")):
        if months == length:
            return base
    return "M" if months <= 1 else Frequency(months, "M", "").alias


def _clock(distance: int) -> str:
    usual = min(_USUAL_STEPS, key=lambda step: abs(step - distance))
    if abs(usual - distance) <= 0.02 * usual:
        distance = usual
    elif abs(distance - _DAY) <= 0.05 * _DAY:
        distance = _DAY  # a day that daylight saving made an hour longer or shorter
    days, rest = divmod(distance, _DAY)
    if not rest:
        return Frequency(days // 7, "W", "").alias if days % 7 == 0 else Frequency(days, "D", "").alias
    for base in ("h", "min", "s", "ms"):
        if distance % _NANOSECONDS[base] == 0:
            return Frequency(distance // _NANOSECONDS[base], base, "").alias
    raise ValueError(str(pd.Timedelta(distance, "ns")))


def anchor_frequency(freq: str, times: np.ndarray) -> tuple[str, Stamp]:
    """Finds the weekday or month that weekly, quarterly and yearly periods end at, and where stamps stand.

    Args:
        freq: A period alias; an anchor that it already has is kept.
        times: ``datetime64`` times of all series of this frequency.

    Returns:
        The anchored alias, and ``start`` or ``end``: whether each time is the last day of its period.
    """
    parsed = parse_frequency(freq)
    index = pd.DatetimeIndex(np.unique(times.astype("datetime64[D]")))
    if parsed.base == "W" and not parsed.anchor:
        days = index.dayofweek.unique()
        # Weeks that are written as their Monday are ordinary weeks; any other weekday is a week's last day.
        one = len(days) == 1 and days[0] != 0
        return parsed._replace(
            anchor="-" + DAYS[int(days[0])] if one else "-SUN"
        ).alias, "end" if one else "start"
    if parsed.base in ("Y", "Q", "M"):
        ends = bool(index.is_month_end.all()) and not bool((index.day == 1).any())
        if parsed.base != "M" and not parsed.anchor:
            length = 12 if parsed.base == "Y" else 3
            last = index.month.to_numpy() - 1 - (0 if ends else 1)
            phases = np.unique(last % length)
            # Different series may close their year in different months: then calendar years for all.
            month = int(phases[0]) + 12 - length if len(phases) == 1 else 11
            parsed = parsed._replace(anchor="-" + MONTHS[month])
            ends &= len(phases) == 1
        return parsed.alias, "end" if ends else "start"
    if parsed.base == "W":
        single = pd.PeriodIndex(index, freq=parsed._replace(multiple=1).alias)
        return parsed.alias, "end" if (single.to_timestamp(how="end").normalize() == index).all() else "start"
    return parsed.alias, "start"
