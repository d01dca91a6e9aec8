"""Scores of a predictor and of the baselines, against the measures themselves."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from core.errors import ConfigError
from tasks.csi.costs import network_cost
from tasks.csi.data.disturb import disturb, parse_disturbance
from tasks.csi.measures import decibel, step_nmse
from tasks.csi.predictor import Predictor
from tasks.csi.scoring import disturbed, score_baselines, score_predictor

SETTINGS = {
    "model": {"standardise": "sample"},
    "subcarriers": 8,
    "antennas": 4,
    "history": 16,
    "horizon": 3,
}


def test_a_network_that_repeats_the_last_report_scores_as_the_baseline_last(
    last_predictor, csi_config, csi_data
):
    model = score_predictor(last_predictor, csi_config, csi_data)
    last = score_baselines(csi_config, csi_data)["last"]
    for name, value in last.metrics.items():
        if name != "cpu_s":
            assert model.metrics[name] == pytest.approx(value, rel=1e-5), name
    assert set(model.metrics) - set(last.metrics) == {"parameters", "gmacs"}


def test_metrics_are_the_measures_of_the_disturbed_histories(last_predictor, csi_config, csi_data):
    metrics = score_predictor(last_predictor, csi_config, csi_data).metrics
    target = csi_data.test.target
    errors = {}
    for text in csi_data.disturbances:
        disturbance = parse_disturbance(text)
        history = disturb(csi_data.test.history, disturbance, csi_config.data.seed, range(len(target)))
        errors[disturbance.name] = step_nmse(np.repeat(history[:, :, -1:], 3, 2), target).mean(1)
    assert list(errors) == ["clean", "awgn_10dB", "drop_0.2"]
    assert metrics["nmse"] == pytest.approx(np.mean(list(errors.values())), rel=1e-5)
    assert metrics["nmse_db"] == pytest.approx(decibel(metrics["nmse"]))
    assert metrics["clean/nmse"] < metrics["awgn_10dB/nmse"]
    conditions = [csi_data.test.conditions[i] for i in csi_data.test.condition]
    for name, values in errors.items():
        assert metrics[f"{name}/nmse"] == pytest.approx(values.mean(), rel=1e-5)
        fast = np.array([c.speed == 10 for c in conditions])
        of_e = np.array([c.model == "E" for c in conditions])
        assert metrics[f"{name}/10mps/nmse"] == pytest.approx(values[fast].mean(), rel=1e-5)
        assert metrics[f"{name}/E/nmse"] == pytest.approx(values[of_e].mean(), rel=1e-5)
        cell = decibel(values[fast & of_e].mean())
        assert metrics[f"{name}/E_10mps/nmse_db"] == pytest.approx(cell, rel=1e-5)
    wide = np.array([c.delay_spread == 100 for c in conditions])
    assert metrics["100ns/nmse"] == pytest.approx(
        np.mean([v[wide].mean() for v in errors.values()]), rel=1e-5
    )
    assert metrics["unseen/nmse"] == pytest.approx(
        np.mean([v[of_e].mean() for v in errors.values()]), rel=1e-5
    )
    clean = np.repeat(csi_data.test.history[:, :, -1:], 3, 2) - target
    total = (np.abs(clean) ** 2).sum() / (np.abs(target) ** 2).sum()
    assert metrics["clean/nmse_total"] == pytest.approx(total, rel=1e-4)


def test_there_is_a_row_for_each_sample_and_disturbance(last_predictor, csi_config, csi_data):
    result = score_predictor(last_predictor, csi_config, csi_data)
    rows = result.rows
    assert len(rows) == 3 * 36 and not rows.isna().any(axis=None)
    assert set(rows.loc[rows["unseen"], "model"]) == {"E"} and rows["unseen"].sum() == 3 * 12
    np.testing.assert_allclose(rows[["nmse_1", "nmse_2", "nmse_3"]].mean(axis=1), rows["nmse"])
    assert rows.groupby("disturbance", sort=False)["nmse"].mean().to_dict() == pytest.approx(
        {name: result.metrics[f"{name}/nmse"] for name in ("clean", "awgn_10dB", "drop_0.2")}
    )
    assert any("CDL E was not learned from" in note for note in result.notes)
    assert any("wiener is told" in note for note in result.notes)


def test_scores_do_not_depend_on_the_size_of_a_batch(last_predictor, csi_config, csi_data):
    csi_config.scoring = replace(csi_config.scoring, cost=False)
    first = score_predictor(last_predictor, csi_config, csi_data)
    csi_config.scoring = replace(csi_config.scoring, batch=36)
    assert score_predictor(last_predictor, csi_config, csi_data).metrics == pytest.approx(first.metrics)
    assert "cpu_s" not in first.metrics


def test_what_is_the_same_for_all_channels_has_no_row_of_its_own(last_predictor, csi_config, csi_data):
    csi_data.test = csi_data.test.select(csi_data.test.condition == 0)
    names = score_predictor(last_predictor, csi_config, csi_data).metrics
    assert {name for name in names if name.endswith("/nmse")} == {
        "clean/nmse",
        "awgn_10dB/nmse",
        "drop_0.2/nmse",
    }


def test_baselines_come_in_the_order_that_is_asked_for(csi_config, csi_data):
    csi_config.scoring = replace(csi_config.scoring, baselines=["pad", "ar", "last", "wiener"])
    results = score_baselines(csi_config, csi_data)
    assert list(results) == ["pad", "ar", "last", "wiener"]
    fast = {name: result.metrics["clean/10mps/nmse"] for name, result in results.items()}
    assert fast["pad"] < 0.1 * fast["last"] and fast["wiener"] < fast["last"]
    assert all(result.metrics["cpu_s"] >= 0 for result in results.values())


def test_without_training_channels_only_those_that_learn_nothing_are_left(
    last_predictor, csi_config, csi_data
):
    csi_data.train = csi_data.train.select(np.zeros(0, int))
    assert list(score_baselines(csi_config, csi_data)) == ["last", "pad"]
    notes = score_predictor(last_predictor, csi_config, csi_data).notes
    assert "no training channels: ar and wiener left out" in notes
    csi_config.scoring = replace(csi_config.scoring, baselines=["ar"])
    assert list(score_baselines(csi_config, csi_data)) == ["last"]


def test_the_noise_that_wiener_is_told_of_is_the_one_that_was_added(csi_config, csi_data):
    which = np.arange(36)
    history, noise = disturbed(csi_data, parse_disturbance("awgn:10"), which, 0)
    assert noise == pytest.approx(0.1, rel=0.05)
    part, _ = disturbed(csi_data, parse_disturbance("awgn:10"), which[5:7], 0)
    np.testing.assert_array_equal(part, history[5:7])
    assert disturbed(csi_data, parse_disturbance("clean"), which, 0)[1] == 0


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("subcarriers", 9, "set --data.subcarriers 9"),
        ("history", 8, "set --data.history 8"),
        ("horizon", 4, "horizon 4 and the channels 3"),
    ],
)
def test_a_network_for_other_channels_is_one_line(last_net, csi_config, csi_data, option, value, message):
    predictor = Predictor(SETTINGS | {option: value}, last_net, {})
    with pytest.raises(ConfigError, match=message):
        score_predictor(predictor, csi_config, csi_data)


def test_a_network_that_is_standardised_over_batches_says_so(last_net, csi_config, csi_data):
    predictor = Predictor(SETTINGS | {"model": {"standardise": "batch"}}, last_net, {})
    assert any("batch of 7" in note for note in score_predictor(predictor, csi_config, csi_data).notes)


def test_costs_of_a_linear_layer_are_counted_by_hand():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.over_time = nn.Linear(16, 3)

        def forward(self, x):
            return self.over_time(x.mT).mT

    cost = network_cost(Predictor(SETTINGS, Net(), {}), 4)
    assert cost == {"parameters": 16 * 3 + 3, "gmacs": 4 * 16 * 16 * 3 / 1e9}


def test_the_predictor_runs_antennas_as_rows_in_batches(csi_data):
    class Mean(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(()))
            self.rows = []

        def forward(self, x):
            self.rows.append(len(x))
            return self.weight * x.mean(1, keepdim=True).expand(-1, 3, -1)

    predictor = Predictor(SETTINGS, Mean(), {})
    history = csi_data.test.history[:5]
    predicted = predictor.predict(history, batch=2)
    assert predictor.network.rows == [8, 8, 4]
    assert predicted.dtype == np.complex64
    np.testing.assert_allclose(predicted, np.repeat(history.mean(2, keepdims=True), 3, 2), atol=1e-6)
    assert predictor.predict(history[:0]).shape == (0, 4, 3, 8)
