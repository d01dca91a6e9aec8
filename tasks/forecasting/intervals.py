"""Prediction intervals: split-conformal calibration on held-out windows, or the spread of the ensemble.

Split conformal (Vovk et al., 2005; Lei et al., "Distribution-free predictive inference for regression", JASA
2018): the model never trains on the calibration windows, so the rank of a new error among theirs is uniform
when windows are exchangeable. Errors are divided by the in-sample naive error of their series, so that large
and small series share one distribution.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from core.train.seeds import derive_seed
from tasks.forecasting.data.series import Group

FEW_SERIES = 200  # below this, a tenth of the series is too few to calibrate on
FEW_WINDOWS = 100  # below this, errors of all horizon steps are pooled


@dataclass
class Split:
    """What the ensemble trains on, and what calibrates it.

    Attributes:
        train: Training values of each series.
        ids: Name of each of them.
        calibration: Histories with the values that follow them; ``None`` when nothing is held out.
        note: What was done, in words.
    """

    train: list[np.ndarray]
    ids: list[str]
    calibration: Group | None
    note: str


def split_for_calibration(group: Group, method: str, seed: int) -> Split:
    """Holds out calibration windows.

    Args:
        group: Series with their in-sample values; the test part is never touched.
        method: ``series``, ``time``, ``none`` or ``auto``.
        seed: Seed of the choice of series.
    """
    if method == "auto":
        method = "series" if len(group) >= FEW_SERIES else "time"
    if method == "series":
        return _hold_out_series(group, seed)
    if method == "time":
        return _hold_out_time(group)
    return Split(
        group.history, group.ids, None, f"{group.name}: no windows held out, intervals come from the spread"
    )


def _hold_out_series(group: Group, seed: int) -> Split:
    order = np.random.default_rng(derive_seed(seed, "calibration")).permutation(len(group))
    long_enough = group.lengths() > group.horizon + 1
    held = np.sort([i for i in order if long_enough[i]][: max(1, len(group) // 10)])
    kept = np.setdiff1d(np.arange(len(group)), held)
    if not len(held) or not len(kept):
        return _hold_out_time(group)
    note = f"{group.name}: {len(held)} of {len(group)} series held out to calibrate intervals"
    trained = group.select(kept)
    return Split(trained.history, trained.ids, _cut(group.select(held), [0]), note)


def _hold_out_time(group: Group) -> Split:
    h = group.horizon
    # A few long series give several windows each, so that there are about a hundred in all.
    wanted = max(1, -(-FEW_WINDOWS // len(group)))
    shifts = [s for s in range(wanted) if s <= group.lengths().max() // 10]
    held = h + shifts[-1]
    long_enough = group.lengths() > held + max(1, h)
    if not long_enough.any():
        return Split(
            group.history,
            group.ids,
            None,
            f"{group.name}: series too short to hold out windows for intervals",
        )
    train = [x[:-held] if ok else x for x, ok in zip(group.history, long_enough, strict=True)]
    calibration = _cut(group.select(np.flatnonzero(long_enough)), shifts)
    note = (
        f"{group.name}: the last {held} values of {long_enough.sum()} series held out to calibrate intervals"
    )
    return Split(train, group.ids, calibration, note)


def _cut(group: Group, shifts: list[int]) -> Group:
    """Returns every series cut one horizon and each of ``shifts`` before its end, as history and future."""
    h = group.horizon
    ends = [(i, len(x) - h - s) for i, x in enumerate(group.history) for s in shifts]
    return replace(
        group.select([i for i, _ in ends]),
        ids=[f"{group.ids[i]}@{end}" for i, end in ends],
        history=[group.history[i][:end] for i, end in ends],
        future=np.stack([group.history[i][end : end + h] for i, end in ends]),
    )


def calibrate(median: np.ndarray, calibration: Group, levels: list[int]) -> np.ndarray:
    """Returns the half widths ``(levels, H)`` of the intervals, in naive in-sample errors.

    Of n errors the one of rank ``ceil((n + 1) * level)`` is taken, and the largest where that is beyond n: fewer
    than ``level / (1 - level)`` errors cannot promise the level, and cover ``n / (n + 1)``.

    Args:
        median: Forecasts for the calibration windows, ``(N, H)``.
        calibration: The windows.
        levels: Coverage in percent.
    """
    assert calibration.future is not None
    scale = calibration.naive_scale()[:, None]
    errors = np.abs(calibration.future - median) / scale
    errors = errors[~np.isnan(scale[:, 0])]
    if len(errors) < FEW_WINDOWS:
        errors = np.broadcast_to(errors.reshape(-1, 1), (errors.size, median.shape[1]))
    if not len(errors):
        return np.full((len(levels), median.shape[1]), np.nan)
    ranked = np.sort(errors, axis=0)
    ranks = [min(len(ranked), int(np.ceil((len(ranked) + 1) * level / 100))) for level in levels]
    # A bound never gets tighter with distance: sampling noise between neighbouring steps would look like it.
    return np.maximum.accumulate(np.stack([ranked[rank - 1] for rank in ranks]), axis=1)


def conformal_bounds(
    median: np.ndarray, scale: np.ndarray, half_width: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Returns lower and upper bounds ``(N, H)``; a series without a naive error (a constant) has no width.

    Args:
        median: Forecasts ``(N, H)``.
        scale: Naive in-sample error of each series ``(N,)``.
        half_width: Calibrated half widths ``(H,)``.
    """
    width = np.nan_to_num(scale)[:, None] * half_width
    return median - width, median + width


def spread_bounds(members: np.ndarray, level: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the quantiles over the members ``(M, N, H)`` as bounds ``(N, H)``."""
    tail = (1 - level / 100) / 2
    low, high = np.quantile(members, [tail, 1 - tail], axis=0)
    return low, high
