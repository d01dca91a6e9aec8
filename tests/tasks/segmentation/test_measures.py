"""Measures against hand values, scikit-learn and distances of all pairs of points."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from sklearn import metrics

from tasks.segmentation import measures
from tasks.segmentation.measures import Confusion, confusion


def test_counts_and_shares_by_hand():
    truth = np.array([1, 1, 1, 1, 0, 0, 0, 0, 0, 0], bool)
    found = np.array([1, 1, 1, 0, 1, 1, 0, 0, 0, 0], bool)
    counts = confusion(truth, found)
    assert counts == Confusion(tp=3, fp=2, fn=1, tn=4)
    assert counts.dice == pytest.approx(6 / 9) and counts.iou == pytest.approx(3 / 6)
    assert counts.sensitivity == pytest.approx(3 / 4) and counts.specificity == pytest.approx(4 / 6)
    assert counts.accuracy == pytest.approx(7 / 10)
    assert counts.truth == 4 and counts.predicted == 5


def test_many_voxels_do_not_saturate():
    """The released R2U-Net adds booleans, and all of its scores are 0."""
    truth = np.ones((4, 300, 300), bool)
    counts = confusion(truth, truth) + confusion(truth, ~truth)
    assert counts == Confusion(tp=360_000, fn=360_000)
    assert counts.dice == pytest.approx(2 / 3)


def test_shares_match_sklearn():
    rng = np.random.default_rng(0)
    truth, found = rng.random(500) < 0.3, rng.random(500) < 0.4
    counts = confusion(truth, found)
    assert counts.dice == pytest.approx(metrics.f1_score(truth, found))
    assert counts.iou == pytest.approx(metrics.jaccard_score(truth, found))
    assert counts.sensitivity == pytest.approx(metrics.recall_score(truth, found))
    assert counts.specificity == pytest.approx(metrics.recall_score(~truth, ~found))
    assert counts.accuracy == pytest.approx(metrics.accuracy_score(truth, found))


def test_what_does_not_count_is_left_out():
    truth = np.array([[1, 1], [0, 0]], bool)
    found = np.array([[1, 0], [1, 0]], bool)
    assert confusion(truth, found, np.array([[1, 1], [0, 0]], bool)) == Confusion(tp=1, fn=1)


def test_nothing_to_measure_is_nan():
    empty = np.zeros((1, 3, 3), bool)
    assert np.isnan(confusion(empty, empty).dice) and np.isnan(confusion(empty, empty).iou)
    assert np.isnan(measures.surface_measures(empty, empty, (1, 1, 1), 1.0)).all()
    one = empty.copy()
    one[0, 1, 1] = True
    distance, near = measures.surface_measures(empty, one, (1, 1, 1), 1.0)
    assert np.isnan(distance) and near == 0


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_shifted_box_is_as_far_as_it_is_shifted(axis):
    """In mm, along each axis of an anisotropic volume."""
    spacing = (3.0, 1.0, 0.5)
    truth = np.zeros((24, 24, 24), bool)
    truth[5:15, 5:15, 5:15] = True
    found = np.roll(truth, 2, axis)
    to_prediction, to_truth = measures.surface_distances(truth, found, spacing)
    assert to_prediction.max() == to_truth.max() == pytest.approx(2 * spacing[axis])
    assert measures.hausdorff95(to_prediction, to_truth) == pytest.approx(2 * spacing[axis])
    # Farther than the tolerance are the two sides that moved, but not where the other box's sides pass through.
    assert measures.surface_dice(to_prediction, to_truth, 2 * spacing[axis]) == 1
    assert measures.surface_dice(to_prediction, to_truth, 2 * spacing[axis] - 0.1) < 1


@pytest.mark.parametrize("shape", [(9, 12, 10), (1, 20, 24)])
def test_distances_match_those_of_all_pairs(shape):
    rng = np.random.default_rng(1)
    spacing = (2.5, 1.0, 0.7)
    truth, found = rng.random(shape) < 0.2, rng.random(shape) < 0.15
    truth[0, 3:8, 3:8] = True

    def surface(mask):
        padded = np.pad(mask, 1)
        inside = np.ones_like(padded)
        for axis in range(1 if shape[0] == 1 else 0, 3):  # an image has no surface above and below
            inside &= np.roll(padded, 1, axis) & np.roll(padded, -1, axis)
        return np.argwhere((padded & ~inside)[1:-1, 1:-1, 1:-1]) * spacing

    distances = cdist(surface(truth), surface(found))
    to_prediction, to_truth = measures.surface_distances(truth, found, spacing)
    np.testing.assert_allclose(to_prediction, distances.min(1))
    np.testing.assert_allclose(to_truth, distances.min(0))
    expected = max(np.percentile(distances.min(1), 95), np.percentile(distances.min(0), 95))
    near = (distances.min(1) <= 1).sum() + (distances.min(0) <= 1).sum()
    result = measures.surface_measures(truth, found, spacing, 1.0)
    assert result == pytest.approx((expected, near / sum(distances.shape)))


@pytest.fixture
def objects():
    """Three true objects; one is found exactly, one in two halves, one not at all, and one more is made up."""
    truth, found = np.zeros((1, 20, 20), int), np.zeros((1, 20, 20), int)
    truth[0, :4, :4], truth[0, 6:10, :10], truth[0, 15:, 15:] = 7, 3, 12  # any numbers
    found[0, :4, :4] = 1
    found[0, 6:10, :6], found[0, 6:10, 6:10] = 2, 3
    found[0, 15:18, :5] = 9
    return truth, found


def test_objects_by_hand(objects):
    ious = measures.overlaps(*objects)
    np.testing.assert_allclose(ious, [[0, 0.6, 0.4, 0], [1, 0, 0, 0], [0, 0, 0, 0]])  # rows 3, 7, 12
    assert [measures.matches(ious, t) for t in (0.3, 0.5, 0.6, 0.65)] == [2, 2, 2, 1]
    assert measures.instance_f1(ious, 0.5) == pytest.approx(2 * 2 / 7)
    # Two are found up to 0.6, that is at three thresholds, and one at the other seven.
    assert measures.instance_precision(ious) == pytest.approx((3 * 2 / 5 + 7 * 1 / 6) / 10)


def test_each_object_is_matched_once_and_as_many_as_possible():
    # Taking the largest overlap first would leave the second object without a partner.
    assert measures.matches(np.array([[0.4, 0.35], [0.45, 0.0]]), 0.3) == 2
    assert measures.matches(np.array([[0.4], [0.45]]), 0.3) == 1


def test_no_objects():
    truth, empty = np.ones((1, 2, 2), int), np.zeros((1, 2, 2), int)
    assert np.isnan(measures.instance_f1(measures.overlaps(empty, empty), 0.5))
    assert measures.instance_f1(measures.overlaps(truth, empty), 0.5) == 0
    assert measures.instance_precision(measures.overlaps(empty, truth)) == 0


def test_roc_matches_sklearn_and_is_thinned():
    rng = np.random.default_rng(2)
    positives = rng.random(20_000) < 0.1
    scores = rng.normal(positives * 1.5, 1)
    curve = measures.roc(scores, positives, points=100)
    assert curve.area == pytest.approx(metrics.roc_auc_score(positives, scores))
    assert 50 < len(curve.hits) <= 100
    assert (curve.false_alarms[0], curve.hits[0], curve.false_alarms[-1], curve.hits[-1]) == (0, 0, 1, 1)
    assert np.trapezoid(curve.hits, curve.false_alarms) == pytest.approx(curve.area, abs=1e-3)
    assert measures.roc(scores, np.zeros(20_000, bool)) is None
