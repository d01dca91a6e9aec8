"""GluonTS' form of series: dicts with ``start``, ``target`` and ``item_id``, in memory or as JSON Lines."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from core.errors import DataError
from core.files import load_json
from tasks.forecasting.data.clean import group_rows
from tasks.forecasting.data.files import read_text
from tasks.forecasting.data.frequency import (
    default_horizon,
    default_seasonality,
    following_stamps,
    ordinals,
    parse_frequency,
    period,
    title,
)
from tasks.forecasting.data.grid import interpolated
from tasks.forecasting.data.rows import Rows
from tasks.forecasting.data.series import Group, SeriesData
from tasks.forecasting.data.values import is_number, zone_free

if TYPE_CHECKING:
    from tasks.forecasting.config import DataConfig


def from_gluonts(
    dataset: Iterable[Mapping[str, Any]],
    freq: str | None = None,
    horizon: int | None = None,
    seasonality: int | None = None,
) -> Group:
    """Reads a GluonTS dataset; every entry becomes one series, in order, and none is dropped.

    Args:
        dataset: Entries with ``target`` of shape ``(T,)`` and ``start`` (a Period, a Timestamp or text);
            missing values at the front are cut off, others are interpolated, and those at the end repeat the
            last value.
        freq: pandas alias; that of the first start's Period if None.
        horizon: Steps to forecast; the frequency's default if None.
        seasonality: Steps in a season; the frequency's default if None.

    Raises:
        DataError: No frequency is known, a target is no vector of numbers or has no value.
    """
    ids, history, starts = [], [], []
    for number, entry in enumerate(dataset):
        where = f"entry {number}"
        if freq is None:
            freq = getattr(entry.get("start"), "freqstr", None)
            if freq is None:
                raise DataError(f"{where}: `start` carries no frequency; give one, such as M or h")
        target = _target(entry, where)
        known = np.flatnonzero(np.isfinite(target))
        if not len(known):
            raise DataError(f"{where}: the target has no value; leave such series out")
        first = int(known[0])
        target = np.where(np.isfinite(target), target, np.nan)[first:]
        ids.append(str(entry.get("item_id", number)))
        history.append(interpolated(target))
        starts.append(_later(_start(entry, freq, where), first, freq))
    if freq is None:
        raise DataError("the dataset has no entries")
    alias = parse_frequency(freq).alias
    return Group(
        name=title(alias),
        freq=alias,
        seasonality=seasonality or default_seasonality(alias),
        horizon=horizon or default_horizon(alias),
        ids=ids,
        history=history,
        starts=starts,
    )


def load_json_lines(path: Path, config: DataConfig) -> SeriesData:
    """Reads JSON Lines as GluonTS writes them, gzipped or not.

    The frequency is ``data.freq``, or that of a ``metadata.json`` beside the file or in a folder ``metadata``
    near it.

    Raises:
        DataError: One line with the file, the line and what to do.
    """
    text, notes = read_text(path)
    freq = config.freq or _metadata_freq(path)
    if freq is None:
        raise DataError(f"{path}: JSON Lines carry no frequency; set data.freq, such as M, D or h")
    freq = parse_frequency(freq).alias
    ids, times, values, numbers = [], [], [], []
    seen: dict[str, int] = {}
    repeated = 0
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        where = f"{path.name}, line {number}"
        try:
            entry = load_json(line)
        except json.JSONDecodeError as error:
            raise DataError(
                f"{where}, column {error.colno}: not JSON ({error.msg}); each line is one whole object"
            ) from None
        if not isinstance(entry, dict) or not {"start", "target"} <= entry.keys():
            raise DataError(f"{where}: a line is an object with start, target and, if you like, item_id")
        target = _target(entry, where)
        if not len(target):
            notes.append(f"{where}: the target is empty; the series was dropped")
            continue
        identifier = str(entry.get("item_id", number - 1))
        seen[identifier] = seen.get(identifier, 0) + 1
        if seen[identifier] > 1:
            repeated += 1
            identifier = f"{identifier} ({seen[identifier]})"
        ids.append(np.full(len(target), identifier, dtype=object))
        start = _start(entry, freq, where)
        times.append(following_stamps(start, 0, len(target), freq, "start").to_numpy(dtype="datetime64[ns]"))
        values.append(target)
        numbers.append(np.full(len(target), number))
    if not ids:
        raise DataError(f"{path}: there is no series in it")
    if repeated:
        notes.append(f"{path.name}: {repeated} lines repeat an item_id; a number was added to theirs")
    rows = Rows(
        np.concatenate(ids), np.concatenate(times), np.concatenate(values), np.concatenate(numbers), path.name
    )
    data = group_rows(rows, config, path.name, freq)
    data.notes[:0] = notes
    return data


def _metadata_freq(path: Path) -> str | None:
    for place in (path.parent, path.parent / "metadata", path.parent.parent, path.parent.parent / "metadata"):
        try:
            found = load_json((place / "metadata.json").read_text())
        except (OSError, ValueError):
            continue
        if isinstance(found, dict) and isinstance(found.get("freq"), str):
            return found["freq"]
    return None


def _target(entry: Mapping[str, Any], where: str) -> np.ndarray:
    raw = entry.get("target")
    if isinstance(raw, np.ndarray) and raw.ndim == 1 and raw.dtype.kind in "fiu":
        return raw.astype(np.float64)
    if not isinstance(raw, list | tuple | np.ndarray) or (
        len(raw) and isinstance(raw[0], list | tuple | np.ndarray)
    ):
        raise DataError(
            f"{where}: target must be one list of numbers; series with several values a step are not read"
        )
    try:
        return np.array([np.nan if value is None else float(value) for value in raw], dtype=np.float64)
    except (TypeError, ValueError):
        bad = next(i for i, value in enumerate(raw) if value is not None and not is_number(value))
        raise DataError(f"{where}, target[{bad}]: {str(raw[bad])[:40]!r} is not a number") from None


def _start(entry: Mapping[str, Any], freq: str, where: str) -> pd.Period:
    start = entry.get("start")
    try:
        stamp = start.to_timestamp() if isinstance(start, pd.Period) else pd.Timestamp(zone_free(str(start)))
        if stamp is pd.NaT:
            raise ValueError("no time")
    except (TypeError, ValueError):
        raise DataError(f"{where}: start {str(start)[:40]!r} is not a date; write YYYY-MM-DD") from None
    return period(int(ordinals(np.array([stamp.to_datetime64()]), freq)[0]), freq)


def _later(start: pd.Period, steps: int, freq: str) -> pd.Period:
    parsed = parse_frequency(freq)
    number = int(ordinals(np.array([start.to_timestamp().to_datetime64()]), freq)[0])
    return period(number + steps * parsed.multiple, freq)
