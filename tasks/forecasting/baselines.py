"""Classical methods that a learned model has to beat, from naive to Theta.

Every method takes a :class:`Group` and returns ``(N, H)`` float64 point forecasts; none looks at ``Group.future``.
"""

from __future__ import annotations

import multiprocessing
import os
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor

import numpy as np

from tasks.forecasting.data.series import Group

# Below this many series a second process costs more than it saves: it imports statsmodels again.
_SERIAL = 300
_CHUNK = 64


def naive(group: Group) -> np.ndarray:
    """Repeats the last value."""
    return np.stack([np.full(group.horizon, values[-1]) for values in group.history])


def seasonal_naive(group: Group) -> np.ndarray:
    """Repeats the last season; the last value for a series that is shorter than one."""
    steps = np.arange(group.horizon)
    rows = []
    for values in group.history:
        season = group.seasonality if len(values) >= group.seasonality else 1
        rows.append(values[len(values) - season + steps % season])
    return np.stack(rows)


def naive2(group: Group) -> np.ndarray:
    """Naive2 of the M competitions: the naive forecast of the seasonally adjusted series, put back in season.

    A series is adjusted, by classical multiplicative decomposition, if it is positive, has three seasons and its
    autocorrelation at lag ``m`` is significant at 90 %, as in the M4 benchmark code.
    """
    rows = []
    for values in group.history:
        indices = seasonal_indices(values, group.seasonality)
        length, season = len(values), len(indices)
        level = values[-1] / indices[(length - 1) % season]
        rows.append(level * indices[(length + np.arange(group.horizon)) % season])
    return np.stack(rows)


def theta(group: Group, workers: int | None = None) -> np.ndarray:
    """The Theta method (Assimakopoulos and Nikolopoulos, 2000), the winner of M3, with statsmodels.

    The series is seasonally adjusted as for Naive2, and ``ThetaModel`` (theta 2) forecasts the rest: simple
    exponential smoothing with half the slope of the trend line as drift.  Fewer than 5 values: naive.

    Args:
        group: The series.
        workers: Processes; None takes two where there are CPUs and enough series for them. The result is the same.
    """
    tasks = [(values, group.seasonality, group.horizon) for values in group.history]
    count = min(2, os.cpu_count() or 1) if workers is None else workers
    if count < 2 or (workers is None and len(tasks) < _SERIAL):
        return np.stack(_theta_chunk(tasks))
    chunks = [tasks[i : i + _CHUNK] for i in range(0, len(tasks), _CHUNK)]
    # Spawned, not forked: the parent may run threads (torch, MLflow) that a fork would leave in a locked state.
    with ProcessPoolExecutor(
        count, mp_context=multiprocessing.get_context("spawn"), initializer=_one_thread
    ) as pool:
        return np.stack([row for rows in pool.map(_theta_chunk, chunks) for row in rows])


BASELINES: dict[str, Callable[[Group], np.ndarray]] = {
    "naive": naive,
    "seasonal_naive": seasonal_naive,
    "naive2": naive2,
    "theta": theta,
}
"""Methods by name."""


def is_seasonal(values: np.ndarray, period: int) -> bool:
    """Tests the autocorrelation at lag ``period`` at 90 %, as the M4 benchmark code does.

    Bartlett's limit ``1.645 sqrt((1 + 2 sum_{k<m} r_k^2) / n)``; False with fewer than three seasons. (GluonTS'
    ``seasonality_test`` compares twice the square of the autocorrelation, which is another test.)

    Args:
        values: ``(T,)`` series.
        period: Steps in a season, ``m``.
    """
    length = len(values)
    if period < 2 or length < 3 * period:
        return False
    centred = values - values.mean()
    power = float(centred @ centred)
    if power == 0:
        return False
    correlation = np.array([centred[lag:] @ centred[:-lag] for lag in range(1, period + 1)]) / power
    limit = 1.645 * np.sqrt((1 + 2 * (correlation[:-1] ** 2).sum()) / length)
    return bool(abs(correlation[-1]) > limit)


def seasonal_indices(values: np.ndarray, period: int) -> np.ndarray:
    """Multiplicative seasonal factors with mean 1, starting at the season of ``values[0]``.

    Classical decomposition: each season's mean ratio to the centred moving average.

    Args:
        values: ``(T,)`` series.
        period: Steps in a season.

    Returns:
        ``(period,)`` factors; ``(1,)`` with a one if the series is not seasonal or not positive.
    """
    if not is_seasonal(values, period) or values.min() <= 0:
        return np.ones(1)
    window = np.ones(period) if period % 2 else np.concatenate(([0.5], np.ones(period - 1), [0.5]))
    trend = np.convolve(values, window / period, mode="valid")
    edge = (len(window) - 1) // 2
    ratio = np.full(len(values), np.nan)
    ratio[edge : edge + len(trend)] = values[edge : edge + len(trend)] / trend
    factors = np.array([np.nanmean(ratio[phase::period]) for phase in range(period)])
    return factors / factors.mean()


def _one_thread() -> None:
    from threadpoolctl import threadpool_limits

    threadpool_limits(1)


def _theta_chunk(tasks: Sequence[tuple[np.ndarray, int, int]]) -> list[np.ndarray]:
    return [_theta_one(*task) for task in tasks]


def _theta_one(values: np.ndarray, period: int, horizon: int) -> np.ndarray:
    from statsmodels.tsa.forecasting.theta import ThetaModel

    if len(values) < 5 or (values == values[0]).all():
        return np.full(horizon, values[-1])
    indices = seasonal_indices(values, period)
    season = len(indices)
    adjusted = values / indices[np.arange(len(values)) % season]
    with warnings.catch_warnings():
        # The smoothing constant may end at its bound; the forecast is defined there.
        warnings.simplefilter("ignore")
        fitted = ThetaModel(adjusted, period=1, deseasonalize=False).fit()
        forecast = np.asarray(fitted.forecast(horizon, theta=2), dtype=np.float64)
    return forecast * indices[(len(values) + np.arange(horizon)) % season]
