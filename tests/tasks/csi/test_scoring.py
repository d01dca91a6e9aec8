"""Scores of a predictor and of the baselines, against the measures themselves."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from core.commands.results import compare
from core.config import to_dict
from core.errors import ConfigError
from tasks.csi.config import CsiEvaluateConfig, RnnConfig, TransformerConfig
from tasks.csi.costs import cpu_seconds, network_cost
from tasks.csi.data.dataset import Condition
from tasks.csi.data.disturb import disturb, parse_disturbance
from tasks.csi.measures import decibel, step_nmse
from tasks.csi.models.build import build_network
from tasks.csi.scoring import disturbed, score_baselines, score_predictor
from tasks.csi.task import TASK


def test_a_network_that_repeats_the_last_report_scores_as_the_baseline_last(
    last_predictor, csi_config, csi_data
):
    model = score_predictor(last_predictor, csi_config, csi_data)
    last = score_baselines(csi_config, csi_data)["last"]
    for name, value in last.metrics.items():
        assert model.metrics[name] == pytest.approx(value, rel=1e-5), name
    assert set(model.metrics) == set(last.metrics)


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
        for part in ("10mps", "E"):
            assert metrics[f"{name}/{part}/nmse_db"] == decibel(metrics[f"{name}/{part}/nmse"])
        assert metrics[f"{name}/E_10mps/nmse"] == pytest.approx(values[fast & of_e].mean(), rel=1e-5)
        wide = np.array([c.delay_spread == 100 for c in conditions])
        assert metrics[f"{name}/100ns/nmse"] == pytest.approx(values[wide].mean(), rel=1e-5)
        assert metrics[f"{name}/unseen_model/nmse"] == pytest.approx(values[of_e].mean(), rel=1e-5)
    clean = np.repeat(csi_data.test.history[:, :, -1:], 3, 2) - target
    total = (np.abs(clean) ** 2).sum() / (np.abs(target) ** 2).sum()
    assert metrics["clean/nmse_total"] == pytest.approx(total, rel=1e-4)


def test_the_table_has_the_whole_and_each_disturbance_by_model_and_by_speed_in_decibel(
    last_predictor, csi_config, csi_data
):
    csi_data.disturbances = ["clean", "awgn:10"]
    results = {"model": score_predictor(last_predictor, csi_config, csi_data)}
    results |= score_baselines(csi_config, csi_data)
    assert (TASK.primary_metric(csi_config, csi_data), TASK.higher_is_better, TASK.unit) == (
        "nmse_db",
        False,
        "dB",
    )
    rows = compare(results, "nmse_db", TASK.higher_is_better, TASK.unit)
    parts = ("", "A/", "C/", "E/", "1mps/", "10mps/")
    expected = [f"{name}/{part}nmse_db" for name in ("clean", "awgn_10dB") for part in parts]
    assert [row.name for row in rows] == [*expected, "nmse_db"]
    best = min(result.metrics["nmse_db"] for name, result in results.items() if name != "model")
    assert rows[-1].difference == f"{best - results['model'].metrics['nmse_db']:+.2f} dB"


def test_there_is_a_row_for_each_sample_and_disturbance(last_predictor, csi_config, csi_data):
    result = score_predictor(last_predictor, csi_config, csi_data)
    rows = result.rows
    assert len(rows) == 3 * 36 and not rows.isna().any(axis=None)
    assert set(rows.loc[rows["unseen_model"], "model"]) == {"E"} and rows["unseen_model"].sum() == 3 * 12
    np.testing.assert_allclose(rows[["nmse_1", "nmse_2", "nmse_3"]].mean(axis=1), rows["nmse"])
    assert rows.groupby("disturbance", sort=False)["nmse"].mean().to_dict() == pytest.approx(
        {name: result.metrics[f"{name}/nmse"] for name in ("clean", "awgn_10dB", "drop_0.2")}
    )
    perfect, metrics = rows["perfect_efficiency"].mean(), result.metrics
    assert result.notes == [
        f"spectral efficiency at 10 dB: {metrics['spectral_efficiency']:.2f} bit/s/Hz, {perfect:.2f} with the true "
        f"channel; cosine similarity {metrics['cosine']:.3f} (mean over clean, awgn_10dB, drop_0.2)",
        "TDD, CDL A, C -> A, C, E; 16 -> 3 reports every 2.5 ms; clean, awgn_10dB, drop_0.2",
        "not learned from: CDL E",
        "ar and wiener: one set of coefficients for all antennas, subcarriers and conditions, from 48 training samples",
        "wiener is told the noise power of each test sample; the network and ar are not",
    ]


def test_scores_do_not_depend_on_the_size_of_a_batch(last_predictor, csi_config, csi_data):
    def score():
        results = {"model": score_predictor(last_predictor, csi_config, csi_data)}
        return results | score_baselines(csi_config, csi_data)

    first = score()
    csi_config.scoring = replace(csi_config.scoring, batch=36)
    for name, result in score().items():
        assert result.metrics == pytest.approx(first[name].metrics), name
        assert "cpu_s_per_sample" not in result.metrics


def test_costs_are_measured_for_every_method_and_said(make_predictor, last_net, csi_config, csi_data):
    csi_config.scoring = replace(csi_config.scoring, cost=True, baselines=["last"])
    result = score_predictor(make_predictor(last_net), csi_config, csi_data)
    assert result.metrics["parameters"] == 1 and result.metrics["gmacs"] == 0
    assert result.metrics["cpu_s_per_sample"] > 0
    assert score_baselines(csi_config, csi_data)["last"].metrics["cpu_s_per_sample"] > 0
    (line,) = [note for note in result.notes if "CPU-seconds" in note]
    assert line.startswith("a sample of 4 antennas costs 0 GMACs") and line.endswith(
        "the network has 1 parameters"
    )


def test_processor_time_is_the_median_of_calls_that_took_long_enough_together(monkeypatch):
    clock = iter([0.0, 0.1, 1.0, 1.01, 2.0, 2.05, 3.0, 3.06])
    monkeypatch.setattr("tasks.csi.costs.time.process_time", lambda: next(clock))
    calls = []
    assert cpu_seconds(lambda: calls.append(1)) == pytest.approx(0.055)
    assert len(calls) == 1 + 4


def test_unseen_models_are_those_that_the_network_did_not_learn_from(last_predictor, csi_config, csi_data):
    csi_config.data = replace(csi_config.data, models=["A", "E"], path="other")
    result = score_predictor(last_predictor, csi_config, csi_data)
    assert set(result.rows.loc[result.rows["unseen_model"], "model"]) == {"E"}
    assert (
        "ar and wiener: fitted to other channels than the network (path other, not None, models ['A', 'E'], not "
        "['A', 'C'])" in result.notes
    )
    csi_config.scoring = replace(csi_config.scoring, baselines=["pad"])
    assert not any("fitted" in note for note in score_predictor(last_predictor, csi_config, csi_data).notes)


def test_speeds_and_delay_spreads_that_were_not_learned_from_are_said(last_predictor, csi_config, csi_data):
    conditions = [Condition("A", 300.0, 1.0), Condition("A", 30.0, 30.0)]
    csi_data.test = replace(csi_data.test, condition=csi_data.test.condition % 2, conditions=conditions)
    notes = score_predictor(last_predictor, csi_config, csi_data).notes
    assert "not learned from: 300 ns, 30 m/s" in notes


def test_reports_and_carriers_of_another_rate_are_said(make_predictor, last_net, csi_config, csi_data):
    predictor = make_predictor(last_net, interval=5e-3, carrier=28e9)
    notes = score_predictor(predictor, csi_config, csi_data).notes
    assert "the model was trained for reports every 5 ms; these channels have reports every 2.5 ms" in notes
    assert "the model was trained for a carrier of 28 GHz; these channels have a carrier of 2.4 GHz" in notes


def test_a_model_of_files_is_not_scored_on_generated_channels_unasked(last_predictor, csi_config, csi_data):
    last_predictor.metadata = {"data": {"config": to_dict(replace(csi_config.data, path="measured"))}}
    evaluation = CsiEvaluateConfig(data=csi_config.data, scoring=csi_config.scoring)
    with pytest.raises(
        ConfigError, match=r"trained on files \(measured\): give --data.path FOLDER, or --data.name"
    ):
        score_predictor(last_predictor, evaluation, csi_data)
    evaluation.data = replace(csi_config.data, name="cdl")
    assert score_predictor(last_predictor, evaluation, csi_data).metrics
    # A training that scores the champion has said what it is about.
    assert score_predictor(last_predictor, csi_config, csi_data).metrics


def test_what_is_the_same_for_all_channels_has_no_row_of_its_own(last_predictor, csi_config, csi_data):
    csi_data.test = csi_data.test.select(csi_data.test.condition == 0)
    names = score_predictor(last_predictor, csi_config, csi_data).metrics
    assert {name for name in names if name.endswith("/nmse")} == {
        f"{name}/{part}nmse" for name in ("clean", "awgn_10dB", "drop_0.2") for part in ("", "A_1mps/")
    }


def test_baselines_come_in_the_order_that_is_asked_for(csi_config, csi_data):
    csi_config.scoring = replace(csi_config.scoring, baselines=["pad", "ar", "last", "wiener"])
    results = score_baselines(csi_config, csi_data)
    assert list(results) == ["pad", "ar", "last", "wiener"]
    fast = {name: result.metrics["clean/10mps/nmse"] for name, result in results.items()}
    assert fast["pad"] < 0.1 * fast["last"] and fast["wiener"] < fast["last"]


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
    assert noise == pytest.approx(np.full(36, 0.1), rel=0.2)
    clean = csi_data.test.history[5]
    assert noise[5] == pytest.approx(np.sum(np.abs(history[5] - clean) ** 2) / np.sum(np.abs(clean) ** 2))
    part, same = disturbed(csi_data, parse_disturbance("awgn:10"), which[5:7], 0)
    np.testing.assert_array_equal(part, history[5:7])
    np.testing.assert_array_equal(same, noise[5:7])
    assert not disturbed(csi_data, parse_disturbance("clean"), which, 0)[1].any()


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("subcarriers", 9, "set --data.subcarriers 9"),
        ("history", 8, "set --data.history 8"),
        ("horizon", 4, "horizon 4 and the channels 3"),
        ("duplex", "fdd", "the model has duplex fdd and the channels tdd: set --data.duplex fdd"),
    ],
)
def test_a_network_for_other_channels_is_one_line(
    make_predictor, last_net, csi_config, csi_data, option, value, message
):
    predictor = make_predictor(last_net, **{option: value})
    with pytest.raises(ConfigError, match=message):
        score_predictor(predictor, csi_config, csi_data)


def test_a_network_that_is_standardised_over_batches_says_so(make_predictor, last_net, csi_config, csi_data):
    predictor = make_predictor(last_net, model={"standardise": "batch"})
    assert any("batch of 7" in note for note in score_predictor(predictor, csi_config, csi_data).notes)


def test_costs_of_a_linear_layer_are_counted_by_hand(make_predictor):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.over_time = nn.Linear(16, 3)

        def forward(self, x):
            return self.over_time(x.mT).mT

    cost = network_cost(make_predictor(Net()), 4)
    assert cost == {"parameters": 16 * 3 + 3, "gmacs": 4 * 16 * 16 * 3 / 1e9}


@pytest.mark.parametrize(("cell", "gates"), [("gru", 3), ("lstm", 4)])
def test_products_of_recurrent_cells_are_counted(make_predictor, cell, gates):
    network = build_network(RnnConfig(cell=cell, width=6, layers=2), 8, 16, 3)
    by_hand = 16 * 16 * 6 + 2 * 16 * gates * 2 * 6 * 6 + 6 * 3 * 16  # embedding, cells, output
    assert network_cost(make_predictor(network), 4)["gmacs"] == pytest.approx(4 * by_hand / 1e9)


def test_products_of_attention_are_counted(make_predictor):
    network = build_network(TransformerConfig(width=6, layers=1, heads=2, feedforward=10), 8, 16, 3)
    linear = 16 * 16 * 6 + 16 * (4 * 6 * 6 + 2 * 6 * 10) + 6 * 3 * 16
    attention = 2 * 16 * 16 * 6  # scores, and sums of values
    assert network_cost(make_predictor(network), 4)["gmacs"] == pytest.approx(4 * (linear + attention) / 1e9)


def test_the_predictor_runs_antennas_as_rows_in_batches(make_predictor, csi_data):
    class Mean(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(()))
            self.rows = []

        def forward(self, x):
            self.rows.append(len(x))
            return self.weight * x.mean(1, keepdim=True).expand(-1, 3, -1)

    predictor = make_predictor(Mean())
    history = csi_data.test.history[:5]
    predicted = predictor.predict(history, batch=2)
    assert predictor.network.rows == [8, 8, 4]
    assert predicted.dtype == np.complex64
    np.testing.assert_allclose(predicted, np.repeat(history.mean(2, keepdims=True), 3, 2), atol=1e-6)
    assert predictor.predict(history[:0]).shape == (0, 4, 3, 8)
