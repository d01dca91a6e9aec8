"""Long and wide tables: CSV and Parquet files, and data frames in memory."""

from __future__ import annotations

import io
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from core.errors import DataError
from core.registry import nearest
from tasks.forecasting.data.clean import group_rows
from tasks.forecasting.data.files import read_text
from tasks.forecasting.data.rows import Rows
from tasks.forecasting.data.series import SeriesData
from tasks.forecasting.data.values import distinct, is_number, parse_numbers, parse_times

if TYPE_CHECKING:
    from tasks.forecasting.config import DataConfig

_TIME_NAMES = (
    "ds",
    "date",
    "datetime",
    "time",
    "timestamp",
    "period",
    "day",
    "week",
    "month",
    "quarter",
    "year",
)


def load_table(path: Path, config: DataConfig, shape: str) -> SeriesData:
    """Reads a CSV or Parquet file, gzipped or not.

    Args:
        path: The file.
        config: Column names and treatments.
        shape: ``long``, ``wide``, or ``auto``: long if the time and target columns are there.

    Raises:
        DataError: One line with the file, the line and what to do.
    """
    notes: list[str] = []
    if ".parquet" in path.suffixes:
        frame, numbers, line = _read_parquet(path), None, "row"
    else:
        frame, numbers, notes = _read_csv(path, config)
        line = "line"
    if numbers is None:
        numbers = np.arange(1, len(frame) + 1)
    if shape == "auto":
        columns = {str(column) for column in frame.columns}
        shape = (
            "long"
            if {config.time_column, config.target_column} <= columns or config.id_column in columns
            else "wide"
        )
    reader = _long_rows if shape == "long" else _wide_rows
    rows = reader(frame, config, numbers, path.name, line, notes)
    del frame  # its text takes more memory than all that follows
    data = group_rows(rows, config, path.name)
    data.notes[:0] = notes
    return data


def frame_to_data(frame: pd.DataFrame, config: DataConfig, name: str = "frame") -> SeriesData:
    """Reads a long data frame: one row a series and time.

    Args:
        frame: Columns ``config.id_column`` (may be absent: one series), ``config.time_column`` (dates,
            periods, strings or whole numbers) and ``config.target_column``.
        config: Column names, treatments, and whether the last values are held out.
        name: Name of the result and of the source in errors.

    Raises:
        DataError: A column is missing, or a value cannot be used; rows are counted from 1.
    """
    notes: list[str] = []
    rows = _long_rows(frame, config, np.arange(1, len(frame) + 1), name, "row", notes)
    data = group_rows(rows, config, name)
    data.notes[:0] = notes
    return data


def _read_parquet(path: Path) -> pd.DataFrame:
    if not path.is_file():
        raise DataError(f"{path}: there is no such file; check data.path")
    try:
        return pd.read_parquet(path).reset_index()
    except ImportError:
        raise DataError(f"{path}: Parquet needs the package pyarrow; run `pip install pyarrow`") from None
    except (OSError, ValueError) as error:  # pyarrow's errors are of these kinds
        reason = str(error).splitlines()[0].rstrip(".")
        raise DataError(f"{path}: not a whole Parquet file ({reason}); write or copy it again") from None


def _read_csv(path: Path, config: DataConfig) -> tuple[pd.DataFrame, np.ndarray, list[str]]:
    """Returns all cells as text, the line of each row, and notes; columns are 0, 1, ... without a header."""
    text, notes = read_text(path)
    content = text.encode()
    del text
    if b"\n" not in content:  # an old Mac's lines, on some of which pandas fails
        content = content.replace(b"\r", b"\n")
    filled, first = _filled_lines(content)
    separator = max(",;\t|", key=first.count)
    if separator != ",":
        notes.append(f"{path.name}: columns are separated by {separator!r}")
    cells = [cell.strip().strip('"') for cell in first.split(separator)]
    header = not all(is_number(cell.replace(",", ".")) or cell == "" for cell in cells)
    # Names and times stand in many rows: each is kept once.
    shared = {name: "category" for name in (config.id_column, config.time_column) if header and name in cells}
    try:
        frame = pd.read_csv(
            io.BytesIO(content),
            sep=separator,
            header=0 if header else None,
            dtype=defaultdict(lambda: "str", shared),
            keep_default_na=False,
            skipinitialspace=True,
            index_col=False,
        )
    except pd.errors.ParserError as error:
        reason = str(error).strip().splitlines()[-1].removeprefix("Error tokenizing data. C error: ")
        raise DataError(
            f"{path}: the rows do not have the same number of columns ({reason}); correct that line"
        ) from None
    if not len(frame):
        raise DataError(f"{path}: there is a header but no row below it")
    if header:
        frame.columns = frame.columns.str.strip()
    else:
        notes.append(f"{path.name}: there is no header; the columns are numbered from 0")
    numbers = filled[int(header) :]
    if len(numbers) != len(frame):  # a quoted line break: rows are counted instead of lines
        numbers = np.arange(1, len(frame) + 1) + int(header)
    return frame, numbers, notes


