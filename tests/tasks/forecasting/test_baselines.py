from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from statsmodels.tsa.forecasting.theta import ThetaModel
from statsmodels.tsa.seasonal import seasonal_decompose
from statsmodels.tsa.stattools import acf

from tasks.forecasting import baselines
from tasks.forecasting.config import DataConfig
from tasks.forecasting.data.load import load_data
from tasks.forecasting.data.series import Group
from tasks.forecasting.metrics import summarise


def group(history, seasonality=4, horizon=6):
    count = len(history)
    starts = [pd.Period("2020Q1", "Q")] * count
    values = [np.asarray(series, dtype=float) for series in history]
    return Group("Quarterly", "Q", seasonality, horizon, [str(i) for i in range(count)], values, starts)


def seasonal(length, period, seed=0, level=50.0):
    rng = np.random.default_rng(seed)
    factors = 1 + 0.4 * np.sin(2 * np.pi * np.arange(length) / period)
    return (level + 0.3 * np.arange(length)) * factors * rng.uniform(0.95, 1.05, size=length)


def scores(name, method, metric):
    data = load_data(DataConfig(name=name))
    summary, _ = summarise(data, {g.name: baselines.BASELINES[method](g) for g in data.groups})
    return [round(summary[f"{g.name}/{metric}"], 2) for g in data.groups], round(summary[metric], 2)


def test_naive_and_seasonal_naive_by_hand():
    two = group([[1, 2, 3, 4, 5], [7, 8]])
    assert baselines.naive(two).tolist() == [[5] * 6, [8] * 6]
    assert baselines.seasonal_naive(two).tolist() == [[2, 3, 4, 5, 2, 3], [8] * 6]


def test_seasonality_test_is_bartletts_at_90_percent():
    found = []
    for seed in range(40):
        values = np.random.default_rng(seed).normal(size=60)
        values[seed % 4 :: 4] += 0.05 * seed
        rho = acf(values, nlags=4, fft=False)
        limit = 1.645 * np.sqrt((1 + 2 * (rho[1:4] ** 2).sum()) / 60)
        found.append(baselines.is_seasonal(values, 4))
        assert found[-1] == (abs(rho[4]) > limit)
    assert 0 < sum(found) < 40
    assert not baselines.is_seasonal(seasonal(11, 4), 4)  # fewer than three seasons
    assert not baselines.is_seasonal(np.ones(40), 4)


@pytest.mark.parametrize("period", [4, 7])
def test_decomposition_is_statsmodels(period):
    values = seasonal(period * 6 + 2, period)
    expected = seasonal_decompose(values, model="multiplicative", period=period).seasonal
    adjusted = baselines.adjust(values, period, 3)
    np.testing.assert_allclose(adjusted.values, values / expected, rtol=1e-10)
    np.testing.assert_allclose(adjusted.factors, expected[2:5], rtol=1e-10)
    shifted = values - 60  # with negative values differences take the place of ratios
    expected = seasonal_decompose(shifted, model="additive", period=period).seasonal
    adjusted = baselines.adjust(shifted, period, 3)
    np.testing.assert_allclose(adjusted.values, shifted - expected, rtol=1e-10)
    np.testing.assert_allclose(adjusted.terms, expected[2:5], rtol=1e-10)
    assert adjusted.factors.tolist() == [1, 1, 1]


def test_zeros_keep_the_season_multiplicative():
    values = seasonal(40, 4)
    values[9] = 0
    adjusted = baselines.adjust(values, 4, 4)
    assert adjusted.terms.tolist() == [0] * 4
    assert np.ptp(adjusted.factors) > 0.3


def test_naive2_is_naive_without_season_and_follows_it_otherwise():
    noise = [1.0, 5.0, 2.0, 2.0, 7.0, 1.0]
    cycle = np.tile([10.0, 20.0, 30.0, 40.0], 6)
    result = baselines.naive2(group([noise, cycle]))
    assert result[0].tolist() == [1] * 6
    np.testing.assert_allclose(result[1], [10, 20, 30, 40, 10, 20])


def test_theta_is_statsmodels_theta_model():
    series = [seasonal(n, 4, seed, level) for n, seed, level in ((40, 0, 50), (61, 1, 5), (23, 2, 900))]
    trend = np.cumsum(np.random.default_rng(3).normal(0.5, 1.0, size=50)) + 30
    result = baselines.theta(group([*series, trend]))
    for row, values in zip(result, [*series, trend], strict=True):
        part = baselines.adjust(values, 4, 6)
        fitted = ThetaModel(part.values, period=1, deseasonalize=False).fit()
        expected = fitted.forecast(6, theta=2).to_numpy() * part.factors
        np.testing.assert_allclose(row, expected, rtol=2e-3)


def test_every_method_takes_the_hardest_series():
    hard = [[3.0], [2.0, 2.0], np.zeros(30), np.full(30, 1e300), -seasonal(30, 4), np.tile([0, 0, 0, 9], 8)]
    for name, method in baselines.BASELINES.items():
        result = method(group(hard))
        assert result.shape == (6, 6), name
        assert result.dtype == np.float64
        assert np.isfinite(result).all(), name
        assert result[0].tolist() == [3] * 6
        assert result[2].tolist() == [0] * 6


def test_theta_does_not_depend_on_the_company():
    series = [seasonal(n, 4, n) for n in (12, 50, 33)]
    together = baselines.theta(group(series))
    for i, values in enumerate(series):
        np.testing.assert_array_equal(baselines.theta(group([values]))[0], together[i])


def test_tourism_seasonal_naive_is_the_published_one():
    # Athanasopoulos et al. (2011); their yearly value is the naive method's.
    assert scores("tourism", "seasonal_naive", "mape") == ([23.61, 16.46, 22.56], 21.25)


def test_m3_naive2_is_close_to_the_published_one():
    # Makridakis and Hibon (2000): 17.88, 9.95, 16.91, 6.30; all 15.47. They adjusted the season otherwise.
    groups, whole = scores("m3", "naive2", "smape")
    np.testing.assert_allclose(groups, [17.88, 9.95, 16.91, 6.30], atol=0.16)
    assert (groups[0], groups[3]) == (17.88, 6.30)
    assert whole == pytest.approx(15.47, abs=0.1)


def test_theta_is_close_to_the_published_one():
    # Athanasopoulos et al. (2011): 23.45, 16.15, 22.11; all 20.88.
    # Makridakis and Hibon (2000): 16.90, 8.96, 13.85, 4.41; all 13.01.
    groups, whole = scores("tourism", "theta", "mape")
    np.testing.assert_allclose(groups, [23.45, 16.15, 22.11], atol=0.35)
    assert whole == pytest.approx(20.88, abs=0.15)
    groups, whole = scores("m3", "theta", "smape")
    np.testing.assert_allclose(groups, [16.90, 8.96, 13.85, 4.41], atol=0.55)
    assert whole == pytest.approx(13.01, abs=0.15)
