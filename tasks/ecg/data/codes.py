"""SNOMED CT codes of the PhysioNet/CinC challenge 2021, its scored classes and their weights."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tasks.ecg.data.unscored import UNSCORED

__all__ = ["CHALLENGE_CLASSES", "UNSCORED", "ChallengeClass", "challenge_class", "challenge_weights"]


class ChallengeClass(NamedTuple):
    """A scored class.

    Attributes:
        abbreviation: Such as AF.
        code: SNOMED CT code; two joined by ``|`` are scored as one.
        name: Such as atrial fibrillation.
        place: Where its treatment stands on the scale that :func:`challenge_weights` compares.
    """

    abbreviation: str
    code: str
    name: str
    place: float


CHALLENGE_CLASSES: tuple[ChallengeClass, ...] = (
    ChallengeClass("AF", "164889003", "atrial fibrillation", 0),
    ChallengeClass("AFL", "164890007", "atrial flutter", 0),
    ChallengeClass("BBB", "6374002", "bundle branch block", 0.025),
    ChallengeClass("Brady", "426627000", "bradycardia", 0.2),
    ChallengeClass("LBBB", "733534002|164909002", "left bundle branch block", 0.025),
    ChallengeClass("RBBB", "713427006|59118001", "right bundle branch block", 0.1),
    ChallengeClass("IAVB", "270492004", "1st degree AV block", 0.2),
    ChallengeClass("IRBBB", "713426002", "incomplete right bundle branch block", 0.2),
    ChallengeClass("LAD", "39732003", "left axis deviation", 0.15),
    ChallengeClass("LAnFB", "445118002", "left anterior fascicular block", 0.15),
    ChallengeClass("LPR", "164947007", "prolonged PR interval", 0.2),
    ChallengeClass("LQRSV", "251146004", "low QRS voltages", 0.075),
    ChallengeClass("LQT", "111975006", "prolonged QT interval", 0.05),
    ChallengeClass("NSIVCB", "698252002", "nonspecific intraventricular conduction disorder", 0.15),
    ChallengeClass("NSR", "426783006", "sinus rhythm", 0.25),
    ChallengeClass("PAC", "284470004|63593006", "premature atrial contraction", 0.1625),
    ChallengeClass("PR", "10370003", "pacing rhythm", 0.125),
    ChallengeClass("PRWP", "365413008", "poor R wave progression", 0.075),
    ChallengeClass("PVC", "427172004|17338001", "premature ventricular contractions", 0.125),
    ChallengeClass("QAb", "164917005", "Q wave abnormal", -0.1),
    ChallengeClass("RAD", "47665007", "right axis deviation", 0.15),
    ChallengeClass("SA", "427393009", "sinus arrhythmia", 0.2),
    ChallengeClass("SB", "426177001", "sinus bradycardia", 0.2),
    ChallengeClass("STach", "427084000", "sinus tachycardia", 0.125),
    ChallengeClass("TAb", "164934002", "T wave abnormal", 0),
    ChallengeClass("TInv", "59931005", "T wave inversion", 0),
)
"""The 26 scored classes, in the evaluator's order; four of them are pairs of codes, so that 30 codes are scored."""

_APART = 0.475  # the reward of both pairs below, whose classes stand on one place of the scale

_OTHER_NAMES = {
    "733534002": ("CLBBB", "complete left bundle branch block"),
    "713427006": ("CRBBB", "complete right bundle branch block"),
    "63593006": ("SVPB", "supraventricular premature beats"),
    "17338001": ("VPB", "ventricular premature beats"),
}


def _index() -> dict[str, ChallengeClass]:
    index = {}
    for scored in CHALLENGE_CLASSES:
        codes = scored.code.split("|")
        labels = [scored.abbreviation, scored.code, "|".join(reversed(codes)), scored.name, *codes]
        for code in codes:
            labels += _OTHER_NAMES.get(code, ())
        index.update({label.lower(): scored for label in labels})
    return index


_INDEX = _index()


def challenge_class(label: str) -> ChallengeClass | None:
    """Returns a label's scored class, None if it has none.

    Args:
        label: Abbreviation, SNOMED CT code (either of a pair, or both with ``|``) or name, in any case.
    """
    return _INDEX.get(label.strip().lower())


def challenge_weights() -> np.ndarray:
    """Returns the reward for predicting class k where j is true: float64 ``(26, 26)``, rows j.

    1 where they are the same. Else 0.5 less the distance of their treatments, which the challenge's cardiologists put
    on one scale (evaluation-2021, ``weights.csv``); that table has 0.475 between BBB and LBBB, and between LQRSV and
    PRWP.
    """
    places = np.array([scored.place for scored in CHALLENGE_CLASSES])
    weights = 0.5 - np.abs(places[:, None] - places)
    np.fill_diagonal(weights, 1.0)
    names = [scored.abbreviation for scored in CHALLENGE_CLASSES]
    for pair in (("BBB", "LBBB"), ("LQRSV", "PRWP")):
        one, other = map(names.index, pair)
        weights[one, other] = weights[other, one] = _APART
    return weights
