"""Prediction intervals: what is held out, ranks by hand, and the coverage that they promise."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from tasks.forecasting.data.series import Group
from tasks.forecasting.intervals import calibrate, conformal_bounds, split_for_calibration, spread_bounds


def group(histories, horizon=3, seasonality=1, future=None):
    return Group(
        name="Monthly",
        freq="M",
        seasonality=seasonality,
        horizon=horizon,
        ids=[f"s{i}" for i in range(len(histories))],
        history=[np.asarray(values, dtype=float) for values in histories],
        starts=[pd.Period("2000-01", "M")] * len(histories),
        future=future,
    )


def numbered(lengths):
    """Series whose values say which series and position they are from."""
    return [1000 * i + np.arange(n) for i, n in enumerate(lengths)]


# ---------------------------------------------------------------- what is held out


@pytest.mark.parametrize(
    ("method", "lengths"),
    [
        ("series", [30] * 40),
        ("series", [3] * 30 + [12] * 9),
        ("time", [30] * 7),
        ("time", [400, 350]),
        ("time", [3, 5, 7, 30]),
        ("auto", [20] * 250),
        ("auto", [20] * 10),
    ],
)
def test_calibration_is_disjoint_from_training(method, lengths):
    data = group(numbered(lengths))
    split = split_for_calibration(data, method, seed=1)
    assert split.calibration is not None
    trained = {value for values in split.train for value in values}
    aims = split.calibration.future
    assert aims.shape == (len(split.calibration), 3)
    assert not trained & set(aims.ravel())
    for history, aim in zip(split.calibration.history, aims, strict=True):
        assert aim.tolist() == [history[-1] + 1, history[-1] + 2, history[-1] + 3], "what follows the history"
    assert len(set(split.calibration.ids)) == len(split.calibration)
    assert "held out to calibrate" in split.note
    if method == "series":
        seen = {int(value) // 1000 for value in trained}
        held = {int(value) // 1000 for value in aims.ravel()}
        assert not seen & held, "nothing of a held-out series is trained on"
        assert len(held) == len(lengths) // 10


def test_every_training_value_is_kept_that_can_be():
    split = split_for_calibration(group(numbered([30] * 7)), "time", 1)
    shifts = len(split.calibration) // 7
    assert shifts == 3 + 1, "a tenth of the longest history bounds the windows of one series"
    assert [len(values) for values in split.train] == [30 - 3 - 3] * 7


def test_auto_chooses_by_the_number_of_series():
    assert "200 series" in split_for_calibration(group(numbered([20] * 200)), "auto", 0).note
    assert "last" in split_for_calibration(group(numbered([20] * 199)), "auto", 0).note


def test_none_and_series_too_short_train_on_everything():
    data = group(numbered([30, 30]))
    split = split_for_calibration(data, "none", 0)
    assert split.calibration is None
    assert split.train is data.history
    short = split_for_calibration(group(numbered([4, 5])), "auto", 0)
    assert short.calibration is None
    assert "too short" in short.note


def test_the_choice_is_the_seeds():
    data = group(numbered([20] * 50))
    chosen = [split_for_calibration(data, "series", seed).calibration.ids for seed in (1, 1, 2)]
    assert chosen[0] == chosen[1] != chosen[2]


# ---------------------------------------------------------------- ranks


def windows(count, horizon, scale=1.0):
    """Calibration windows whose naive in-sample error is ``scale`` and whose future is zero."""
    return group([[0.0, scale, 0.0]] * count, horizon, future=np.zeros((count, horizon)))


def test_ranks_by_hand():
    """120 errors 1 to 120 in any order: of 80 % the rank is ceil(121 x 0.8) = 97, of 95 % it is 115."""
    errors = np.random.default_rng(0).permutation(np.arange(1.0, 121.0))
    median = np.stack([errors, 2 * errors], axis=1) * np.where(np.arange(120) % 2, 1, -1)[:, None]
    width = calibrate(median, windows(120, 2), [80, 95])
    assert width.tolist() == [[97, 194], [115, 230]]
    # In units of the naive error.
    assert calibrate(median, windows(120, 2, scale=4.0), [80]).tolist() == [[97 / 4, 194 / 4]]


def test_widths_never_shrink_with_distance():
    errors = np.arange(1.0, 121.0)
    median = np.stack([errors, errors / 2, errors * 2], axis=1)
    assert calibrate(median, windows(120, 3), [80]).tolist() == [[97, 97, 194]]


def test_few_windows_pool_their_steps():
    """10 windows of 2 steps have 20 errors, and 80 % is rank ceil(21 x 0.8) = 17; 99 % has none and takes 20."""
    median = np.arange(1.0, 21.0).reshape(10, 2)
    assert calibrate(median, windows(10, 2), [80, 99]).tolist() == [[17, 17], [20, 20]]


def test_series_without_a_naive_error_do_not_calibrate():
    data = windows(10, 2)
    data.history[3] = np.zeros(3)
    median = np.ones((10, 2))
    median[3] = 1e9
    assert calibrate(median, data, [95]).tolist() == [[1, 1]]
    data.history = [np.zeros(3)] * 10
    assert np.isnan(calibrate(median, data, [95])).all()


@pytest.mark.parametrize("level", [50, 80, 95])
def test_coverage_is_what_it_says_on_exchangeable_windows(level):
    """Errors of every series are its scale times the same heavy-tailed noise."""
    rng = np.random.default_rng(level)
    count, horizon = 3000, 4

    def draw(n):
        scale = np.exp(rng.normal(size=n))
        data = group([[0.0, s, 0.0, s] for s in scale], horizon)
        data.future = scale[:, None] * rng.standard_t(3, (n, horizon)) * np.arange(1, horizon + 1)
        return data

    calibration, test = draw(count), draw(count)
    (half_width,) = calibrate(np.zeros((count, horizon)), calibration, [level])
    low, high = conformal_bounds(np.zeros((count, horizon)), test.naive_scale(), half_width)
    covered = 100 * ((test.future >= low) & (test.future <= high)).mean(0)
    # The standard deviation of a share of 3000, twice because both sets are samples, is below 1.3 %.
    assert np.abs(covered - level).max() < 4


def test_bounds_by_hand():
    low, high = conformal_bounds(
        np.array([[10.0, 20.0], [5.0, 5.0]]), np.array([2.0, np.nan]), np.array([1.0, 3.0])
    )
    assert low.tolist() == [[8, 14], [5, 5]]
    assert high.tolist() == [[12, 26], [5, 5]]


def test_spread_by_hand():
    members = np.arange(11.0)[:, None, None] * np.array([[1.0, 10.0]])
    low, high = spread_bounds(members, 80)
    np.testing.assert_allclose(low, [[1, 10]])
    np.testing.assert_allclose(high, [[9, 90]])
