"""A forecaster: which model it takes, how it rolls forward, and what it is rebuilt from."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from core.errors import ConfigError, DataError
from tasks.forecasting import forecaster as module
from tasks.forecasting.build import build_package, build_parts
from tasks.forecasting.config import (
    DataConfig,
    ForecastingConfig,
    ForecastTrainConfig,
    GenericConfig,
    InterpretableConfig,
    IntervalConfig,
)
from tasks.forecasting.data.series import Group, SeriesData
from tasks.forecasting.ensemble import Ensemble
from tasks.forecasting.forecaster import Forecaster, GroupModel, build_forecaster

HORIZON = 4
GENERIC = GenericConfig(lookbacks=[2, 3], losses=["smape", "mase"], blocks=2, width=6, layers=2)
INTERPRETABLE = InterpretableConfig(
    lookbacks=[2, 3], losses=["smape", "mase"], trend_width=6, seasonality_width=6, layers=2
)


def group(freq="Q", name="Quarterly", count=5, seasonality=4, future=True):
    rng = np.random.default_rng(0)
    return Group(
        name=name,
        freq=freq,
        seasonality=seasonality,
        horizon=HORIZON,
        ids=[f"s{i}" for i in range(count)],
        history=[50 + 10 * rng.random(length) for length in rng.integers(20, 40, count)],
        starts=[pd.Period("2001-01-01", freq=freq)] * count,
        future=50 + 10 * rng.random((count, HORIZON)) if future else None,
    )


def forecaster(models=(("Quarterly", "Q", 4),), config=GENERIC, half_width=None, **options):
    built = {
        name: GroupModel(freq, season, HORIZON, Ensemble(config, HORIZON, seed=i).eval(), half_width)
        for i, (name, freq, season) in enumerate(models)
    }
    return Forecaster(built, config, **({"levels": [80, 95], "method": "spread"} | options))


# ---------------------------------------------------------------- choosing

THREE = (("Yearly", "Y", 1), ("Monthly", "M", 12), ("Weekly", "W-SUN", 52))


@pytest.mark.parametrize(
    ("freq", "name", "expected"),
    [("M", "Monthly", "Monthly"), ("M", "sales", "Monthly"), ("W-WED", "W-WED", "Weekly")],
)
def test_the_model_of_the_same_frequency_is_chosen(freq, name, expected):
    assert forecaster(THREE).choose(group(freq, name)) == (expected, None)


@pytest.mark.parametrize(
    ("freq", "seasonality", "expected"),
    [("Q", 1, "Yearly"), ("Q", 12, "Monthly"), ("D", 7, "Weekly"), ("B", 5, "Weekly"), ("h", 24, "Weekly")],
)
def test_another_frequency_takes_the_nearest_and_says_so(freq, seasonality, expected):
    chosen, note = forecaster(THREE).choose(
        group("D" if freq == "B" else freq, freq, seasonality=seasonality)
    )
    assert chosen == expected
    assert f"no model for {freq}" in note


def test_a_model_can_be_named():
    model = forecaster(THREE)
    assert model.choose(group("M", "Monthly"), "Yearly") == ("Yearly", None)
    with pytest.raises(DataError, match=r"no model 'Dayly'; it has Yearly, Monthly, Weekly"):
        model.choose(group(), "Dayly")
    series = group("M", "Monthly")
    assert not np.array_equal(model.forecast(series, "Yearly").median, model.forecast(series).median)


# ---------------------------------------------------------------- forecasting


def test_the_forecast_is_the_median_of_the_members():
    result = forecaster().forecast(group())
    assert result.members.shape == (4, 5, HORIZON)
    np.testing.assert_array_equal(result.median, np.median(result.members, axis=0))
    ordered = np.sort(result.members, axis=0)
    np.testing.assert_allclose(result.median, (ordered[1] + ordered[2]) / 2)


def test_the_test_part_is_not_looked_at():
    model = forecaster()
    np.testing.assert_array_equal(model.forecast(group()).median, model.forecast(group(future=False)).median)


def test_beyond_the_horizon_it_rolls_forward():
    """The median joins the history, and the ensemble forecasts again."""
    model, series = forecaster(), group()
    long = model.forecast(series, horizon=HORIZON + 3)
    first = model.forecast(series)
    assert long.median.shape == (5, 7)
    np.testing.assert_array_equal(long.members[..., :HORIZON], first.members)
    grown = group()
    grown.history = [np.append(h, f) for h, f in zip(grown.history, first.median, strict=True)]
    np.testing.assert_allclose(long.members[..., HORIZON:], model.forecast(grown).members[..., :3])
    assert any("rolled forward" in note for note in long.notes)
    assert not first.notes


def test_a_shorter_horizon_is_a_part_of_the_whole():
    model, series = forecaster(), group()
    short, whole = model.forecast(series, horizon=2), model.forecast(series)
    np.testing.assert_array_equal(short.median, whole.median[:, :2])
    np.testing.assert_array_equal(short.intervals[80][0], whole.intervals[80][0][:, :2])


@pytest.mark.parametrize("horizon", [0, -3])
def test_a_horizon_of_no_steps(horizon):
    with pytest.raises(DataError, match=f"horizon {horizon} is not a number of steps"):
        forecaster().forecast(group(), horizon=horizon)


def test_chunks_do_not_matter(monkeypatch):
    model, series = forecaster(), group()
    whole = model.forecast(series, horizon=6).members
    monkeypatch.setattr(module, "CHUNK", 2)
    np.testing.assert_allclose(model.forecast(series, horizon=6).members, whole, rtol=1e-5)


# ---------------------------------------------------------------- intervals


def test_calibrated_intervals_by_hand():
    """Half widths in naive errors of the series, at season 4; beyond step 4 they grow with the root of time."""
    half_width = np.array([[1.0, 1.0, 2.0, 3.0], [2.0, 2.0, 4.0, 6.0]])
    model = forecaster(half_width=half_width, method="conformal")
    series = group(seasonality=1)
    result = model.forecast(series, horizon=9)
    for i, values in enumerate(series.history):
        naive = np.abs(values[4:] - values[:-4]).mean()
        expected = [1, 1, 2, 3, *(3 * np.sqrt(step / 4) for step in range(5, 10))]
        low, high = result.intervals[80]
        np.testing.assert_allclose(high[i] - result.median[i], naive * np.array(expected))
        np.testing.assert_allclose(result.median[i] - low[i], naive * np.array(expected))
        np.testing.assert_allclose(
            result.intervals[95][1][i] - result.median[i], 2 * naive * np.array(expected)
        )


def test_without_calibration_the_spread_is_used_and_said():
    result = forecaster(method="conformal").forecast(group())
    assert any("not calibrated" in note for note in result.notes)
    low, high = np.quantile(result.members, [0.1, 0.9], axis=0)
    np.testing.assert_allclose(result.intervals[80], (low, high))
    assert not forecaster(method="spread").forecast(group()).notes


# ---------------------------------------------------------------- decomposition


def test_the_decomposition_adds_up():
    """Level, trend and seasonality are the mean forecast of the members; the level is the last value."""
    model, series = forecaster(config=INTERPRETABLE), group()
    parts = model.decompose(series)
    total = parts["level"] + parts["trend"] + parts["seasonality"]
    np.testing.assert_allclose(total, model.forecast(series).members.mean(0), rtol=1e-5)
    last = [values[-1] for values in series.history]
    np.testing.assert_allclose(parts["level"], np.repeat(last, HORIZON).reshape(5, HORIZON), rtol=1e-6)
    # A polynomial of degree 2 over 4 equal steps has no third difference.
    assert np.abs(np.diff(parts["trend"], 3)).max() < 1e-3 * np.abs(parts["trend"]).max()
    assert np.abs(parts["seasonality"]).max() > 0


def test_a_generic_model_has_no_decomposition():
    with pytest.raises(DataError, match="train --model nbeats_interpretable"):
        forecaster().decompose(group())


# ---------------------------------------------------------------- build and package


def configured(model=GENERIC, **options):
    return ForecastingConfig(model=model, train=ForecastTrainConfig(batch_size=8), **options)


def data(count=12):
    return SeriesData("toy", [group(count=count), group("M", "Monthly", count, 12)])


@pytest.mark.parametrize("model", [GENERIC, INTERPRETABLE])
@pytest.mark.parametrize("calibration", ["time", "none"])
def test_a_package_rebuilds_the_forecaster(model, calibration):
    config, series = configured(model, intervals=IntervalConfig(calibration=calibration)), data()
    learners = {part.name: part.learner.eval() for part in build_parts(config, series)}
    packaged = build_package(config, series, learners, "mase")
    assert DataConfig(**packaged.metadata["data"]["config"]) == config.data
    rebuilt = build_forecaster(packaged.config, packaged.tensors, packaged.metadata)
    for one in series.groups:
        with torch.inference_mode():
            expected = learners[one.name].model(one.history).numpy()
        result = rebuilt.forecast(one)
        np.testing.assert_allclose(result.members, expected, rtol=1e-6)
        assert (rebuilt.models[one.name].half_width is None) == (calibration == "none")
        assert sorted(result.intervals) == [80, 95]
        assert (result.intervals[95][0] <= result.intervals[80][0]).all()


@pytest.mark.parametrize(("name", "losses"), [("tourism", ["mape"]), ("sales", ["smape", "mase"])])
def test_losses_are_chosen_for_the_data(name, losses):
    config = configured(GenericConfig(lookbacks=[2], blocks=1, width=4))
    series = data()
    series.name = name
    part = build_parts(config, series)[0]
    assert [member.loss for member in part.learner.model.members] == losses


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (GenericConfig(lookbacks=[]), "--model.lookbacks is empty"),
        (GenericConfig(lookbacks=[2, 2]), "names a member twice"),
        (GenericConfig(lookbacks=[0]), "a lookback is 1 horizon or more"),
        (GenericConfig(width=0), "--model.width 0 is too small"),
        (InterpretableConfig(trend_degree=-1), "--model.trend_degree"),
        (InterpretableConfig(harmonics=0), "--model.harmonics 0 is too small"),
        (GenericConfig(rule="ad"), "Did you mean 'add'"),
        (GenericConfig(losses=["mse"]), "unknown loss 'mse'"),  # type: ignore[list-item]
    ],
)
def test_models_that_cannot_be_built(model, expected):
    with pytest.raises(ConfigError) as caught:
        build_parts(configured(model), data())
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_held_out_windows_are_not_trained_on():
    config, series = configured(intervals=IntervalConfig(calibration="time")), data()
    part = build_parts(config, series)[0]
    assert all(len(a) < len(b) for a, b in zip(part.source.series, series.groups[0].history, strict=True))
