"""Scores of a classifier that knows the labels, more or less."""

from dataclasses import replace

import numpy as np
import pytest
from scored_records import CLASSES, Oracle, made_data, scoring_of
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from tasks.ecg.challenge import challenge_score
from tasks.ecg.challenge import scoring_of as scored_classes
from tasks.ecg.scoring import calibrate, score_classifier
from tasks.ecg.thresholds import choose_thresholds


@pytest.fixture(scope="module")
def data():
    return made_data(100)


@pytest.fixture(scope="module")
def folds():
    return made_data(100, folds=5)


def test_a_perfect_classifier_scores_one(data):
    result = score_classifier(Oracle(data, noise=0.0), scoring_of(bootstrap=20), data)
    for name in ("macro_auroc", "macro_auprc", "macro_f", "challenge", "macro_auroc_low", "macro_auroc_high"):
        assert result.metrics[name] == pytest.approx(1), name
    assert (result.rows["labels"] == result.rows["found"]).all()


def test_metrics_are_those_of_the_test_records(data):
    classifier = Oracle(data, noise=3.0)
    result = score_classifier(classifier, scoring_of(bootstrap=0), data)
    test = data.folds[0].test
    labels = data.labels[test]
    scores = Oracle(data, noise=3.0).probabilities([data.signals[i] for i in test])
    found = scores >= 0.5
    assert [i for _, i in classifier.asked] == test.tolist()
    metrics = result.metrics
    assert metrics["macro_auroc"] == pytest.approx(roc_auc_score(labels, scores, average="macro"))
    assert metrics["macro_auprc"] == pytest.approx(average_precision_score(labels, scores, average="macro"))
    assert metrics["macro_f"] == pytest.approx(f1_score(labels, found, average="macro"))
    assert metrics["AF/auroc"] == pytest.approx(roc_auc_score(labels[:, 1], scores[:, 1]))
    assert metrics["AF/sensitivity"] == pytest.approx(found[labels[:, 1], 1].mean())
    assert metrics["AF/specificity"] == pytest.approx(1 - found[~labels[:, 1], 1].mean())
    scored = scored_classes(data.codes)
    assert metrics["challenge"] == pytest.approx(challenge_score(labels, found, scored.weights, 0))
    assert "macro_auroc_low" not in metrics


def test_intervals_hold_the_value(data):
    result = score_classifier(Oracle(data, noise=6.0), scoring_of(bootstrap=200), data)
    for name in ("macro_auroc", "macro_auprc", "challenge"):
        assert result.metrics[f"{name}_low"] < result.metrics[name] < result.metrics[f"{name}_high"]
    assert any("200 drawings of 10 patients" in note for note in result.notes)


def test_the_first_note_has_the_means_with_their_intervals(data):
    result = score_classifier(Oracle(data, noise=6.0), scoring_of(bootstrap=50), data)
    m = result.metrics
    area, precision, f, challenge = result.notes[0].split(", ")
    assert area == (
        f"macro AUROC {m['macro_auroc']:.3f} (95 % {m['macro_auroc_low']:.3f} to {m['macro_auroc_high']:.3f})"
    )
    assert precision.startswith(f"AUPRC {m['macro_auprc']:.3f} (95 % {m['macro_auprc_low']:.3f}")
    assert f == f"F {m['macro_f']:.3f}" and challenge.startswith(f"challenge {m['challenge']:.3f} (95 %")
    plain = score_classifier(Oracle(data, noise=6.0), scoring_of(bootstrap=0), data).notes[0]
    assert plain.startswith(f"macro AUROC {m['macro_auroc']:.3f}, AUPRC ") and "95 %" not in plain
    assert "research software: not a medical device" in result.notes


def test_the_mean_of_f_is_over_classes_of_both_kinds(data):
    changed = replace(data, labels=data.labels.copy())
    changed.labels[:, 3] = True
    classifier = Oracle(changed, noise=3.0)
    metrics = score_classifier(classifier, scoring_of(bootstrap=0), changed).metrics
    assert metrics["RAD/f"] > 0.8
    assert metrics["macro_f"] == pytest.approx(np.mean([metrics[f"{name}/f"] for name in CLASSES[:3]]))


def test_rows_say_what_was_found(data):
    classifier = Oracle(data, noise=3.0)
    classifier.thresholds = [0.5, 0.0, 1.1, 0.5]
    rows = score_classifier(classifier, scoring_of(bootstrap=0), data).rows
    assert list(rows.columns) == ["file", "patient", "fold", "labels", "found", *CLASSES]
    assert rows["found"].str.contains("AF").all() and not rows["found"].str.contains("LBBB").any()
    first = data.folds[0].test[0]
    assert rows["file"][0] == data.names[first] and rows["patient"][0] == data.patients[first]
    assert rows["labels"][0] == ";".join(np.array(CLASSES)[data.labels[first]])


