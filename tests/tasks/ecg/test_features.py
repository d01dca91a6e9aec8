"""What is measured in records whose rate, width and axis are known."""

import numpy as np
import pytest
from scored_records import RATE, beats, record

from tasks.ecg.config import LEADS
from tasks.ecg.features import feature_names, find_beats, record_features

NAMES = feature_names(LEADS)


def measured(signal, rate=RATE):
    return dict(zip(NAMES, record_features(signal, rate, LEADS), strict=True))


@pytest.mark.parametrize("rate", [40, 75, 150, 200])
def test_every_beat_is_found_where_it_is(rate):
    times = beats(rate)
    found = find_beats(record(times), RATE)
    assert len(found) == len(times)
    assert np.abs(found / RATE - times).max() < 0.02
    assert measured(record(times))["rate"] == pytest.approx(rate, rel=0.01)


def test_irregular_beats_are_told_from_regular_ones():
    regular, irregular = measured(record(beats(80))), measured(record(beats(80, jitter=0.3)))
    assert regular["rr_deviation"] < 0.02 < 0.1 < irregular["rr_deviation"]
    assert irregular["rr_ratio"] > 1.4 > regular["rr_ratio"]


def test_a_wide_complex_is_wider():
    narrow, wide = (measured(record(beats(70), width))["qrs_width"] for width in (0.015, 0.045))
    assert 0.03 < narrow < 0.1 and wide > 2 * narrow


@pytest.mark.parametrize("degrees", [-60, 0, 60, 130, 180])
def test_the_axis_is_that_of_the_dipole(degrees):
    values = measured(record(beats(70), axis=degrees))
    angle = np.degrees(np.arctan2(values["axis_sin"], values["axis_cos"]))
    # The P wave and the T wave, which are the same in all leads, move it a little.
    assert abs((angle - degrees + 180) % 360 - 180) < 12


def test_amplitudes_are_millivolts():
    values = measured(record(beats(70), axis=0.0))
    assert values["I/qrs_high"] == pytest.approx(1.0, abs=0.1)
    assert values["aVR/qrs_low"] == pytest.approx(-0.75, abs=0.1)
    assert values["V5/t_high"] == pytest.approx(0.2, abs=0.05)


def test_the_p_wave_is_found_in_time():
    assert measured(record(beats(70)))["p_time"] == pytest.approx(0.16, abs=0.03)


def test_the_sampling_rate_changes_little():
    fine = np.repeat(record(beats(70), 0.03), 4, axis=1)
    coarse = measured(record(beats(70), 0.03))
    for name in ("rate", "qrs_width", "I/qrs_high", "II/t", "axis_sin"):
        assert measured(fine, 4 * RATE)[name] == pytest.approx(coarse[name], rel=0.1, abs=0.03)


@pytest.mark.parametrize(
    "signal",
    [
        np.zeros((12, 1000)),
        np.ones((12, 100)),
        record(np.array([0.5]), seconds=1.0),
        np.random.default_rng(0).normal(size=(12, 130)),
        record(beats(70, 100.0), seconds=100.0),
    ],
    ids=["flat", "constant", "one beat", "noise", "long"],
)
def test_all_values_are_finite(signal):
    values = record_features(signal, RATE, LEADS)
    assert len(values) == len(NAMES) and np.isfinite(values).all()


def test_other_leads_have_no_axis_but_all_else():
    names = feature_names(["V1", "V2"])
    values = dict(zip(names, record_features(record(beats(70))[6:8], RATE, ["V1", "V2"]), strict=True))
    assert values["axis_cos"] == values["axis_sin"] == 0 and values["rate"] == pytest.approx(70, rel=0.01)


def test_low_sampling_rates_are_measured_too():
    assert np.isfinite(record_features(record(beats(70))[:, ::4], RATE // 4, LEADS)).all()
