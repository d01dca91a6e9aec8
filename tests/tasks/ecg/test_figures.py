"""The pictures of a test can be drawn, whatever is in it."""

from dataclasses import replace

import numpy as np
import pytest
from matplotlib.figure import Figure
from scored_records import Oracle, made_data, scoring_of

from tasks.ecg import page
from tasks.ecg.figures import draw_all, draw_classes, worst_records
from tasks.ecg.scoring import score_baselines, score_classifier


@pytest.fixture
def pages(monkeypatch):
    """Takes the place of the paper; keeps what it was asked for."""
    asked = []

    def draw(signal, rate, leads, title, findings, saliency=None, present=None, *, synthetic=False):
        asked.append({"signal": signal, "title": title, "findings": findings, "synthetic": synthetic})
        return Figure()

    monkeypatch.setattr(page, "draw_page", draw)
    return asked


def drawn(data, results, path):
    names = []
    for name, figure in draw_all(None, scoring_of(), data, results):
        figure.savefig(path / f"{name}.png", dpi=40)
        names.append(name)
    return names


def results_of(data, noise=3.0, baselines=True, folds=False, bootstrap=20):
    config = scoring_of(bootstrap=bootstrap, baselines=["prevalence"] if baselines else [])
    model = score_classifier(Oracle(data, noise, folds=folds), config, data)
    return {"model": model, **score_baselines(config, data)}


def test_all_pictures_are_drawn(pages, tmp_path):
    data = made_data(60, folds=5)
    names = drawn(data, results_of(data, folds=True), tmp_path)
    curves = ["roc", "precision_recall", "classes", "calibration", "found", "folds"]
    assert names == [*curves, "worst_1", "worst_2", "worst_3", "worst_4"]


def test_synthetic_records_are_called_so_in_every_picture(pages):
    data = made_data(60)
    figures = dict(draw_all(None, scoring_of(), data, results_of(data)))
    for name, figure in figures.items():
        if not name.startswith("worst"):
            assert any("synthetic" in axis.get_title() for axis in figure.axes), name
    assert pages and all(asked["synthetic"] for asked in pages)
    real = replace(data, synthetic=False)
    for figure in dict(draw_all(None, scoring_of(), real, results_of(real))).values():
        assert not any("synthetic" in axis.get_title() for axis in figure.axes)


def test_the_worst_error_comes_first_with_its_own_signal(pages):
    data = made_data(60)
    results = results_of(data)
    outputs = results["model"].outputs
    worst = worst_records(outputs)
    wrong = outputs.found != outputs.labels
    errors = (np.abs(outputs.probabilities - outputs.labels) * wrong).max(1)
    assert errors[worst].tolist() == sorted(errors, reverse=True)[: len(worst)]
    list(draw_all(None, scoring_of(), data, results))
    record = outputs.records[worst[0]]
    assert pages[0]["signal"] is data.signals[record] and pages[0]["title"] == data.names[record]
    first = data.classes[int(np.flatnonzero(data.labels[record])[0])]
    assert pages[0]["findings"].startswith(f"labels: {first}")


def test_without_errors_no_page_is_drawn(pages, tmp_path):
    data = made_data(60)
    names = drawn(data, results_of(data, noise=0.0), tmp_path)
    assert not pages and names[-1] == "found"


def test_a_test_without_positives_can_be_drawn(pages, tmp_path):
    data = made_data(60)
    data.labels[:] = False
    assert drawn(data, results_of(data), tmp_path)[:2] == ["calibration", "found"]


def test_classes_without_areas_and_without_intervals_are_left_out(pages, tmp_path):
    data = made_data(60)
    data.labels[data.folds[0].test, 2] = False
    results = results_of(data, baselines=False, bootstrap=0)
    figure = draw_classes(data, results)
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert len(names) == 3 and not any(name.startswith("LBBB") for name in names)
    drawn(data, results, tmp_path)
