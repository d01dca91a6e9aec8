"""Cells of a table as times and as numbers, with the line and the value of what cannot be read."""

from __future__ import annotations

import re
import warnings
from typing import Any

import numpy as np
import pandas as pd

from core.errors import DataError

MISSING = ("", "na", "n/a", "nan", "null", "none", "nil", "-", "?", "<na>")
_ZONE = r"(?<=\d)\s*(?:[Zz]|UTC|[+-]\d{2}:?\d{2})$"
_WITH_ZONE = r"\d{1,2}:\d{2}.*(?:[Zz]|UTC|[+-]\d{2}:?\d{2})$"


def is_number(cell: Any) -> bool:
    """Whether ``float`` reads a cell."""
    try:
        float(cell)
    except (TypeError, ValueError):
        return False
    return True


def distinct(column: pd.Series) -> tuple[np.ndarray, pd.Series]:
    """Returns the different cells of a column as text, in the order of their first, and which one each row has."""
    if column.dtype == object and pd.api.types.infer_dtype(column, skipna=False) != "string":
        column = column.astype(str)  # lists have no hash, and 1 equals True
    codes, cells = pd.factorize(column, use_na_sentinel=False)
    return codes, pd.Series(cells).astype(str)


def parse_numbers(
    column: pd.Series, numbers: np.ndarray, where: str, line: str, notes: list[str]
) -> np.ndarray:
    """Reads a column of numbers.

    Args:
        column: Cells of any type; text may carry a decimal comma throughout.
        numbers: Line of each cell, for the error.
        where: Name of the source.
        line: ``line`` or ``row``.
        notes: Receives what was assumed.

    Returns:
        float64, NaN for empty cells and the usual words for a missing value.

    Raises:
        DataError: A cell is no number: names the line, the column and the cell.
    """
    if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_complex_dtype(column):
        return column.to_numpy(dtype=np.float64, na_value=np.nan)
    if pd.api.types.is_datetime64_any_dtype(column):
        raise DataError(f"{where}: column {column.name!r} holds dates, not numbers; set data.target_column")
    values = pd.to_numeric(column, errors="coerce")
    empty = values.isna().to_numpy()
    bad = np.zeros(len(column), dtype=bool)
    bad[empty] = ~column[empty].astype(str).str.strip().str.lower().isin(MISSING)
    if bad.any():
        text = column.astype(str).str.strip()
        comma = text[bad].str.fullmatch(r"[+-]?\d*,\d+(?:[eE][+-]?\d+)?")
        if comma.all() and not text[~bad].str.contains(".", regex=False).any():
            notes.append(f"{where}: column {column.name!r} was read with decimal commas")
            values = pd.to_numeric(text.str.replace(",", ".", regex=False), errors="coerce")
        else:
            row = int(np.argmax(bad))
            cell = str(column.iloc[row])[:40]
            raise DataError(
                f"{where}, {line} {numbers[row]}, column {column.name!r}: {cell!r} is not a number; correct "
                "it, leave it empty if the value is missing, or choose other columns"
            )
    return values.to_numpy(dtype=np.float64, na_value=np.nan)


def parse_times(
    column: pd.Series, numbers: np.ndarray, where: str, line: str, notes: list[str], option: str
) -> np.ndarray:
    """Reads a column of times.

    Dates and periods of any type; text in ISO 8601 or another common form, ``2020Q1``; whole numbers of the
    form ``YYYY``, ``YYYYMM`` and ``YYYYMMDD``; other whole numbers count steps. Times with a zone become UTC,
    or keep their local date where every time of day is the same.

    Args:
        column: The cells.
        numbers: Line of each cell, for the error.
        where: Name of the source.
        line: ``line`` or ``row``.
        notes: Receives what was assumed.
        option: Configuration key of the column, for the error.

    Returns:
        ``datetime64[ns]`` without zone, or int64 steps.

    Raises:
        DataError: A cell is no time: names the line and the cell.
    """
    if isinstance(column.dtype, pd.PeriodDtype):
        return column.dt.to_timestamp().to_numpy(dtype="datetime64[ns]")
    if isinstance(column.dtype, pd.DatetimeTZDtype):
        local, world = column.dt.tz_localize(None), column.dt.tz_convert("UTC").dt.tz_localize(None)
        return _checked(_zoned(local, world, where, notes), column, numbers, where, line, option)
    if pd.api.types.is_datetime64_any_dtype(column):
        return _checked(column, column, numbers, where, line, option)
    if pd.api.types.is_bool_dtype(column):
        raise DataError(f"{where}: column {column.name!r} ({option}) holds true and false, not times")
    if pd.api.types.is_float_dtype(column) and (column.dropna() % 1 == 0).all() and not column.isna().any():
        column = column.astype(np.int64)
    codes, cells = distinct(column)  # each series has the same times
    times = _read_times(cells.str.strip(), where, notes)
    return _checked(times.iloc[codes], column, numbers, where, line, option)


