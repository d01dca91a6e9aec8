from __future__ import annotations

import itertools

import numpy as np
import pytest

from core.errors import ConfigError, DataError
from tasks.ecg.config import LEADS
from tasks.ecg.data.leads import arrange, standard_lead, wanted_leads
from tasks.ecg.data.records import Record

LIMB = LEADS[:6]


def twelve() -> dict[str, np.ndarray]:
    """Leads of electrodes at random potentials: each by its textbook definition."""
    right, left, foot, *chest = np.random.default_rng(0).normal(0, 1, (9, 400))
    centre = (right + left + foot) / 3
    limb = [left - right, foot - right, foot - left]
    limb += [1.5 * (right - centre), 1.5 * (left - centre), 1.5 * (foot - centre)]
    return dict(zip(LEADS, [*limb, *(potential - centre for potential in chest)], strict=True))


def record_of(rows: dict[str, np.ndarray]) -> Record:
    return Record("rec", np.stack([*rows.values()]).astype(np.float32), 100.0, [*rows])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("i", ("I", 1)),
        (" II ", ("II", 1)),
        ("lead III", ("III", 1)),
        ("AVR", ("aVR", 1)),
        ("aVr", ("aVR", 1)),
        ("-aVR", ("aVR", -1)),
        ("\u2212avr", ("aVR", -1)),
        ("MLII", ("II", 1)),
        ("DII", ("II", 1)),
        ("ECG_V5", ("V5", 1)),
        ("MDC_ECG_LEAD_aVF", ("aVF", 1)),
        ("C3", ("V3", 1)),
        ("v4r", ("V4R", 1)),
        ("vx", ("X", 1)),
        ("Pleth", ("Pleth", 1)),
    ],
)
def test_leads_are_known_by_many_names(name: str, expected: tuple[str, int]) -> None:
    assert standard_lead(name) == expected


def test_leads_are_put_in_order() -> None:
    rows = twelve()
    mixed = {lead: rows[lead] for lead in reversed(LEADS)}
    signal, present = arrange(record_of(mixed), list(LEADS))
    np.testing.assert_allclose(signal, np.stack([*rows.values()]), rtol=1e-6)
    assert signal.dtype == np.float32
    assert present.all()


@pytest.mark.parametrize("pair", [*itertools.combinations(LIMB, 2)])
def test_any_two_limb_leads_give_the_other_four(pair: tuple[str, str]) -> None:
    rows = twelve()
    record = record_of({lead: row for lead, row in rows.items() if lead in pair or lead.startswith("V")})
    signal, present = arrange(record, list(LEADS))
    assert present.all()
    np.testing.assert_allclose(signal, np.stack([*rows.values()]), atol=2e-6)
    assert record.notes == [
        f"lead {', '.join(lead for lead in LIMB if lead not in pair)} from {', '.join(pair)}"
    ]


def test_what_cannot_be_derived_is_zeros() -> None:
    rows = twelve()
    record = record_of({"II": rows["II"], "V1": rows["V1"]})
    signal, present = arrange(record, list(LEADS))
    assert present.tolist() == [lead in ("II", "V1") for lead in LEADS]
    assert not signal[~present].any()
    assert record.notes == ["no lead I, III, aVR, aVL, aVF, V2, V3, V4, V5, V6: zeros"]


def test_zeros_and_drop_do_not_derive() -> None:
    rows = twelve()
    del rows["III"]
    signal, present = arrange(record_of(rows), list(LEADS), "zeros")
    assert not signal[2].any()
    assert present.sum() == 11
    with pytest.raises(DataError, match=r"^rec: has no lead III, and --data.missing_leads is drop$"):
        arrange(record_of(rows), list(LEADS), "drop")
    with pytest.raises(DataError, match=r"none of the leads V1; it has II"):
        arrange(record_of({"II": rows["II"]}), ["V1"])


def test_limb_leads_that_contradict_each_other_are_noted() -> None:
    rows = twelve()
    inverted = record_of(rows | {"aVR": -rows["aVR"]})
    arrange(inverted, list(LEADS))
    assert inverted.notes == ["lead aVR does not follow from I and II: it may be inverted"]
    swapped = record_of(rows | {"aVL": rows["aVF"], "aVF": rows["aVL"]})
    arrange(swapped, list(LEADS))
    assert swapped.notes == [
        "lead aVL does not follow from I and II: it may be aVF",
        "lead aVF does not follow from I and II: it may be aVL",
    ]
    arrange(swapped, list(LEADS))
    assert len(swapped.notes) == 2


def test_wanted_leads_are_checked() -> None:
    assert wanted_leads(["ii", "v1"]) == ["II", "V1"]
    for names, text in (([], "no lead"), (["V11"], "'V11'"), (["II", "MLII"], "twice"), (["-aVR"], "'-aVR'")):
        with pytest.raises(ConfigError, match=text):
            wanted_leads(names)


def test_a_lead_that_is_doubted_derives_no_other() -> None:
    rows = twelve()
    expected = rows["aVF"]
    wrong = {lead: row for lead, row in rows.items() if lead != "aVF"} | {"aVR": -rows["aVR"]}
    record = record_of(wrong)
    signal, _ = arrange(record, list(LEADS))
    np.testing.assert_allclose(signal[LEADS.index("aVF")], expected, atol=2e-6)
    assert record.notes == [
        "lead aVR does not follow from I and II: it may be inverted",
        "lead aVF from I, II",
    ]
