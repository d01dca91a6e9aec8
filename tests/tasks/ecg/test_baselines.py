"""The linear model learns what the labels do to the records; prevalence knows nothing."""

from dataclasses import replace

import numpy as np
import pytest
from scored_records import CLASSES, made_data, scoring_of

from tasks.ecg.baselines import held_out, linear, prevalence
from tasks.ecg.scoring import score_baselines


@pytest.fixture(scope="module")
def data():
    return made_data(100)


def test_the_linear_model_learns_and_its_probabilities_are_shares(data):
    results = score_baselines(scoring_of(bootstrap=0), data)
    assert list(results) == ["linear", "prevalence"]
    metrics = results["linear"].metrics
    assert metrics["macro_auroc"] > 0.9 and metrics["AF/auroc"] > 0.95
    assert results["prevalence"].metrics["macro_auroc"] == 0.5
    (fold,) = linear(data)
    known = data.labels[data.folds[0].train].mean(0)
    assert fold.test.shape == (20, len(CLASSES)) and fold.held_out.shape == (20, len(CLASSES))
    assert np.abs(fold.test.mean(0) - known).max() < 0.2


def test_test_labels_are_not_looked_at(data):
    changed = replace(data, labels=data.labels.copy())
    changed.labels[data.folds[0].test] ^= True
    (before,), (after,) = linear(data), linear(changed)
    assert (before.test == after.test).all() and (before.held_out == after.held_out).all()


def test_a_class_without_positive_training_records_has_probability_zero(data):
    changed = replace(data, labels=data.labels.copy())
    changed.labels[data.folds[0].train, 3] = False
    (fold,) = linear(changed)
    assert not fold.test[:, 3].any() and fold.test[:, 2].all()


def test_prevalence_is_the_share_in_training(data):
    (fold,) = prevalence(data)
    assert (fold.test == data.labels[data.folds[0].train].mean(0)).all()


def test_prevalence_ranks_nothing_over_folds():
    folds = made_data(100, folds=5)
    folds.labels[folds.folds[0].test, 3] = True  # the others then have a higher share in training
    result = score_baselines(scoring_of(bootstrap=0, baselines=["prevalence"]), folds)["prevalence"]
    assert result.metrics["RAD/auroc"] == pytest.approx(0.5)


def test_baselines_come_as_asked(data):
    asked = score_baselines(scoring_of(bootstrap=0, baselines=["prevalence", "linear"]), data)
    assert list(asked) == ["prevalence", "linear"]


def test_where_nothing_can_be_learned_a_guess_takes_their_place(data):
    nothing = np.zeros(0, int)
    fold = replace(data.folds[0], train=nothing, validation=nothing, test=np.arange(data.size))
    results = score_baselines(scoring_of(bootstrap=10), replace(data, folds=[fold]))
    assert list(results) == ["guess"]
    guess = results["guess"]
    assert guess.metrics["macro_auroc"] == 0.5 and "nothing to learn from" in guess.notes[-1]
    assert guess.metrics["AF/sensitivity"] == 1 and guess.metrics["AF/specificity"] == 0


def test_training_records_take_the_place_of_missing_validation_records(data):
    fold = replace(data.folds[0], validation=np.zeros(0, int))
    (chosen,) = held_out(replace(data, folds=[fold]))
    assert (chosen == fold.train).all()
