"""The score of the PhysioNet/CinC challenges 2020 and 2021, in which some confusions cost less than others.

Perez Alday et al., Classification of 12-lead ECGs: the PhysioNet/Computing in Cardiology Challenge 2020, Physiological
Measurement 41 (2020), section 2.4.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tasks.ecg.data.codes import CHALLENGE_CLASSES, challenge_weights

NORMAL = 14
"""Place of sinus rhythm among the 26 scored classes."""


@dataclass(frozen=True)
class ChallengeScoring:
    """How the classes of some data are scored.

    Attributes:
        columns: ``(S,)`` which of the data's classes are scored.
        weights: ``(S, S)`` reward for finding class k where j is true, rows j.
        normal: Place of sinus rhythm among the scored classes.
    """

    columns: np.ndarray
    weights: np.ndarray
    normal: int

    def terms(self, labels: np.ndarray, found: np.ndarray) -> np.ndarray:
        """Returns :func:`challenge_terms` of the scored classes, of labels and findings ``(N, C)`` of all."""
        return challenge_terms(labels[:, self.columns], found[:, self.columns], self.weights, self.normal)


def scoring_of(codes: Sequence[str]) -> ChallengeScoring | None:
    """Returns how classes are scored; None where sinus rhythm, on which the scale rests, or all others are missing.

    Args:
        codes: SNOMED CT code of each class, several joined by ``|``; others than those of scored classes may stand
            among them.
    """
    places = {part: i for i, scored in enumerate(CHALLENGE_CLASSES) for part in scored.code.split("|")}
    known = [(column, places.get(code.split("|")[0], -1)) for column, code in enumerate(codes)]
    columns = np.array([column for column, place in known if place >= 0], int)
    scored = np.array([place for _, place in known if place >= 0], int)
    normal = np.flatnonzero(scored == NORMAL)
    if len(normal) != 1 or len(scored) < 2:
        return None
    return ChallengeScoring(columns, challenge_weights()[np.ix_(scored, scored)], int(normal[0]))


def challenge_score(
    labels: np.ndarray, outputs: np.ndarray, weights: np.ndarray, normal: int = NORMAL
) -> float:
    """Returns the challenge's score: 1 where all is right, 0 for finding sinus rhythm in every record.

    Args:
        labels: ``(N, C)`` bool.
        outputs: ``(N, C)`` bool, what was found.
        weights: ``(C, C)`` reward for finding class k where j is true, rows j.
        normal: Place of sinus rhythm.

    Returns:
        nan where sinus rhythm everywhere is right.
    """
    return float(score_of(challenge_terms(labels, outputs, weights, normal).sum(0)))


def challenge_terms(labels: np.ndarray, outputs: np.ndarray, weights: np.ndarray, normal: int) -> np.ndarray:
    """Returns what each record adds to the reward of the outputs, of the labels, and of sinus rhythm alone, ``(N, 3)``.

    A pair of true class j and found class k earns ``weights[j, k]`` over the number of classes that are true or found
    in the record. The sum over records is linear, so that resampled records need no more than a weighted sum of these.
    """
    truth = labels.astype(float)
    earned = truth @ weights
    found = outputs.astype(float)
    true, common = truth.sum(1), (truth * found).sum(1)
    either = true + found.sum(1) - common
    with_normal = true + 1 - truth[:, normal]
    return np.stack(
        [
            (earned * found).sum(1) / np.maximum(either, 1),
            (earned * truth).sum(1) / np.maximum(true, 1),
            earned[:, normal] / with_normal,
        ],
        1,
    )


def score_of(sums: np.ndarray) -> np.ndarray:
    """Scales sums ``(..., 3)`` of :func:`challenge_terms` to scores ``(...)``; nan where there is nothing to gain."""
    observed, correct, inactive = np.moveaxis(np.asarray(sums, float), -1, 0)
    room = correct - inactive
    return np.divide(observed - inactive, room, out=np.full(room.shape, np.nan), where=room != 0)
