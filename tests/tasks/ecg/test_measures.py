"""Measures against scikit-learn, hand values and the slow forms that define them."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, f1_score, fbeta_score, recall_score, roc_auc_score

from tasks.ecg.measures import (
    area_under_roc,
    auprc,
    auroc,
    average_precision,
    calibration_error,
    f_measure,
    macro,
    precision_recall,
    rank,
    reliability,
    roc,
    sensitivity,
    specificity,
)


@pytest.fixture(params=[None, 2, 1], ids=["distinct", "ties", "many ties"])
def scored(request):
    rng = np.random.default_rng(3)
    labels = rng.random((300, 5)) < [0.02, 0.1, 0.3, 0.5, 0.9]
    scores = rng.random((300, 5)) + 0.4 * labels
    return labels, scores if request.param is None else scores.round(request.param)


def test_areas_are_those_of_scikit_learn_with_ties_too(scored):
    labels, scores = scored
    columns = range(labels.shape[1])
    areas = [roc_auc_score(labels[:, c], scores[:, c]) for c in columns]
    precisions = [average_precision_score(labels[:, c], scores[:, c]) for c in columns]
    assert auroc(labels, scores) == pytest.approx(areas, abs=1e-12)
    assert auprc(labels, scores) == pytest.approx(precisions, abs=1e-12)


def test_weights_are_copies_of_records(scored):
    labels, scores = scored[0][:, 1], scored[1][:, 1]
    weights = np.random.default_rng(0).integers(0, 4, (len(labels), 7))
    ranking = rank(labels, scores, weights.astype(float))
    for k in range(7):
        many, copies = np.repeat(labels, weights[:, k]), np.repeat(scores, weights[:, k])
        assert area_under_roc(ranking)[k] == pytest.approx(roc_auc_score(many, copies), abs=1e-12)
        expected = average_precision_score(many, copies)
        assert average_precision(ranking)[k] == pytest.approx(expected, abs=1e-12)


def test_areas_of_four_records_by_hand():
    labels = np.array([[True], [False], [True], [False]])
    scores = np.array([[0.9], [0.8], [0.8], [0.1]])
    # Pairs won: 1 + 1, half of one tie, 1: 3.5 of 4. Precision 1 at half of the recall, then 2/3.
    assert auroc(labels, scores) == pytest.approx([3.5 / 4])
    assert auprc(labels, scores) == pytest.approx([0.5 * 1 + 0.5 * 2 / 3])


def test_classes_of_one_kind_are_unknown_and_left_out_of_means():
    labels = np.array([[True, False, True], [True, False, False]])
    scores = np.array([[0.6, 0.2, 0.9], [0.7, 0.3, 0.1]])
    for values in (auroc(labels, scores), auprc(labels, scores)):
        assert np.isnan(values[:2]).all() and values[2] == 1
        assert macro(values) == 1
    assert np.isnan(macro(np.full(3, np.nan)))


def test_decisions_are_those_of_scikit_learn(scored):
    labels, scores = scored
    found = scores > 0.7
    options = {"average": None, "zero_division": np.nan}
    assert f_measure(labels, found) == pytest.approx(f1_score(labels, found, **options))
    assert f_measure(labels, found, 2) == pytest.approx(fbeta_score(labels, found, beta=2, **options))
    assert sensitivity(labels, found) == pytest.approx(recall_score(labels, found, average=None))
    expected = [recall_score(~labels[:, c], ~found[:, c]) for c in range(labels.shape[1])]
    assert specificity(labels, found) == pytest.approx(expected)


def test_a_class_that_is_neither_there_nor_found_has_no_f_measure():
    nothing = np.zeros((4, 1), bool)
    assert np.isnan(f_measure(nothing, nothing)[0]) and f_measure(nothing, ~nothing)[0] == 0


def test_curves_enclose_the_areas(scored):
    labels, scores = scored[0][:, 2], scored[1][:, 2]
    false, hits = roc(labels, scores)
    assert np.trapezoid(hits, false) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
    recall, precision = precision_recall(labels, scores)
    steps = np.diff(np.append(0.0, recall)) @ precision
    assert steps == pytest.approx(average_precision_score(labels, scores), abs=1e-12)


def test_calibration_by_hand():
    probabilities = np.array([0.05, 0.05, 0.95, 1.0])
    labels = np.array([False, True, True, True])
    said, came, counts = reliability(labels, probabilities)
    assert counts.tolist() == [2, 0, 0, 0, 0, 0, 0, 0, 0, 2]
    assert said[[0, 9]] == pytest.approx([0.05, 0.975]) and came[[0, 9]] == pytest.approx([0.5, 1])
    assert np.isnan(said[1:9]).all()
    assert calibration_error(labels, probabilities) == pytest.approx(0.5 * 0.45 + 0.5 * 0.025)