def test_each_folds_network_scores_records_that_it_has_not_seen(folds):
    classifier = Oracle(folds, folds=True)
    result = score_classifier(classifier, scoring_of(bootstrap=0), folds)
    parts = {fold.name: fold for fold in folds.folds}
    assert len(result.rows) == folds.size and set(result.rows["file"]) == set(folds.names)
    for name, record in classifier.asked:
        assert record in np.append(parts[name].test, parts[name].validation)
    metrics = result.metrics
    every = [metrics[f"{fold.name}/macro_auroc"] for fold in folds.folds]
    assert metrics["macro_auroc_folds"] == pytest.approx(np.mean(every))
    assert metrics["macro_auroc_std"] == pytest.approx(np.std(every, ddof=1))


def test_other_folds_are_scored_by_networks_that_have_not_seen_the_records(folds):
    home = {int(i): fold.name for fold in folds.folds for i in fold.test}
    order = np.arange(folds.size)
    moved = [
        replace(fold, test=order[k::5], train=np.delete(order, np.s_[k::5]))
        for k, fold in enumerate(folds.folds)
    ]
    classifier = Oracle(folds, folds=True, noise=3.0)
    classifier.thresholds = [0.1, 0.2, 0.3, 0.4]
    result = score_classifier(classifier, scoring_of(bootstrap=0), replace(folds, folds=moved))
    assert len(classifier.asked) == folds.size
    assert all(name == home[i] for name, i in classifier.asked)
    assert (result.outputs.thresholds == classifier.thresholds).all()
    assert any("100 of 100 test records were in the training" in note for note in result.notes)
    scores = Oracle(folds, noise=3.0).probabilities([folds.signals[i] for i in result.outputs.records])
    assert np.array_equal(result.outputs.probabilities, scores.astype(float)), "in their order"


def test_new_records_are_scored_by_all_networks(folds):
    classifier = Oracle(folds, folds=True)
    fold = replace(folds.folds[0], name="model", test=np.arange(100), train=np.zeros(0, int))
    part = replace(folds, folds=[replace(fold, validation=np.zeros(0, int))], patients=folds.patients.copy())
    classifier.folds = {
        name: {"test": marks[:8], "validation": marks[:0]}
        for name, marks in ((name, each["test"]) for name, each in classifier.folds.items())
    }
    result = score_classifier(classifier, scoring_of(bootstrap=0), part)
    asked = [name for name, _ in classifier.asked]
    assert len(asked) == 100 and 0 < asked.count(None) < 100
    assert any("others by the mean of all" in note for note in result.notes)
    classifier.folds = {"fold1": {"test": [], "validation": []}}
    result = score_classifier(classifier, scoring_of(bootstrap=0), part)
    assert any(
        "on the networks of the folds one by one; their mean is asked" in note for note in result.notes
    )


def test_thresholds_of_a_fold_are_not_chosen_on_its_test_records(folds):
    def thresholds(data):
        return score_classifier(
            Oracle(folds, folds=True, noise=3.0), scoring_of(bootstrap=0), data
        ).outputs.thresholds

    changed = replace(folds, labels=folds.labels.copy())
    changed.labels[folds.folds[2].test] ^= True
    before, after = thresholds(folds), thresholds(changed)
    mine = slice(40, 60)
    assert (before[mine] == after[mine]).all() and (before != after).any()


def test_a_model_of_other_data_is_asked_as_a_whole(folds):
    classifier = Oracle(folds)
    result = score_classifier(classifier, scoring_of(bootstrap=0), folds)
    assert {fold for fold, _ in classifier.asked} == {None}
    assert (result.outputs.thresholds == 0.5).all()


def test_thresholds_are_calibrated_on_validation_records(data):
    classifier, scoring = Oracle(data, noise=3.0, shift=-2.0), scoring_of(threshold="youden").scoring
    thresholds = calibrate(classifier, scoring, data)
    chosen = data.folds[0].validation
    assert [i for _, i in classifier.asked] == chosen.tolist()
    scores = Oracle(data, noise=3.0, shift=-2.0).probabilities([data.signals[i] for i in chosen])
    assert thresholds == pytest.approx(choose_thresholds(data.labels[chosen], scores, "youden"))
    assert all(window is scoring for window in classifier.windows)


def test_notes_say_what_is_uncertain(data):
    changed = replace(data, labels=data.labels.copy(), codes=["", *data.codes[1:]])
    changed.labels[:, 3] = False
    result = score_classifier(Oracle(changed), scoring_of(bootstrap=0), changed)
    notes = " / ".join(result.notes)
    assert "only positive or only negative test records of RAD" in notes
    assert "RAD rest on fewer than 5" in notes
    assert "challenge" not in result.metrics and "RAD/auroc" not in result.metrics
    assert all(np.isfinite(value) for value in result.metrics.values())
    part = score_classifier(Oracle(data), scoring_of(bootstrap=0), data)
    assert any("4 of the 26 scored classes" in note for note in part.notes)


def test_missing_validation_records_are_said(data):
    fold = replace(data.folds[0], validation=np.zeros(0, int))
    result = score_classifier(Oracle(data), scoring_of(bootstrap=0), replace(data, folds=[fold]))
    assert any("chosen on training records" in note for note in result.notes)
