"""Measures of the forecasting competitions, exactly as each defined them.

The element-wise measures take ``(N, H)`` arrays and give ``(N, H)`` errors, NaN where the target is not
known, so that any average is a ``nanmean`` of them. The competitions average differently: M3 and Tourism over
all points, M4's MASE over series, OWA over the averages of a frequency.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from tasks.forecasting.data.series import Group, SeriesData


def smape(target: np.ndarray, forecast: np.ndarray) -> np.ndarray:
    """Symmetric percentage error of M4, ``200 |y - f| / (|y| + |f|)``, 0 where both are 0; 0 .. 200.

    Makridakis, Spiliotis and Assimakopoulos (2020), The M4 Competition. GluonTS' ``SMAPE`` is this over 100.
    """
    return _ratio(200.0 * np.abs(target - forecast), np.abs(target) + np.abs(forecast), zero=0.0)


def smape_m3(target: np.ndarray, forecast: np.ndarray) -> np.ndarray:
    """Symmetric percentage error of M3, without absolute values below: ``200 |y - f| / (y + f)``; in percent.

    Makridakis and Hibon (2000), The M3-Competition. The same as :func:`smape` for positive values; else it
    may be negative, and it is NaN where the sum is 0 and the error is not.
    """
    return _ratio(200.0 * np.abs(target - forecast), target + forecast, zero=0.0)


def mape(target: np.ndarray, forecast: np.ndarray) -> np.ndarray:
    """Percentage error ``100 |y - f| / |y|``; NaN where the target is 0.

    Athanasopoulos, Hyndman, Song and Wu (2011), The tourism forecasting competition.
    """
    return _ratio(100.0 * np.abs(target - forecast), np.abs(target), zero=np.nan)


def mase(target: np.ndarray, forecast: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Absolute error over the in-sample error of the seasonal naive forecast.

    Hyndman and Koehler (2006). ``scale`` is :meth:`Group.naive_scale`, ``(N,)``; rows with NaN in it stay
    NaN.
    """
    return np.abs(target - forecast) / scale[:, None]


def owa(smape_value: float, mase_value: float, naive2_smape: float, naive2_mase: float) -> float:
    """Overall weighted average of M4: mean of the two ratios to Naive2, each of averages, not per series."""
    return 0.5 * (smape_value / naive2_smape + mase_value / naive2_mase)


def nd(target: np.ndarray, forecast: np.ndarray) -> float:
    """Normalised deviation ``sum |y - f| / sum |y|`` over all known points; NaN if all targets are 0."""
    known = ~np.isnan(target)
    total = np.abs(target[known]).sum()
    return float(np.abs(target - forecast)[known].sum() / total) if total > 0 else float("nan")


def nrmse(target: np.ndarray, forecast: np.ndarray) -> float:
    """Root mean squared error over the mean of ``|y|``, over all known points; NaN if all targets are 0."""
    known = ~np.isnan(target)
    total = np.abs(target[known]).mean() if known.any() else 0.0
    error = (target - forecast)[known]
    return float(np.sqrt((error**2).mean()) / total) if total > 0 else float("nan")


def coverage(target: np.ndarray, lower: np.ndarray, upper: np.ndarray) -> float:
    """Share of known targets inside ``[lower, upper]``, 0 .. 1."""
    known = ~np.isnan(target)
    inside = (target >= lower) & (target <= upper)
    return float(inside[known].mean()) if known.any() else float("nan")


def interval_width(target: np.ndarray, lower: np.ndarray, upper: np.ndarray) -> float:
    """Mean width of the interval at the known targets, in their unit."""
    known = ~np.isnan(target)
    return float((upper - lower)[known].mean()) if known.any() else float("nan")


def msis(
    target: np.ndarray, lower: np.ndarray, upper: np.ndarray, scale: np.ndarray, level: float = 0.95
) -> np.ndarray:
    """Scaled interval score of M4 at each point: width plus ``2 / a`` times the miss, over the naive scale.

    Gneiting and Raftery (2007), equation 43; M4 used ``a = 0.05``.

    Args:
        target: ``(N, H)``, NaN where not known.
        lower: ``(N, H)`` lower bounds.
        upper: ``(N, H)`` upper bounds.
        scale: ``(N,)`` :meth:`Group.naive_scale`.
        level: Nominal coverage ``1 - a``.
    """
    below, above = np.maximum(lower - target, 0.0), np.maximum(target - upper, 0.0)
    return ((upper - lower) + 2.0 / (1.0 - level) * (below + above)) / scale[:, None]


