"""Rows, means and the table of protocols, with methods whose scores are known."""

import math

import numpy as np
import pytest

from core.data.images.quality import Protocol
from core.infer.config import ScoringConfig
from core.infer.scoring import SHOWN, Case, protocol_of, protocol_table, score


def case(group, name, condition, error=0.1, side=16):
    """A gray image whose degraded version is off by ``error`` everywhere."""
    truth = np.full((side, side, 1), 0.5, np.float32)
    return Case(group, name, condition, truth + np.float32(error), truth)


def same(case):
    return case.pixels


def plain(case):
    return Protocol(rounding="none")


def decibels(error):
    return -20 * math.log10(error)


CASES = [
    case("A", "1", "sigma 15", 0.1),
    case("A", "1", "sigma 25", 0.2),
    case("A", "2", "sigma 15", 0.4),
    case("A", "2", "sigma 25", 0.1),
    case("B", "1", "sigma 15", 0.05),
]


def test_a_row_for_each_case_and_means_of_each_part():
    result = score(same, CASES, len(CASES), plain, "test")
    rows = result.rows
    assert rows[["set", "image", "condition"]].values.tolist() == [
        [c.group, c.image, c.condition] for c in CASES
    ]
    errors = [0.1, 0.2, 0.4, 0.1, 0.05]
    assert rows["psnr"].tolist() == pytest.approx([decibels(e) for e in errors], rel=1e-5)
    expected = {
        "A sigma 15/psnr": (decibels(0.1) + decibels(0.4)) / 2,
        "A sigma 25/psnr": (decibels(0.2) + decibels(0.1)) / 2,
        "B sigma 15/psnr": decibels(0.05),
        "psnr": sum(decibels(e) for e in errors) / 5,
    }
    found = {name: value for name, value in result.metrics.items() if name.endswith("psnr")}
    assert list(found) == list(expected), "the whole comes last"
    assert found == pytest.approx(expected, rel=1e-5)


def test_one_set_and_condition_has_no_parts():
    assert set(score(same, CASES[:1], 1, plain, "test").metrics) == {"psnr", "ssim"}


def test_structure_is_scored_beside_the_error():
    rng = np.random.default_rng(0)
    truth = rng.random((20, 20, 1)).astype(np.float32)
    shifted = Case("A", "1", "x", truth * 0.9, truth)
    mixed = Case("A", "2", "x", rng.permutation(truth.ravel()).reshape(truth.shape), truth)
    rows = score(same, [shifted, mixed], 2, plain, "test").rows
    assert rows["ssim"][0] > 0.95 and abs(rows["ssim"][1]) < 0.3


def test_each_case_has_its_own_protocol():
    def protocol(case):
        return Protocol(rounding="none", shave=2 if case.image == "2" else 0)

    truth = np.zeros((16, 16, 1), np.float32)
    framed = np.pad(np.full((12, 12, 1), 0.1, np.float32), ((2, 2), (2, 2), (0, 0)), constant_values=1)
    cases = [Case("A", name, "x", framed, truth) for name in "12"]
    rows = score(same, cases, 2, protocol, "test").rows
    assert rows["psnr"][1] == pytest.approx(20, rel=1e-5)
    assert rows["psnr"][0] < 10


def test_pixels_of_the_first_images_of_each_set_are_kept():
    cases = [case(g, str(i), c) for g in "AB" for i in range(SHOWN + 3) for c in ("x2", "x3")]
    shown = score(same, cases, len(cases), plain, "test").outputs
    expected = {(g, str(i), c) for g in "AB" for i in range(SHOWN) for c in ("x2", "x3")}
    assert set(shown.images) == set(shown.scores) == expected
    assert shown.scores["A", "0", "x2"] == pytest.approx(20, rel=1e-5)


def test_the_protocol_of_a_configuration():
    config = ScoringConfig(channel="y", shave=4, rounding="truncate", y_rounding=True)
    assert protocol_of(config) == Protocol("y", 4, "truncate", True)
    assert protocol_of(ScoringConfig()) == Protocol("rgb", 0, "round", False)


def test_the_table_of_protocols_starts_with_the_configured_one():
    def choices(case):
        return {"as given": Protocol(rounding="none"), "truncated": Protocol(rounding="truncate")}

    title, *lines = protocol_table(same, CASES[:2], choices, {"other noise": [CASES[2]]})
    assert title == "PSNR by protocol, mean over all test images:"
    given = (decibels(0.1) + decibels(0.2)) / 2
    # 0.6 and 0.7 are 153 and 178.5 of 255, the truth 127.5.
    truncated = (decibels(0.1) + decibels(50.5 / 255)) / 2
    other = decibels(0.4)
    for line, name, value in zip(
        lines, ("as given", "truncated", "other noise"), (given, truncated, other), strict=True
    ):
        assert line.strip().startswith(name)
        number, unit, difference = line.removeprefix(f"  {name}").split()
        assert unit == "dB"
        assert float(number) == pytest.approx(value, abs=2e-3)
        assert float(difference) == pytest.approx(value - given, abs=2e-3)
    assert lines[0].endswith("+0.000")
