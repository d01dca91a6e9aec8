from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from gluonts.dataset.common import ListDataset
from gluonts.dataset.split import split
from gluonts.ev.metrics import MASE, MSIS, ND, NRMSE, SMAPE
from gluonts.model.evaluation import evaluate_forecasts
from gluonts.model.forecast import QuantileForecast

from tasks.forecasting import metrics
from tasks.forecasting.data.series import Group, SeriesData

NAN = float("nan")


def group(future, history=None, name="Monthly", seasonality=2):
    count, horizon = np.shape(future)
    history = history or [np.array([1.0, 3.0, 2.0, 6.0])] * count
    return Group(
        name, "M", seasonality, horizon, [f"s{i}" for i in range(count)], history,
        [pd.Period("2024-01", "M")] * count, np.asarray(future, dtype=float),
    )  # fmt: skip


def test_pointwise_measures_by_hand():
    y = np.array([[100.0, 50.0, 0.0, 0.0, -10.0, NAN]])
    f = np.array([[110.0, 25.0, 0.0, 5.0, 10.0, 1.0]])
    np.testing.assert_allclose(
        metrics.smape(y, f), [[200 * 10 / 210, 200 * 25 / 75, 0, 200, 200, NAN]], rtol=1e-12
    )
    np.testing.assert_allclose(
        metrics.smape_m3(y, f), [[200 * 10 / 210, 200 * 25 / 75, 0, 200, NAN, NAN]], rtol=1e-12
    )
    np.testing.assert_allclose(metrics.mape(y, f), [[10, 50, NAN, NAN, 200, NAN]], rtol=1e-12)
    np.testing.assert_allclose(metrics.mase(y, f, np.array([5.0])), [[2, 5, 0, 1, 4, NAN]])
    assert metrics.nd(y, f) == pytest.approx((10 + 25 + 5 + 20) / 160)
    assert metrics.nrmse(y, f) == pytest.approx(np.sqrt((100 + 625 + 25 + 400) / 5) / 32)


def test_m3_measure_differs_from_m4s_below_zero_only():
    assert metrics.smape_m3(np.array([[-4.0]]), np.array([[1.0]]))[0, 0] == pytest.approx(-1000 / 3)
    assert metrics.smape(np.array([[-4.0]]), np.array([[1.0]]))[0, 0] == 200


def test_owa_is_a_mean_of_two_ratios():
    assert metrics.owa(10, 2, 20, 1) == pytest.approx(0.5 * (0.5 + 2))


def test_intervals_by_hand():
    y = np.array([[1.0, 5.0, 9.0, NAN]])
    low, high = np.array([[0.0, 6.0, 2.0, 0.0]]), np.array([[2.0, 8.0, 6.0, 1.0]])
    assert metrics.coverage(y, low, high) == pytest.approx(1 / 3)
    assert metrics.interval_width(y, low, high) == pytest.approx((2 + 2 + 4) / 3)
    # a = 0.2: width 2; 2 + 10 x 1 below; 4 + 10 x 3 above; all over the scale 2.
    np.testing.assert_allclose(metrics.msis(y, low, high, np.array([2.0]), 0.8), [[1, 6, 17, NAN]])
    assert np.isnan(metrics.coverage(np.full((1, 4), NAN), low, high))


def test_score_masks_unknown_targets_and_undefined_scales():
    constant, usual = np.array([7.0, 7.0, 7.0]), np.array([1.0, 3.0, 2.0, 6.0])  # scale at lag 2: (1 + 3) / 2
    scored = group([[10.0, 20.0], [10.0, NAN], [NAN, NAN]], [usual, constant, usual])
    values, rows = metrics.score(scored, np.array([[12.0, 20.0], [5.0, 1.0], [1.0, 1.0]]))
    assert rows["points"].tolist() == [2, 1, 0]
    np.testing.assert_allclose(rows["mape"], [10, 50, NAN])
    np.testing.assert_allclose(rows["mase"], [0.5, NAN, NAN])
    assert values["mape"] == pytest.approx((20 + 0 + 50) / 3)  # over points, not series
    assert values["mase"] == pytest.approx(0.5)
    assert values["mae"] == pytest.approx((2 + 0 + 5) / 3)


