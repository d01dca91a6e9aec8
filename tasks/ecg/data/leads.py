"""Leads by name: aliases, their order, and limb leads that follow from others."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal

import numpy as np

from core.errors import ConfigError, DataError
from tasks.ecg.config import LEADS

if TYPE_CHECKING:
    from tasks.ecg.data.records import Record

EXTRA_LEADS = ("V7", "V8", "V9", "V3R", "V4R", "V5R", "V6R", "X", "Y", "Z")
"""Further leads that are known by name: posterior, right-sided, and Frank's."""
LIMB_LEADS = LEADS[:6]
LIMB = np.array([[1, 0], [0, 1], [-1, 1], [-0.5, -0.5], [1, -0.5], [-0.5, 1]])
"""Limb leads from I and II: Einthoven's III = II - I, and Goldberger's augmented leads."""
MODIFIED = ("MLI", "MLII", "MLIII")
"""Limb leads of Holter recorders, from electrodes on the trunk."""

_FAR = 0.5  # share of the expected lead's size by which a limb lead may differ from it
_SMALL = 0.05  # difference that rounding and filters of a recorder explain, mV
_MINUS = "[-\u2212\u2013]"  # hyphen, minus sign, dash
_ROMAN = {1: "I", 2: "II", 3: "III"}
_PREFIX = re.compile(r"^(mdc_?ecg_?lead|lead|channel|ch|ecg|ekg)[\s_:.-]*(?=[a-z0-9])")


def _aliases() -> dict[str, str]:
    known = {name.lower(): name for name in (*LEADS, *EXTRA_LEADS)}
    for number, roman in _ROMAN.items():
        for form in (f"d{roman}", f"d{number}", f"l{number}", f"ml{roman}", f"ml{number}"):
            known[form.lower()] = roman
    known.update({f"c{number}": f"V{number}" for number in range(1, 10)})
    known.update({f"v{axis}": axis.upper() for axis in "xyz"})
    return known


_ALIASES = _aliases()


def standard_lead(name: str) -> tuple[str, int]:
    """Returns the standard name of a lead and its sign (-1 for ``-aVR``); unknown names stay as they are.

    Case, spaces and a word before it (``lead II``, ``ECG_II``) do not matter. DI, L1 and MLI are names of I as well,
    and C1 of V1.
    """
    text = name.strip().lower()
    negative = re.match(rf"^{_MINUS}\s*", text)
    text = _PREFIX.sub("", text[negative.end() :] if negative else text)
    standard = _ALIASES.get(re.sub(r"[\s_.-]", "", text))
    if standard is None:
        return name.strip(), 1
    return standard, -1 if negative else 1


def wanted_leads(names: list[str]) -> list[str]:
    """Returns the standard names of leads in a configuration (``--data.leads``).

    Raises:
        ConfigError: There is none, one is unknown, or one is there twice.
    """
    if not names:
        raise ConfigError("--data.leads names no lead; the twelve are " + ", ".join(LEADS))
    wanted: list[str] = []
    for name in names:
        standard, sign = standard_lead(name)
        if sign < 0 or standard not in (*LEADS, *EXTRA_LEADS):
            known = ", ".join((*LEADS, *EXTRA_LEADS))
            raise ConfigError(f"--data.leads: no lead is called {name!r}; known are {known}")
        if standard in wanted:
            raise ConfigError(f"--data.leads names lead {standard} twice")
        wanted.append(standard)
    return wanted


def arrange(
    record: Record, leads: list[str], missing: Literal["derive", "zeros", "drop"] = "derive"
) -> tuple[np.ndarray, np.ndarray]:
    """Brings the leads of a record into an order. Adds to ``record.notes`` what it derives or doubts.

    With derive, a missing limb lead follows from I and II, or else is the least-squares solution from those limb leads
    that are there, which is exact if there are two or if they agree.

    Args:
        record: Leads in any order.
        leads: Standard names in the order that is wanted.
        missing: As in :class:`tasks.ecg.config.DataConfig`.

    Returns:
        The signal ``(leads, samples)`` float32 in mV with zeros in missing leads, and ``(leads,)`` bool: present.

    Raises:
        DataError: The record has none of the leads, or lacks some and ``missing`` is drop.
    """
    notes = doubts(record)
    rows = dict(zip(record.leads, record.signal, strict=True))
    absent = [lead for lead in leads if lead not in rows]
    if missing == "drop" and absent:
        raise DataError(f"{record.name}: has no lead {', '.join(absent)}, and --data.missing_leads is drop")
    if missing == "derive":
        rows |= _derived(record, absent, notes)
    present = np.array([lead in rows for lead in leads])
    if not present.any():
        raise DataError(
            f"{record.name}: has none of the leads {', '.join(leads)}; it has {', '.join(record.leads)}"
        )
    signal = np.zeros((len(leads), record.signal.shape[1]), np.float32)
    for row, lead in zip(signal, leads, strict=True):
        if lead in rows:
            row[:] = rows[lead]
    zeros = [lead for lead in leads if lead not in rows]
    if zeros:
        notes.append(f"no lead {', '.join(zeros)}: zeros")
    record.notes += [note for note in notes if note not in record.notes]
    return signal, present


def doubts(record: Record) -> list[str]:
    """Returns a line for each limb lead that is far from what I and II, or the other two of I, II and III, give."""
    rows = _limb_rows(record)
    if "I" not in rows or "II" not in rows:
        return []
    expected = dict(zip(LIMB_LEADS, LIMB @ np.stack([rows["I"], rows["II"]]), strict=True))
    found = []
    for lead in LIMB_LEADS[2:]:
        if lead not in rows or not _far(rows[lead], expected[lead]):
            continue
        line = f"lead {lead} does not follow from I and II"
        errors = {other: float(np.std(rows[lead] - row)) for other, row in expected.items()}
        alike = min(errors, key=errors.__getitem__)
        if not _far(-rows[lead], expected[lead]):
            line += ": it may be inverted"
        elif not _far(rows[lead], expected[alike]):
            line += f": it may be {alike}"
        found.append(line)
    return found


def _derived(record: Record, absent: list[str], notes: list[str]) -> dict[str, np.ndarray]:
    rows = _limb_rows(record)
    wanted = [lead for lead in absent if lead in LIMB_LEADS]
    if len(rows) < 2 or not wanted:
        return {}
    # Where both are there, the others are known only to agree with them or to be doubted.
    if {"I", "II"} <= rows.keys():
        rows = {lead: rows[lead] for lead in ("I", "II")}
    known = LIMB[[LIMB_LEADS.index(lead) for lead in rows]]
    weights = LIMB[[LIMB_LEADS.index(lead) for lead in wanted]] @ np.linalg.pinv(known)
    notes.append(f"lead {', '.join(wanted)} from {', '.join(rows)}")
    return dict(zip(wanted, weights @ np.stack(list(rows.values())), strict=True))


def _limb_rows(record: Record) -> dict[str, np.ndarray]:
    both = zip(record.leads, record.signal, strict=True)
    return {lead: row.astype(np.float64) for lead, row in both if lead in LIMB_LEADS}


def _far(lead: np.ndarray, expected: np.ndarray) -> bool:
    return bool(np.std(lead - expected) > max(_FAR * np.std(expected), _SMALL))
