"""Intervals against resampling by hand, and as functions of the number of patients."""

import numpy as np
import pytest

from tasks.ecg.challenge import challenge_score, challenge_terms
from tasks.ecg.intervals import bootstrap
from tasks.ecg.measures import auprc, auroc, macro


def made(count, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.random((count, 3)) < [0.5, 0.3, 0.05]
    return labels, rng.random((count, 3)) + 0.4 * labels


def test_intervals_are_percentiles_of_resampled_patients():
    labels, scores = made(40)
    owner = np.arange(40) // 2
    patients = [f"P{i:02d}" for i in owner]
    weights = np.random.default_rng(0).random((3, 3))
    terms = challenge_terms(labels, scores > 0.8, weights, 0)
    result = bootstrap(labels, scores, patients, 100, 5, terms)
    rng = np.random.default_rng(5)
    values, classes = [], []
    for drawn in rng.multinomial(20, np.full(20, 1 / 20), size=100):
        chosen = np.repeat(np.arange(40), drawn[owner])
        areas = auroc(labels[chosen], scores[chosen])
        classes.append(areas)
        precision = macro(auprc(labels[chosen], scores[chosen]))
        found = scores[chosen] > 0.8
        values.append((macro(areas), precision, challenge_score(labels[chosen], found, weights, 0)))
    low, high = np.nanpercentile(values, [2.5, 97.5], axis=0)
    for k, name in enumerate(("macro_auroc", "macro_auprc", "challenge")):
        assert result.macro[name] == pytest.approx((low[k], high[k]), abs=1e-12)
    expected = np.nanpercentile(classes, [2.5, 97.5], axis=0).T
    assert result.auroc == pytest.approx(expected, abs=1e-12)


def test_many_records_of_few_patients_are_less_certain():
    labels, scores = made(400)
    labels, scores = labels[:, :1], scores[:, :1]
    # Of one patient all records are wrong: with few patients that happens seldom or often.
    scores[:40] = 1.2 - scores[:40]
    few = bootstrap(labels, scores, [str(i // 40) for i in range(400)], 300, 0).macro["macro_auroc"]
    many = bootstrap(labels, scores, [str(i) for i in range(400)], 300, 0).macro["macro_auroc"]
    assert few[1] - few[0] > 1.5 * (many[1] - many[0])


def test_the_same_seed_gives_the_same_interval():
    labels, scores = made(60)
    patients = [str(i) for i in range(60)]
    first, again, other = (bootstrap(labels, scores, patients, 50, seed).macro for seed in (1, 1, 2))
    assert first == again != other


def test_a_class_without_positives_has_no_interval():
    labels, scores = made(30)
    labels[:, 1] = False
    patients = [str(i) for i in range(30)]
    result = bootstrap(labels, scores, patients, 20, 0)
    assert np.isnan(result.auroc[1]).all() and np.isfinite(result.auroc[0]).all()
    assert set(result.macro) == {"macro_auroc", "macro_auprc"}
    assert bootstrap(np.zeros_like(labels), scores, patients, 20, 0).macro == {}
