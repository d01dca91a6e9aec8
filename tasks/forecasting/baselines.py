"""Classical methods that a learned model has to beat, from naive to Theta.

Every method takes a :class:`Group` and returns ``(N, H)`` float64 point forecasts; none looks at
``Group.future``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from tasks.forecasting.data.series import Group
from tasks.forecasting.metrics import mean

# Series of similar length are smoothed together; more at once would not fit the cache.
_TOGETHER = 512
_SMOOTHING = np.linspace(-1.0, 1.0, 25)


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

    A series is adjusted if :func:`is_seasonal`, see :func:`adjust`. M4's benchmark code does the same.
    """
    parts = [adjust(values, group.seasonality, group.horizon) for values in group.history]
    return np.stack([part.values[-1] * part.factors + part.terms for part in parts])


def theta(group: Group) -> np.ndarray:
    """The Theta method, which won M3 (Assimakopoulos and Nikolopoulos, 2000).

    The series is adjusted as for Naive2. The forecast is simple exponential smoothing with half the slope of
    the trend line as its drift (Hyndman and Billah, 2003, Unmasking the Theta method, equation 8), which is
    theta 2 of ``statsmodels.tsa.forecasting.theta.ThetaModel``. The smoothing starts at the first value and
    its constant has the least squared error of one step ahead, to 1e-4. All series are smoothed at once,
    because fitting them one by one takes 20 ms each.
    """
    parts = [adjust(values, group.seasonality, group.horizon) for values in group.history]
    lengths = group.lengths()
    ahead = np.arange(1, group.horizon + 1)
    forecasts = np.empty((len(group), group.horizon))
    order = np.argsort(lengths, kind="stable")
    for chunk in np.split(order, range(_TOGETHER, len(order), _TOGETHER)):
        units = [_unit(parts[i].values) for i in chunk]
        scaled = [parts[i].values / unit for i, unit in zip(chunk, units, strict=True)]
        for i, unit, values, alpha, level in zip(chunk, units, scaled, *_smoothed(scaled), strict=True):
            drift = ahead - 1 + (1 - (1 - alpha) ** lengths[i]) / alpha
            line = (level + 0.5 * _slope(values) * drift) * unit
            forecasts[i] = line * parts[i].factors + parts[i].terms
    return forecasts


BASELINES: dict[str, Callable[[Group], np.ndarray]] = {
    "naive": naive,
    "seasonal_naive": seasonal_naive,
    "naive2": naive2,
    "theta": theta,
}
"""Methods by name."""


class Adjusted(NamedTuple):
    """A series without its season, and that of the steps that follow: ``forecast * factors + terms``."""

    values: np.ndarray
    factors: np.ndarray
    terms: np.ndarray


def adjust(values: np.ndarray, period: int, horizon: int) -> Adjusted:
    """Takes the season out of a series by classical decomposition.

    Each season's index is its mean ratio to the centred moving average, scaled to mean 1. Where a value is
    negative, or an index is not positive, differences take the place of ratios.

    Args:
        values: ``(T,)`` series.
        period: Steps in a season, ``m``.
        horizon: Steps to follow.

    Returns:
        The series unchanged, with factors 1 and terms 0, if it is not seasonal.
    """
    ones, zeros = np.ones(horizon), np.zeros(horizon)
    if not is_seasonal(values, period):
        return Adjusted(values, ones, zeros)
    length = len(values)
    past, ahead = np.arange(length) % period, (length + np.arange(horizon)) % period
    window = np.ones(period) if period % 2 else np.concatenate(([0.5], np.ones(period - 1), [0.5]))
    trend = np.convolve(values, window / period, mode="valid")
    edge = (len(window) - 1) // 2
    inner, phases = values[edge : edge + len(trend)], past[edge : edge + len(trend)]
    if values.min() >= 0:
        ratio = np.divide(inner, trend, out=np.full(len(trend), np.nan), where=trend > 0)
        indices = np.array([mean(ratio[phases == phase]) for phase in range(period)])
        indices = indices / indices.mean()
        if (indices > 0).all():
            return Adjusted(values / indices[past], indices[ahead], zeros)
    indices = np.array([mean((inner - trend)[phases == phase]) for phase in range(period)])
    indices = indices - indices.mean()
    return Adjusted(values - indices[past], ones, indices[ahead])


def is_seasonal(values: np.ndarray, period: int) -> bool:
    """Tests the autocorrelation at lag ``period`` at 90 %, as M4's benchmark code does.

    Bartlett's limit is ``1.645 sqrt((1 + 2 sum_{k<m} r_k^2) / n)``. GluonTS' ``seasonality_test`` compares
    twice the square of the autocorrelation with it, which is another test.

    Args:
        values: ``(T,)`` series.
        period: Steps in a season, ``m``.

    Returns:
        False with fewer than three seasons, or for a constant series.
    """
    length = len(values)
    if period < 2 or length < 3 * period:
        return False
    centred = values / _unit(values)
    centred = centred - centred.mean()
    power = float(centred @ centred)
    if power == 0:
        return False
    correlation = np.array([centred[lag:] @ centred[:-lag] for lag in range(1, period + 1)]) / power
    limit = 1.645 * np.sqrt((1 + 2 * (correlation[:-1] ** 2).sum()) / length)
    return bool(abs(correlation[-1]) > limit)


def _unit(values: np.ndarray) -> float:
    """The power of two above the values: squares of values over it do not overflow, and no bit is lost."""
    return float(2.0 ** min(np.frexp(np.abs(values).max())[1], 1023))


def _slope(values: np.ndarray) -> float:
    """Slope of the least-squares line through a series; 0 for a single value."""
    steps = np.arange(len(values)) - (len(values) - 1) / 2
    return float(steps @ values / (steps @ steps)) if len(values) > 1 else 0.0


def _smoothed(series: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Simple exponential smoothing of N series at once.

    Returns:
        ``(N,)`` constants of least squared error in 1e-4 .. 0.9999, and ``(N,)`` last levels.
    """
    lengths = np.array([len(values) for values in series])
    table = np.zeros((int(lengths.max()), len(series), 1))
    for i, values in enumerate(series):
        table[: len(values), i, 0] = values
    centre, reach = np.full((len(series), 1), 0.5), 0.5
    rows = np.arange(len(series))
    while reach > 5e-5:
        # The error need not have one minimum, so the whole range is searched before it is narrowed.
        alphas = np.clip(centre + reach * _SMOOTHING, 1e-4, 0.9999)
        levels, errors = table[0] + np.zeros_like(alphas), np.zeros_like(alphas)
        for step in range(1, len(table)):
            surprise = np.where((step < lengths)[:, None], table[step] - levels, 0.0)
            errors += surprise * surprise
            levels += alphas * surprise
        best = errors.argmin(axis=1)
        centre, reach = alphas[rows, best][:, None], reach / 12
    return centre[:, 0], levels[rows, best]
