"""Thresholds against a search over all of them."""

import numpy as np
import pytest
from sklearn.metrics import fbeta_score, recall_score

from tasks.ecg.thresholds import choose_thresholds


def gain(kind, labels, found):
    if kind == "youden":
        return recall_score(labels, found) + recall_score(~labels, ~found) - 1
    return fbeta_score(labels, found, beta={"f1": 1, "f2": 2}[kind], zero_division=0)


@pytest.mark.parametrize("kind", ["f1", "f2", "youden"])
@pytest.mark.parametrize("digits", [1, 6])
def test_no_other_threshold_is_better(kind, digits):
    rng = np.random.default_rng(1)
    labels = rng.random((80, 2)) < [0.15, 0.7]
    probabilities = np.clip(rng.random((80, 2)) * 0.7 + 0.3 * labels, 0, 1).round(digits)
    for c, threshold in enumerate(choose_thresholds(labels, probabilities, kind)):
        chosen = gain(kind, labels[:, c], probabilities[:, c] >= threshold)
        others = [gain(kind, labels[:, c], probabilities[:, c] >= t) for t in np.unique(probabilities[:, c])]
        assert chosen == pytest.approx(max(others))


def test_a_threshold_lies_between_what_it_separates():
    labels = np.array([[False], [True], [False], [True]] * 3)
    probabilities = np.array([[0.1], [0.6], [0.2], [0.9]] * 3, np.float32)
    assert choose_thresholds(labels, probabilities, "f1") == pytest.approx([0.4])


def test_from_few_positives_as_many_records_are_found_as_are_positive():
    labels = np.array([1, 0, 0, 0, 0, 1, 0, 1, 0, 1, 0, 0, 1], bool)[:, None]
    probabilities = np.linspace(0.7, 0.1, 13)[:, None]
    few, enough = (choose_thresholds(labels[:n], probabilities[:n], "f2")[0] for n in (12, 13))
    assert few == pytest.approx(0.525), "four of the twelve are found, not the ten that f2 would choose"
    assert enough == pytest.approx(0.05)


def test_f2_finds_more_than_f1():
    labels = np.array([1, 1, 0, 0, 0, 1, 0, 0] * 2, bool)[:, None]
    probabilities = np.tile(np.linspace(0.9, 0.2, 8), 2)[:, None]
    f1, f2 = (choose_thresholds(labels, probabilities, kind)[0] for kind in ("f1", "f2"))
    assert f1 == pytest.approx(0.75) and f2 == pytest.approx(0.35)


def test_the_lowest_threshold_is_half_of_the_lowest_probability():
    labels = np.array([[True], [False], [True]] * 3)
    probabilities = np.array([[0.5], [0.4], [0.2]] * 3)
    assert choose_thresholds(labels, probabilities, "f2") == pytest.approx([0.1])


def test_classes_of_one_kind_keep_one_half():
    labels = np.array([[True, False], [True, False]])
    assert choose_thresholds(labels, np.full((2, 2), 0.1), "youden").tolist() == [0.5, 0.5]
    assert choose_thresholds(np.zeros((0, 2), bool), np.zeros((0, 2)), "f1").tolist() == [0.5, 0.5]