def _filled_lines(content: bytes) -> tuple[np.ndarray, str]:
    """Returns the numbers of the lines that are not blank, from 1, and the text of the first."""
    codes = np.frombuffer(content, np.uint8)
    ends = np.flatnonzero(codes == ord("\n")) + 1
    starts = np.concatenate(([0], ends[ends < len(codes)]))
    filled = np.flatnonzero(np.logical_or.reduceat(codes > ord(" "), starts))
    begin = starts[filled[0]]
    end = ends[filled[0]] if filled[0] < len(ends) else len(codes)
    return filled + 1, content[begin:end].decode().rstrip("\r\n")


def _require(frame: pd.DataFrame, column: str, option: str, where: str) -> None:
    names = [str(name) for name in frame.columns]
    if column not in names:
        shown = ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")
        raise DataError(
            f"{where}: there is no column {column!r} (data.{option}).{nearest(column, names)} "
            f"The columns are: {shown}"
        )


def _long_rows(
    frame: pd.DataFrame, config: DataConfig, numbers: np.ndarray, where: str, line: str, notes: list[str]
) -> Rows:
    _require(frame, config.time_column, "time_column", where)
    _require(frame, config.target_column, "target_column", where)
    if not len(frame):
        raise DataError(f"{where}: there are no rows")
    if config.id_column in frame.columns:
        column = frame[config.id_column]
        codes, names = distinct(column)
        blank = column.isna().to_numpy() | (names.str.strip() == "").to_numpy()[codes]
        if blank.any():
            raise DataError(
                f"{where}, {line} {numbers[int(np.argmax(blank))]}: column {config.id_column!r} is empty; "
                "every row needs the name of its series"
            )
        ids = names.to_numpy(dtype=object)[codes]
    elif config.id_column == "unique_id":
        ids = np.full(len(frame), where.split(".")[0], dtype=object)
        notes.append(f"{where}: there is no column 'unique_id' (data.id_column); all rows are one series")
    else:
        _require(frame, config.id_column, "id_column", where)
    times = parse_times(frame[config.time_column], numbers, where, line, notes, "data.time_column")
    values = parse_numbers(frame[config.target_column], numbers, where, line, notes)
    return Rows(ids, times, values, np.asarray(numbers), where, line)


def _wide_rows(
    frame: pd.DataFrame, config: DataConfig, numbers: np.ndarray, where: str, line: str, notes: list[str]
) -> Rows:
    blank = [name for name in frame.columns if str(name).startswith("Unnamed:") and (frame[name] == "").all()]
    frame = frame.drop(columns=blank)
    column = _time_column(frame, config)
    times: np.ndarray
    if column is None:
        times = np.arange(len(frame), dtype=np.int64)
        notes.append(f"{where}: there is no time column (data.time_column); rows are steps 0, 1, 2, ...")
    else:
        times = parse_times(frame[column], numbers, where, line, notes, "data.time_column")
        frame = frame.drop(columns=[column])
    if not frame.shape[1]:
        raise DataError(f"{where}: there is no column beside the times; a wide table has one column a series")
    values = [parse_numbers(frame[name], numbers, where, line, notes) for name in frame.columns]
    count, width = frame.shape
    ids = np.repeat(np.array([str(name) for name in frame.columns], dtype=object), count)
    return Rows(ids, np.tile(times, width), np.concatenate(values), np.tile(numbers, width), where, line)


def _time_column(frame: pd.DataFrame, config: DataConfig) -> Any:
    if config.time_column in frame.columns:
        return config.time_column
    if config.time_column != "ds":
        _require(frame, config.time_column, "time_column", "the wide table")
    for name in frame.columns:
        if str(name).lower() in _TIME_NAMES or pd.api.types.is_datetime64_any_dtype(frame[name]):
            return name
    first = frame.columns[0]
    # A first column of anything but numbers can only hold the times.
    numeric = pd.api.types.is_numeric_dtype(frame[first])
    return None if numeric or is_number(str(frame[first].iloc[0]).replace(",", ".")) else first
