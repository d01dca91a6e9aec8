"""Members that train in one ensemble are those that train alone, and their median is the forecast."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from core.config import TrainConfig
from core.errors import ConfigError, TrainingError
from core.train.loop import Trainer
from tasks.forecasting.config import GenericConfig, InterpretableConfig
from tasks.forecasting.data.series import Group
from tasks.forecasting.ensemble import Ensemble, EnsembleLearner, list_members
from tasks.forecasting.sampler import FlatSeries, WindowSource

HORIZON = 3
SMALL = GenericConfig(lookbacks=[2, 3], losses=["smape", "mase"], repeats=2, blocks=2, width=6, layers=2)
SERIES = [30 + 10 * np.sin(np.arange(n)) + np.arange(n) for n in (9, 17, 40)]


def train(config, folder, steps=4, repeat=None):
    """Trains an ensemble, or the members with one repeat number of it."""
    ensemble = Ensemble(config, HORIZON, seed=1)
    source = WindowSource(SERIES, horizon=HORIZON, history=4, members=ensemble.members, batch_size=8, seed=2)
    options = TrainConfig(lr=0.01, grad_clip=1.0, schedule="constant")
    Trainer(EnsembleLearner(ensemble, 4), source, options, folder=folder, total_steps=steps).fit()
    return ensemble


def test_members_are_all_combinations():
    members = list_members(SMALL, HORIZON)
    assert [(m.lookback, m.loss, m.repeat) for m in members] == [
        (lookback, loss, repeat) for lookback in (6, 9) for loss in ("smape", "mase") for repeat in (0, 1)
    ]


@pytest.mark.parametrize("batched", [True, False])
def test_together_equals_one_by_one(batched, tmp_path):
    """Weights, windows and clipping of a member do not depend on what trains beside it."""
    config = replace(SMALL, batched=batched)
    together = train(config, tmp_path / "together")
    before = Ensemble(config, HORIZON, seed=1)
    for lookback in (2, 3):
        for loss in ("smape", "mase"):
            alone = train(
                replace(config, lookbacks=[lookback], losses=[loss], repeats=1),
                tmp_path / f"{lookback}{loss}",
            )
            group = together.lookbacks.index(lookback * HORIZON)
            row = together.of(lookback * HORIZON).index(alone.members[0])
            member, expected = together.groups[group].member(row), alone.groups[0].member(0)
            start = before.groups[group].member(row)
            for name, parameter in expected.named_parameters():
                torch.testing.assert_close(member.get_parameter(name), parameter, rtol=1e-4, atol=1e-6)
            moved = [
                (parameter - start.get_parameter(name)).abs().max()
                for name, parameter in expected.named_parameters()
            ]
            assert max(moved) > 0.01


def test_repeats_differ_in_weights_and_windows(tmp_path):
    ensemble = Ensemble(SMALL, HORIZON, seed=1)
    weights = ensemble.groups[0].member(0).blocks[0].branch.theta.weight
    assert not torch.equal(weights, ensemble.groups[0].member(1).blocks[0].branch.theta.weight)
    again = Ensemble(SMALL, HORIZON, seed=1)
    assert all(torch.equal(a, b) for a, b in zip(ensemble.parameters(), again.parameters(), strict=True))


def test_building_leaves_the_global_generator_alone():
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    Ensemble(SMALL, HORIZON, seed=1)
    assert torch.equal(torch.rand(1), expected)


def test_the_loss_is_the_sum_over_members():
    ensemble = Ensemble(SMALL, HORIZON, seed=1)
    learner = EnsembleLearner(ensemble, 4)
    source = WindowSource(SERIES, horizon=HORIZON, history=4, members=ensemble.members, batch_size=8, seed=2)
    batch = next(source.batches(0, torch.device("cpu")))
    loss, values = learner(batch)
    from tasks.forecasting.losses import LOSSES

    by_kind: dict[str, list[float]] = {"smape": [], "mase": []}
    for group, windows, lookback in zip(ensemble.groups, batch["windows"], (6, 9), strict=True):
        for e, member in enumerate(ensemble.of(lookback)):
            x, x_mask, y, y_mask = (tensor[e] for tensor in windows)
            forecast = group.member(e)(x, x_mask)
            by_kind[member.loss].append(LOSSES[member.loss](forecast, y, y_mask, x, 4).item())
    assert loss.item() == pytest.approx(sum(map(sum, by_kind.values())), rel=1e-5)
    assert values["smape"].item() == pytest.approx(np.mean(by_kind["smape"]), rel=1e-5)
    assert values["mase"].item() == pytest.approx(np.mean(by_kind["mase"]), rel=1e-5)


@pytest.mark.parametrize(
    "config", [SMALL, InterpretableConfig(lookbacks=[2], losses=["mape"], trend_width=6, seasonality_width=6)]
)
def test_forecasts_are_those_of_the_members(config):
    ensemble = Ensemble(config, HORIZON, seed=1).eval()
    out = ensemble(SERIES)
    assert out.shape == (len(ensemble.members), 3, HORIZON)
    row = 0
    for lookback, group in zip(ensemble.lookbacks, ensemble.groups, strict=True):
        x, mask = FlatSeries(SERIES, torch.device("cpu"), lookback).last_windows(lookback)
        for e in range(group.num_members):
            torch.testing.assert_close(out[row], group.member(e)(x, mask), rtol=1e-5, atol=1e-4)
            row += 1


def learner(held_out=None):
    ensemble = Ensemble(SMALL, HORIZON, seed=1)
    return EnsembleLearner(ensemble, 4, names=["a", "b", "c"], held_out=held_out)


def test_a_loss_that_is_not_finite_names_the_series(tmp_path):
    """Series b holds a NaN that no reader would let through; no other series is named."""
    series = [SERIES[0], np.append(SERIES[1][:-1], np.nan), SERIES[2]]
    trained = learner()
    source = WindowSource(
        series, horizon=HORIZON, history=4, members=trained.model.members, batch_size=8, seed=2
    )
    options = TrainConfig(grad_clip=1.0)
    with pytest.raises(TrainingError, match=r"at step 0\. Samples: b\. Lower"):
        Trainer(trained, source, options, folder=tmp_path, total_steps=3).fit()


def test_validation_is_the_mase_of_the_median_on_held_out_windows():
    group = Group(
        "Q",
        "Q",
        4,
        HORIZON,
        ["a"],
        [SERIES[2]],
        [pd.Period("2000Q1")],
        future=np.array([[71.0, 72.0, np.nan]]),
    )
    trained = learner(group)
    median = np.median(trained.model(group.history).detach().numpy(), axis=0)[0]
    scale = np.abs(SERIES[2][4:] - SERIES[2][:-4]).mean()
    with torch.no_grad():
        value, metrics = trained.validate()
    assert (
        value == metrics["mase"] == pytest.approx(np.abs(median - [71, 72, 0])[:2].mean() / scale, rel=1e-6)
    )
    with pytest.raises(ConfigError, match=r"--intervals\.calibration"):
        learner().validate()
