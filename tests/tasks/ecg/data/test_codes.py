from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from core.errors import DataError
from tasks.ecg.data.codes import CHALLENGE_CLASSES, UNSCORED, challenge_class, challenge_weights
from tasks.ecg.data.ludb import ludb_labels


def test_thirty_codes_are_scored_as_twenty_six_classes() -> None:
    codes = [code for scored in CHALLENGE_CLASSES for code in scored.code.split("|")]
    assert len(CHALLENGE_CLASSES) == 26
    assert len(set(codes)) == len(codes) == 30
    assert CHALLENGE_CLASSES[14].name == "sinus rhythm"
    assert len(UNSCORED) == 103
    assert not UNSCORED.keys() & set(codes)
    assert all(code.isdigit() for code in [*codes, *UNSCORED])


@pytest.mark.parametrize(
    ("labels", "abbreviation"),
    [
        (
            ["59118001", "713427006", "59118001|713427006", "rbbb", "CRBBB", "Right bundle branch block"],
            "RBBB",
        ),
        (["164909002", "733534002", "complete left bundle branch block"], "LBBB"),
        (["63593006", "SVPB", "pac"], "PAC"),
        (["17338001", "427172004", "VPB"], "PVC"),
        (["164889003", "atrial fibrillation"], "AF"),
    ],
)
def test_a_class_is_found_by_code_abbreviation_and_name(labels: list[str], abbreviation: str) -> None:
    for label in labels:
        found = challenge_class(label)
        assert found is not None
        assert found.abbreviation == abbreviation


def test_other_codes_have_no_class() -> None:
    assert challenge_class("164873001") is None
    assert UNSCORED["164873001"] == "left ventricular hypertrophy"


@pytest.mark.parametrize(
    ("one", "other", "published"),
    [
        ("AF", "AF", 1),
        ("AF", "AFL", 0.5),
        ("AF", "NSR", 0.25),
        ("NSR", "QAb", 0.15),
        ("NSR", "PAC", 0.4125),
        ("BBB", "LBBB", 0.475),
        ("LQRSV", "PRWP", 0.475),
        ("LQT", "PRWP", 0.475),
        ("PR", "PVC", 0.5),
        ("IAVB", "TInv", 0.3),
        ("PAC", "LBBB", 0.3625),
        ("QAb", "LQT", 0.35),
    ],
)
def test_weights_are_those_of_the_challenge(one: str, other: str, published: float) -> None:
    names = [scored.abbreviation for scored in CHALLENGE_CLASSES]
    weights = challenge_weights()
    assert weights[names.index(one), names.index(other)] == pytest.approx(published, abs=1e-12)
    np.testing.assert_array_equal(weights, weights.T)


HEADER = (
    "ID,Sex,Age,Rhythms,Electric axis of the heart,Conduction abnormalities,Extrasystolies,Hypertrophies,"
    "Cardiac pacing,Ischemia,Non-specific repolarization abnormalities,Other states\n"
)
ROW = (
    '4,"M\n","56\n",Sinus rhythm,Electric axis of the heart: left axis deviation,I degree av block,'
    '"Ventricular extrasystole, type: couplet\nVentricular extrasystole, morphology: polymorphic\n'
    'Atrial extrasystole: undefined","Left atrial hypertrophy\nLeft ventricular hypertrophy",'
    '"Pacemaker presence, undefined\nUnipolar ventricular pacing","Ischemia: inferior wall\nIschemia: apical\n'
    'Stemi: septal\nUndefined ischemia/scar/supp.nstemi: apical",'
    "Non-specific repolarization abnormalities: septal,\n"
)


def test_ludbs_table_gives_each_record_its_labels(tmp_path: Path) -> None:
    path = tmp_path / "ludb.csv"
    other = '5,F,"61\n",Atrial fibrillation,Electric axis of the heart: horizontal,,,,,,,\n'
    path.write_text(HEADER + ROW + other)
    assert ludb_labels(path) == {
        "4": [
            "Sinus rhythm",
            "Left axis deviation",
            "I degree AV block",
            "Ventricular extrasystole",
            "Atrial extrasystole",
            "Left atrial hypertrophy",
            "Left ventricular hypertrophy",
            "Cardiac pacing",
            "Ischemia",
            "STEMI",
            "Undefined ischemia or scar",
            "Non-specific repolarization abnormalities",
        ],
        "5": ["Atrial fibrillation", "Horizontal axis"],
    }


def test_bad_tables_of_ludb_are_one_line_each(tmp_path: Path) -> None:
    path = tmp_path / "ludb.csv"
    for text, part in (
        ("a,b\n1,2\n", "no column 'ID'"),
        (HEADER + ROW + ROW, "names record 4 twice"),
        (HEADER + "," * 11 + "\n", "row 1 of the data names no record"),
    ):
        path.write_text(text)
        with pytest.raises(DataError, match=part):
            ludb_labels(path)
    with pytest.raises(DataError, match="cannot be read"):
        ludb_labels(tmp_path / "none.csv")
