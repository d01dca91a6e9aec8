"""Measures against scikit-learn, SciPy and hand values."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.stats import binomtest, norm, poisson
from sklearn import metrics

from tasks.speech import measures


@pytest.fixture
def predictions():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 300)
    predicted = np.where(rng.random(300) < 0.7, labels, rng.integers(0, 5, 300))
    return labels, predicted  # class 4 is never spoken


@pytest.fixture
def decisions():
    rng = np.random.default_rng(1)
    positives = rng.random(400) < 0.3
    scores = np.round(rng.normal(positives * 1.2, 1), 1)  # many are equal
    return scores, positives


def test_confusion_and_recall_match_sklearn(predictions):
    matrix = measures.confusion_matrix(*predictions, 5)
    np.testing.assert_array_equal(matrix, metrics.confusion_matrix(*predictions, labels=range(5)))
    assert measures.accuracy(matrix) == pytest.approx(100 * metrics.accuracy_score(*predictions))
    recall = measures.class_recall(matrix)
    expected = 100 * metrics.recall_score(*predictions, labels=range(4), average=None)
    np.testing.assert_allclose(recall[:4], expected)
    assert np.isnan(recall[4])
    assert measures.macro_recall(matrix) == pytest.approx(expected.mean())


def test_roc_matches_sklearn(decisions):
    scores, positives = decisions
    false_alarms, hits, thresholds = measures.roc(scores, positives)
    expected = metrics.roc_curve(positives, scores, drop_intermediate=False)
    for ours, theirs in zip((false_alarms, hits, thresholds), expected, strict=True):
        np.testing.assert_allclose(ours, theirs)
    assert measures.area(false_alarms, hits) == pytest.approx(metrics.roc_auc_score(positives, scores))


def test_micro_average_over_words_matches_sklearn():
    rng = np.random.default_rng(2)
    labels = rng.integers(0, 5, 200)
    scores = rng.dirichlet(np.ones(5), 200) + 0.3 * np.eye(5)[labels]
    words = np.array([2, 3, 4])
    flat, positives = measures.one_against_rest(scores, labels, words)
    assert flat.shape == positives.shape == (600,)
    false_alarms, hits, _ = measures.roc(flat, positives)
    truth = np.eye(5)[labels][:, words]
    expected = metrics.roc_auc_score(truth, scores[:, words], average="micro")
    assert measures.area(false_alarms, hits) == pytest.approx(expected)


def test_equal_error_rate_is_where_the_curve_crosses():
    rng = np.random.default_rng(3)
    positives = rng.random(5000) < 0.4
    false_alarms, hits, _ = measures.roc(rng.normal(positives * 2.0, 1), positives)
    crossing = brentq(lambda x: 1 - x - np.interp(x, false_alarms, hits), 0, 1)
    rate = measures.equal_error_rate(false_alarms, hits)
    assert rate == pytest.approx(crossing, abs=1e-3)
    assert rate == pytest.approx(norm.cdf(-1.0), abs=0.01)  # of two normal distributions 2 apart


@pytest.mark.parametrize(("scores", "rate"), [([4, 3, 2, 1], 0.0), ([1, 2, 3, 4], 1.0), ([1, 1, 1, 1], 0.5)])
def test_equal_error_rate_by_hand(scores, rate):
    false_alarms, hits, _ = measures.roc(np.array(scores), np.array([True, True, False, False]))
    assert measures.equal_error_rate(false_alarms, hits) == rate
    assert measures.area(false_alarms, hits) == 1 - rate


def test_det_axes_are_normal_quantiles():
    shares = np.array([0.001, 0.05, 0.5, 0.9])
    np.testing.assert_allclose(measures.normal_deviate(shares), norm.ppf(shares))


@pytest.mark.parametrize(("count", "total"), [(0, 5), (5, 5), (93, 101), (1, 1)])
def test_wilson_interval_matches_scipy(count, total):
    expected = binomtest(count, total).proportion_ci(method="wilson")
    assert measures.wilson_interval(count, total) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_poisson_limit_is_refuted_in_one_of_twenty():
    for count in (0, 1, 7):
        assert poisson.cdf(count, measures.poisson_limit(count)) == pytest.approx(0.05)
    assert measures.poisson_limit(0) == pytest.approx(-np.log(0.05))  # the rule of three


def test_nothing_to_measure():
    empty = np.zeros((3, 3), int)
    assert np.isnan(measures.accuracy(empty)) and np.isnan(measures.macro_recall(empty))
    assert not measures.both_kinds(np.array([True, True])) and not measures.both_kinds(np.zeros(2, bool))
