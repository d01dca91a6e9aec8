"""Time series in memory: groups of one frequency with a history and the values that follow it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from tasks.forecasting.data.frequency import STEP_ORIGIN, Stamp, following_stamps


@dataclass
class Group:
    """Series of one frequency that share horizon and seasonality.

    Attributes:
        name: ``Yearly``, ``Quarterly``, ``Monthly``, ``Weekly``, ``Daily``, ``Hourly``, ``Other`` or the
            alias.
        freq: pandas period alias: ``Y``, ``Q``, ``M``, ``W-SUN``, ``D``, ``h``, ``15min``; ``B`` for
            weekdays.
        seasonality: Steps in a season, ``m``.
        horizon: Steps to forecast, ``H``.
        ids: Name of each series, unique in the group; length N.
        history: In-sample values of each series, oldest first, float64, finite, at least one value.
        starts: Period of ``history[i][0]``; daily periods where ``freq`` is ``B``, which pandas has no period
            for.
        future: ``(N, H)`` held-out values after the history, NaN where a value is not known; None without a
            test.
        stamp: How the source wrote its times: at the ``start`` or the ``end`` of a period, or as a whole
            number of ``step`` s. Forecasts are written the same way.
    """

    name: str
    freq: str
    seasonality: int
    horizon: int
    ids: list[str]
    history: list[np.ndarray]
    starts: list[pd.Period]
    future: np.ndarray | None = None
    stamp: Stamp = "start"

    def __len__(self) -> int:
        return len(self.ids)

    def select(self, indices: Sequence[int] | np.ndarray) -> Group:
        """Returns a group of the series at ``indices``, in that order."""
        chosen = [int(index) for index in indices]
        return replace(
            self,
            ids=[self.ids[i] for i in chosen],
            history=[self.history[i] for i in chosen],
            starts=[self.starts[i] for i in chosen],
            future=None if self.future is None else self.future[chosen],
        )

    def lengths(self) -> np.ndarray:
        """Returns the ``(N,)`` numbers of in-sample values."""
        return np.array([len(values) for values in self.history], dtype=np.int64)

    def naive_scale(self) -> np.ndarray:
        """In-sample error of the seasonal naive forecast, which scales MASE (Hyndman and Koehler, 2006).

        Returns:
            ``(N,)`` means of ``|x_t - x_{t-m}|``; ``m`` is 1 for a series that is not longer than a season,
            as in GluonTS. NaN where the mean is zero or the series has one value: MASE is not defined there.
        """
        scale = np.full(len(self), np.nan)
        for i, values in enumerate(self.history):
            lag = self.seasonality if len(values) > self.seasonality else 1
            if len(values) > lag:
                mean = np.abs(values[lag:] - values[:-lag]).mean()
                scale[i] = mean if mean > 0 else np.nan
        return scale


@dataclass
class SeriesData:
    """Groups of series that were read and checked; a :class:`core.task.Dataset`.

    Attributes:
        name: ``tourism``, or the file's name.
        groups: One entry a frequency, never empty.
        notes: What the reader dropped, filled or assumed, one line each.
    """

    name: str
    groups: list[Group]
    notes: list[str] = field(default_factory=list)

    @property
    def size(self) -> int:
        """Number of series."""
        return sum(len(group) for group in self.groups)

    @property
    def digest(self) -> str:
        """Hex SHA-256 over names, horizons, seasonalities, ids, histories and futures."""
        total = hashlib.sha256()

        def text(value: object) -> None:
            encoded = str(value).encode()
            total.update(len(encoded).to_bytes(8, "little") + encoded)

        def numbers(values: np.ndarray) -> None:
            # Little-endian float64 on every machine; `+ 0.0` makes -0.0 and 0.0 one value.
            content = np.ascontiguousarray(values + 0.0, dtype="<f8")
            total.update(content.size.to_bytes(8, "little") + content.tobytes())

        for group in self.groups:
            for value in (group.name, group.horizon, group.seasonality, len(group)):
                text(value)
            for identifier, values in zip(group.ids, group.history, strict=True):
                text(identifier)
                numbers(values)
            text("no test" if group.future is None else "test")
            if group.future is not None:
                numbers(np.where(np.isnan(group.future), np.nan, group.future))
        return total.hexdigest()


def future_index(group: Group, i: int, steps: int | None = None) -> pd.Index:
    """Times of the forecast of series ``i``, written as the source wrote its own.

    Args:
        group: The series.
        i: Which of them.
        steps: How many times; the group's horizon if None.

    Returns:
        A ``DatetimeIndex`` of that length (weekends skipped for ``B``), text after 2262, or whole numbers
        where the source counted steps.
    """
    count = group.horizon if steps is None else steps
    return following_stamps(group.starts[i], len(group.history[i]), count, group.freq, group.stamp)


def history_index(group: Group, i: int) -> pd.Index:
    """Times of the history of series ``i``, written as the source wrote them."""
    return following_stamps(group.starts[i], 0, len(group.history[i]), group.freq, group.stamp)


def step_start(step: int, freq: str) -> pd.Period:
    """Returns the period of the whole-number time ``step``, counted from the first of January 2000."""
    return pd.Period(STEP_ORIGIN, freq=freq) + step
