"""Pictures show the numbers they are drawn from."""

from dataclasses import replace

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from tasks.csi.figures import FLOOR, draw_all, draw_conditions, draw_reports
from tasks.csi.scoring import score_baselines, score_predictor


@pytest.fixture
def results(last_predictor, csi_config, csi_data):
    return {"model": score_predictor(last_predictor, csi_config, csi_data)} | score_baselines(
        csi_config, csi_data
    )


def numbers(axis):
    return np.array([float(text.get_text()) for text in axis.texts])


def test_all_pictures_can_be_drawn(last_predictor, csi_config, csi_data, results):
    figures = dict(draw_all(last_predictor, csi_config, csi_data, results))
    assert list(figures) == [
        "disturbances",
        "conditions_clean",
        "conditions_awgn_10dB",
        "conditions_drop_0.2",
        "delay_spreads",
        "reports",
        "channel",
    ]
    for figure in figures.values():
        FigureCanvasAgg(figure).draw()


def test_the_table_of_conditions_has_the_errors_in_decibel(results):
    frames = {name: result.rows[result.rows["disturbance"] == "clean"] for name, result in results.items()}
    figure = draw_conditions(frames, "clean", ["A", "C"])
    axes = figure.axes[: len(frames)]
    for axis, (name, result) in zip(axes, results.items(), strict=True):
        assert axis.get_title() == name
        table = [result.metrics[f"clean/{m}_{s}mps/nmse"] for s in (1, 10) for m in "ACE"]
        expected = 10 * np.log10(np.maximum(table, FLOOR))
        np.testing.assert_allclose(numbers(axis), expected, atol=0.051)
    assert [label.get_text() for label in axes[0].get_xticklabels()] == ["A", "C", "E*"]
    limits = {axis.images[0].get_clim() for axis in axes}
    assert len(limits) == 1  # equal colours are equal errors


def test_disturbances_and_delay_spreads_have_a_row_for_each_method(
    last_predictor, csi_config, csi_data, results
):
    figures = dict(draw_all(last_predictor, csi_config, csi_data, results))
    clean, noisy, dropped = "clean", "awgn_10dB", "drop_0.2"
    for name, title, label, groups in (
        ("disturbances", "all channels", "disturbance of the history", [[clean], [noisy], [dropped]]),
        (
            "delay_spreads",
            "mean over clean, awgn_10dB, drop_0.2",
            "delay spread, ns",
            [[f"{d}/{s}ns" for d in (clean, noisy, dropped)] for s in (30, 100)],
        ),
    ):
        axis = figures[name].axes[0]
        table = [
            [10 * np.log10(np.mean([result.metrics[f"{part}/nmse"] for part in group])) for group in groups]
            for result in results.values()
        ]
        np.testing.assert_allclose(numbers(axis), np.ravel(table), atol=0.051)
        assert [label.get_text() for label in axis.get_yticklabels()] == ["network", *list(results)[1:]]
        assert figures[name].get_suptitle() == f"NMSE, dB: {title}" and axis.get_xlabel() == label


def test_a_star_marks_the_models_that_the_network_did_not_learn_from(
    last_predictor, csi_config, csi_data, results
):
    csi_config.data.models = ["E"]
    figure = dict(draw_all(last_predictor, csi_config, csi_data, results))["conditions_clean"]
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["A", "C", "E*"]


def test_errors_of_the_reports_are_drawn_over_the_time_ahead(results):
    frames = {name: result.rows for name, result in results.items()}
    figure = draw_reports(frames, ["clean", "awgn_10dB"], 2.5e-3)
    line = figure.axes[1].lines[1]
    assert line.get_label() == "ar"
    rows = frames["ar"][frames["ar"]["disturbance"] == "awgn_10dB"]
    np.testing.assert_allclose(line.get_xdata(), [2.5, 5, 7.5])
    np.testing.assert_allclose(line.get_ydata(), 10 * np.log10(rows[["nmse_1", "nmse_2", "nmse_3"]].mean()))


def test_the_picture_of_a_channel_shows_truth_and_prediction(last_predictor, csi_config, csi_data, results):
    figure = dict(draw_all(last_predictor, csi_config, csi_data, results))["channel"]
    truth, seen, difference = (axis.images[0].get_array() for axis in figure.axes[:3])
    assert truth.shape == seen.shape == difference.shape == (8, 19)
    np.testing.assert_allclose(seen[:, 16:], np.repeat(seen[:, 15:16], 3, 1))
    fast = np.concatenate([csi_data.test.history, csi_data.test.target], 2)[csi_data.test.condition % 2 == 1]
    assert min(np.abs(np.abs(one.T) - truth).max() for sample in fast for one in sample) < 1e-6
    assert "10 m/s, awgn_10dB" in figure.get_suptitle()


def test_one_condition_without_noise_has_fewer_pictures(last_predictor, csi_config, csi_data):
    csi_data.disturbances = ["clean"]
    csi_data.test = csi_data.test.select(csi_data.test.condition == 0)
    csi_config.scoring = replace(csi_config.scoring, baselines=["last"])
    results = {"model": score_predictor(last_predictor, csi_config, csi_data)}
    figures = dict(draw_all(last_predictor, csi_config, csi_data, results))
    assert list(figures) == ["conditions_clean", "reports", "channel"]
    for figure in figures.values():
        FigureCanvasAgg(figure).draw()