def _read_times(text: pd.Series, where: str, notes: list[str]) -> pd.Series:
    """Returns text as dates without zone, NaT where it is none, or as whole numbers."""
    if text.str.fullmatch(r"[+-]?\d{1,18}").all():
        return _whole_numbers(text, where, notes)
    quarters = text.str.extract(r"^(\d{4})[-_ ]?[Qq]([1-4])$")
    if quarters[1].notna().all():
        months = quarters[1].astype(int) * 3 - 2
        text = quarters[0] + "-" + months.astype(str).str.zfill(2) + "-01"
    if text.str.contains(_WITH_ZONE).any():
        world = pd.to_datetime(text, errors="coerce", format="ISO8601", utc=True).dt.tz_localize(None)
        local = pd.to_datetime(text.str.replace(_ZONE, "", regex=True), errors="coerce", format="ISO8601")
        return _zoned(local, world, where, notes)
    return _dates(text, where, notes)


def _whole_numbers(text: pd.Series, where: str, notes: list[str]) -> pd.Series:
    values = text.astype(np.int64)
    for pattern, form, word in (
        (r"(?:1[5-9]|2[01])\d\d", "%Y", "years"),
        (r"(?:1[5-9]|2[01])\d\d(?:0[1-9]|1[0-2])", "%Y%m", "year and month"),
        (r"(?:1[5-9]|2[01])\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])", "%Y%m%d", "year, month and day"),
    ):
        if text.str.fullmatch(pattern).all():
            dates = pd.to_datetime(text, format=form, errors="coerce")
            if dates.notna().all():
                notes.append(f"{where}: whole-number times such as {text.iloc[0]} were read as {word}")
                return dates
    for digits, size, word in ((10, 10**9, "seconds"), (13, 10**6, "milliseconds")):
        if text.str.fullmatch(f"[1-4][0-9]{{{digits - 1}}}").all():
            notes.append(
                f"{where}: whole-number times such as {text.iloc[0]} were read as {word} since 1970, in UTC"
            )
            return pd.to_datetime(values * size)
    return values


def _dates(text: pd.Series, where: str, notes: list[str]) -> pd.Series:
    dates = pd.to_datetime(text, errors="coerce", format="ISO8601")
    if dates.notna().all():
        return dates
    best = dates
    # pandas would read the slip 2020-13-02 day first, as the 13th of February.
    year_first = text.str.match(r"\d{4}").any()
    orders = [False] if year_first else [False, True]
    if text.str.match(r"\d{1,2}\.\d{1,2}\.\d").all():
        orders = [True]  # countries that write dots write the day first
    whole = []
    for day_first in orders:
        with warnings.catch_warnings():
            # pandas says that it reads a column cell by cell, and that a date contradicts `dayfirst`.
            warnings.simplefilter("ignore", UserWarning)
            tried = pd.to_datetime(text, errors="coerce", dayfirst=day_first)
        if tried.notna().all():
            whole.append(tried)
        if tried.notna().sum() > best.notna().sum():
            best = tried
    if len(whole) == 2 and not whole[0].equals(whole[1]):
        notes.append(
            f"{where}: dates such as {text.iloc[0]} were read month first; write YYYY-MM-DD if that is wrong"
        )
    return whole[0] if whole else best


def _zoned(local: pd.Series, world: pd.Series, where: str, notes: list[str]) -> pd.Series:
    clock = local.dt.normalize()
    if (local - clock).nunique() <= 1:
        notes.append(f"{where}: times carry a zone; local dates were kept without it")
        return local.where(world.notna())
    notes.append(f"{where}: times carry a zone; they were converted to UTC, and so are the forecasts'")
    return world


def _checked(
    dates: pd.Series, column: pd.Series, numbers: np.ndarray, where: str, line: str, option: str
) -> np.ndarray:
    bad = dates.isna().to_numpy()
    if bad.any():
        row = int(np.argmax(bad))
        cell = str(column.iloc[row])[:40]
        more = f" ({int(bad.sum())} such cells)" if bad.sum() > 1 else ""
        raise DataError(
            f"{where}, {line} {numbers[row]}, column {column.name!r} ({option}): {cell!r} is not a date "
            f"between 1678 and 2261, or not in the form of the others{more}; write dates as YYYY-MM-DD"
        )
    return dates.to_numpy(dtype=np.int64 if dates.dtype.kind == "i" else "datetime64[ns]")


def zone_free(text: str) -> str:
    """Returns a time without the zone at its end."""
    return re.sub(_ZONE, "", text)