def score(group: Group, forecast: np.ndarray) -> tuple[dict[str, float], pd.DataFrame]:
    """Scores forecasts of one group on its held-out values.

    Args:
        group: A group with a test part.
        forecast: ``(N, H)`` point forecasts.

    Returns:
        The measures ``smape``, ``smape_m3``, ``mape`` (percent, over all points), ``mase`` (over series),
        ``nd``, ``nrmse`` and ``mae``; and one row a series with its own, NaN where it has none.

    Raises:
        ValueError: The shapes differ, there is no test part, or a forecast is NaN.
    """
    target = _target(group, forecast)
    points = {
        "smape": smape(target, forecast),
        "smape_m3": smape_m3(target, forecast),
        "mape": mape(target, forecast),
        "mae": np.abs(target - forecast),
    }
    per_series = mean_of_rows(mase(target, forecast, group.naive_scale()))
    metrics = {name: mean(values) for name, values in points.items()}
    metrics |= {"mase": mean(per_series), "nd": nd(target, forecast), "nrmse": nrmse(target, forecast)}
    rows = pd.DataFrame({"group": group.name, "id": group.ids})
    rows["points"] = (~np.isnan(target)).sum(axis=1)
    for name, values in points.items():
        rows[name] = mean_of_rows(values)
    rows["mase"] = per_series
    return metrics, rows


def summarise(
    data: SeriesData,
    forecasts: Mapping[str, np.ndarray],
    naive2: Mapping[str, float] | None = None,
) -> tuple[dict[str, float], pd.DataFrame]:
    """Scores forecasts of all groups.

    Args:
        data: Groups with a test part.
        forecasts: Group name to ``(N, H)`` point forecasts.
        naive2: What this function returned for the Naive2 method's; adds ``owa``.

    Returns:
        ``"Yearly/mape"`` for each group and measure of :func:`score`, and ``"mape"`` for the whole:
        percentages, ``mae``, ``nd`` and ``nrmse`` over all points as in M3 and Tourism, ``mase`` and
        ``smape_series`` over series as in M4, whose ``owa`` is made of these two. And the rows of
        :func:`score`, group after group.
    """
    flat: dict[str, float] = {}
    rows, targets, outputs = [], [], []
    for group in data.groups:
        metrics, table = score(group, forecasts[group.name])
        flat |= {f"{group.name}/{name}": value for name, value in metrics.items()}
        rows.append(table)
        assert group.future is not None
        targets.append(group.future.ravel())
        outputs.append(np.asarray(forecasts[group.name], dtype=np.float64).ravel())
    target, forecast, table = np.concatenate(targets), np.concatenate(outputs), pd.concat(rows)
    flat |= {
        "smape": mean(smape(target, forecast)),
        "smape_m3": mean(smape_m3(target, forecast)),
        "mape": mean(mape(target, forecast)),
        "mae": mean(np.abs(target - forecast)),
        "mase": mean(table["mase"].to_numpy()),
        "smape_series": mean(table["smape"].to_numpy()),
        "nd": nd(target, forecast),
        "nrmse": nrmse(target, forecast),
    }
    if naive2 is not None:
        for group in data.groups:
            name = group.name
            flat[f"{name}/owa"] = owa(
                *(part[f"{name}/{m}"] for part in (flat, naive2) for m in ("smape", "mase"))
            )
        flat["owa"] = owa(*(part[m] for part in (flat, naive2) for m in ("smape_series", "mase")))
    return flat, table


def mean(values: np.ndarray) -> float:
    """Mean of the values that are not NaN; NaN if there are none."""
    known = ~np.isnan(values)
    return float(values[known].mean()) if known.any() else float("nan")


def mean_of_rows(values: np.ndarray) -> np.ndarray:
    """``(N, H)`` to ``(N,)`` means of what is not NaN; NaN for a row without."""
    known = ~np.isnan(values)
    counts = known.sum(axis=1)
    total = np.where(known, values, 0.0).sum(axis=1)
    return np.divide(total, counts, out=np.full(len(values), np.nan), where=counts > 0)


def _ratio(above: np.ndarray, below: np.ndarray, zero: float) -> np.ndarray:
    """``above / below``; where ``below`` is 0: ``zero`` if ``above`` is 0 too, else NaN; NaN stays NaN."""
    result = np.full(np.broadcast(above, below).shape, np.nan)
    np.divide(above, below, out=result, where=below != 0)
    return np.where((below == 0) & (above == 0), zero, result)


def _target(group: Group, forecast: np.ndarray) -> np.ndarray:
    if group.future is None:
        raise ValueError(f"the group {group.name} has no test part")
    if forecast.shape != group.future.shape:
        raise ValueError(
            f"{group.name}: forecasts are {forecast.shape}, the test part is {group.future.shape}"
        )
    if np.isnan(forecast).any():
        raise ValueError(
            f"{group.name}: {int(np.isnan(forecast).any(axis=1).sum())} series have NaN forecasts"
        )
    return group.future