def test_summary_weighs_points_for_percentages_and_series_for_mase():
    short, tall = group([[10.0]], name="Yearly"), group([[10.0, 10.0, 10.0], [10.0, 10.0, 10.0]])
    data = SeriesData("x", [short, tall])
    off = {"Yearly": np.array([[20.0]]), "Monthly": np.full((2, 3), 11.0)}
    naive2, _ = metrics.summarise(data, {"Yearly": np.array([[12.0]]), "Monthly": np.full((2, 3), 12.0)})
    summary, rows = metrics.summarise(data, off, naive2)
    assert rows["group"].tolist() == ["Yearly", "Monthly", "Monthly"]
    np.testing.assert_allclose(rows["mape"], [100, 10, 10])
    assert summary["Yearly/mape"] == pytest.approx(100)
    assert summary["Monthly/mape"] == pytest.approx(10)
    assert summary["mape"] == pytest.approx((1 * 100 + 6 * 10) / 7)
    assert summary["mase"] == pytest.approx((10 / 2 + 2 * 1 / 2) / 3)
    smape_points, smape_reference = {"Y": 200 * 10 / 30, "M": 200 / 21}, 200 * 2 / 22
    assert summary["Yearly/owa"] == pytest.approx(0.5 * (smape_points["Y"] / smape_reference + 10 / 2))
    assert summary["smape"] == pytest.approx((smape_points["Y"] + 6 * smape_points["M"]) / 7)
    # The whole's OWA takes M4's averages, over series.
    over_series = (smape_points["Y"] + 2 * smape_points["M"]) / 3
    assert summary["owa"] == pytest.approx(0.5 * (over_series / smape_reference + summary["mase"] / 1))


def test_gluonts_measures_agree():
    rng = np.random.default_rng(0)
    season, horizon, count = 4, 6, 7
    # Two histories are shorter than a season: both fall back to lag 1.
    history = [rng.gamma(2.0, 10.0, size=n) for n in (30, 25, 3, 12, 40, 2, 9)]
    future = rng.gamma(2.0, 10.0, size=(count, horizon))
    scored = group(future, history, seasonality=season)
    low, mid, high = np.sort(rng.gamma(2.0, 10.0, size=(3, count, horizon)), axis=0)
    whole = [np.concatenate(pair) for pair in zip(history, future, strict=True)]
    dataset = ListDataset([{"start": "2020-01", "target": values} for values in whole], freq="ME")
    _, template = split(dataset, offset=-horizon)
    forecasts = [
        QuantileForecast(
            np.stack([low[i], mid[i], high[i]]), pd.Period("2021-01", "M"), ["0.025", "0.5", "0.975"]
        )
        for i in range(count)
    ]
    kinds = [SMAPE(), MASE(), ND(), NRMSE(forecast_type=0.5), MSIS()]
    table = evaluate_forecasts(
        forecasts, test_data=template.generate_instances(horizon), metrics=kinds, seasonality=season
    ).iloc[0]
    values, _ = metrics.score(scored, mid)
    assert values["smape"] / 100 == pytest.approx(table["sMAPE[0.5]"], rel=1e-5)
    assert values["mase"] == pytest.approx(table["MASE[0.5]"], rel=1e-5)
    assert values["nd"] == pytest.approx(table["ND[0.5]"], rel=1e-5)
    assert values["nrmse"] == pytest.approx(table["NRMSE[0.5]"], rel=1e-5)
    scaled = metrics.mean(metrics.msis(future, low, high, scored.naive_scale(), 0.95))
    assert scaled == pytest.approx(table["MSIS"], rel=1e-5)


def test_wrong_forecasts_are_defects_not_scores():
    scored = group([[1.0, 2.0]])
    with pytest.raises(ValueError, match="forecasts are"):
        metrics.score(scored, np.ones((1, 3)))
    with pytest.raises(ValueError, match="NaN forecasts"):
        metrics.score(scored, np.array([[1.0, NAN]]))
    scored.future = None
    with pytest.raises(ValueError, match="no test part"):
        metrics.score(scored, np.ones((1, 2)))
