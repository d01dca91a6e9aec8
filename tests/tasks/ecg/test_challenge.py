"""The challenge's score against the evaluator's value and the plain loop that defines it."""

from pathlib import Path

import numpy as np
import pytest

from tasks.ecg.challenge import challenge_score, challenge_terms, score_of, scoring_of
from tasks.ecg.data.codes import CHALLENGE_CLASSES, challenge_weights
from tasks.ecg.measures import f_measure, macro

DECISIONS = Path(__file__).parent / "fixtures" / "physionet2021_decisions.npz"
"""Random labels and outputs of 4000 records, as bits."""


def by_loop(labels, outputs, weights, normal):
    """Every pair of a true and a found class of every record."""

    def reward(found):
        total = 0.0
        for true, said in zip(labels, found, strict=True):
            count = max(sum(t or s for t, s in zip(true, said, strict=True)), 1)
            for j in np.flatnonzero(true):
                for k in np.flatnonzero(said):
                    total += weights[j, k] / count
        return total

    inactive = np.zeros_like(outputs)
    inactive[:, normal] = True
    least = reward(inactive)
    return (reward(outputs) - least) / (reward(labels) - least)


@pytest.fixture(scope="module")
def decisions():
    stored = np.load(DECISIONS)
    return [np.unpackbits(stored[name])[: 4000 * 26].reshape(4000, 26).astype(bool) for name in stored]


def test_score_is_the_evaluators(decisions):
    labels, outputs = decisions
    assert challenge_score(labels, outputs, challenge_weights()) == pytest.approx(
        0.6280886469821118, abs=1e-12
    )
    assert macro(f_measure(labels, outputs)) == pytest.approx(0.4495296547315522, abs=1e-12)


def test_score_is_that_of_the_plain_loop(decisions):
    labels, outputs = (part[:80].copy() for part in decisions)
    labels[:2] = outputs[1:3] = False  # nothing true, nothing found, and neither
    weights = np.random.default_rng(0).random((26, 26))  # one that is not symmetric
    expected = by_loop(labels, outputs, weights, 3)
    assert challenge_score(labels, outputs, weights, 3) == pytest.approx(expected, abs=1e-12)


def test_right_answers_score_one_and_sinus_rhythm_alone_scores_nothing(decisions):
    labels = decisions[0]
    normal = np.zeros_like(labels)
    normal[:, 14] = True
    weights = challenge_weights()
    assert challenge_score(labels, labels, weights) == pytest.approx(1)
    assert challenge_score(labels, normal, weights) == pytest.approx(0)
    assert np.isnan(challenge_score(normal, normal, weights))


def test_copies_of_records_are_weights_of_their_terms(decisions):
    labels, outputs = (part[:50] for part in decisions)
    copies = np.random.default_rng(1).integers(0, 3, 50)
    weights = challenge_weights()
    many = [np.repeat(part, copies, axis=0) for part in (labels, outputs)]
    terms = challenge_terms(labels, outputs, weights, 14)
    assert score_of(copies @ terms) == pytest.approx(challenge_score(*many, weights))


def test_some_classes_are_scored_by_their_part_of_the_weights(decisions):
    codes = ["426783006", "164873001", "59118001|713427006", "164889003"]  # the second is not scored
    scored = scoring_of(codes)
    assert scored is not None and scored.columns.tolist() == [0, 2, 3] and scored.normal == 0
    assert scored.weights == pytest.approx(challenge_weights()[np.ix_([14, 5, 0], [14, 5, 0])])
    labels, found = (part[:, [14, 25, 5, 0]] for part in decisions)
    kept = [part[:, [0, 2, 3]] for part in (labels, found)]
    expected = challenge_score(*kept, scored.weights, 0)
    assert score_of(scored.terms(labels, found).sum(0)) == pytest.approx(expected)


def test_all_scored_classes_in_another_order_give_the_same_score(decisions):
    order = np.random.default_rng(2).permutation(26)
    scored = scoring_of([CHALLENGE_CLASSES[i].code for i in order])
    terms = scored.terms(decisions[0][:, order], decisions[1][:, order])
    assert score_of(terms.sum(0)) == pytest.approx(0.6280886469821118, abs=1e-12)


@pytest.mark.parametrize(
    "codes", [[], ["", "", ""], ["164889003", "47665007"], ["426783006"], ["NORM", "PVC", "AF"]]
)
def test_without_sinus_rhythm_or_other_codes_there_is_no_score(codes):
    assert scoring_of(codes) is None
