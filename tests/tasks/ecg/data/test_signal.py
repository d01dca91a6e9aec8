from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from core.errors import ConfigError, DataError
from tasks.ecg.config import DataConfig
from tasks.ecg.data.prepare import prepare
from tasks.ecg.data.records import Record
from tasks.ecg.data.signal import filtered, resample


def sine(frequency: float, rate: float, seconds: float = 10.0) -> np.ndarray:
    return np.sin(2 * np.pi * frequency * np.arange(round(seconds * rate)) / rate)[None]


@pytest.mark.parametrize(("source", "target"), [(500, 100), (257, 100), (250, 400), (128, 100), (333.3, 100)])
def test_a_slow_sine_is_the_same_at_any_rate(source: float, target: float) -> None:
    signal = resample(sine(5, source), source, target)
    assert signal.shape == (1, round(round(10 * source) * target / source))
    inner = slice(round(target / 2), -round(target / 2))
    np.testing.assert_allclose(signal[0, inner], sine(5, target)[0][: signal.shape[1]][inner], atol=5e-3)


def test_what_the_lower_rate_cannot_hold_is_removed() -> None:
    signal = resample(sine(70, 500), 500, 100)  # would appear at 30 Hz
    assert np.abs(signal[0, 50:-50]).max() < 0.01
    assert np.abs(sine(70, 500)[0, ::5]).max() > 0.9


def test_an_electrodes_offset_and_drift_pass_resampling_unchanged() -> None:
    line = 300 + np.linspace(0, 5, 1000)[None]
    np.testing.assert_allclose(resample(line, 500, 100), line[:, ::5], rtol=1e-6)


def test_short_records_and_equal_rates_are_resampled() -> None:
    assert resample(np.ones((2, 1)), 500, 100).shape == (2, 1)
    signal = np.random.default_rng(0).normal(size=(2, 50)).astype(np.float32)
    np.testing.assert_array_equal(resample(signal, 360.0, 360), signal)


def test_no_filter_changes_nothing() -> None:
    signal = np.random.default_rng(0).normal(size=(2, 50)).astype(np.float32)
    np.testing.assert_array_equal(filtered(signal, 100), signal)


def test_filters_remove_their_part_and_keep_the_phase_of_the_rest() -> None:
    wanted = sine(10, 500)
    noisy = wanted + 2 + 0.5 * np.linspace(0, 1, 5000) + sine(50, 500) + sine(180, 500)
    clean = filtered(noisy, 500, highpass=0.5, lowpass=60, notch=50)
    np.testing.assert_allclose(clean[0, 500:-500], wanted[0, 500:-500], atol=0.03)


def test_a_wave_that_is_cut_at_the_end_does_not_shift_the_baseline() -> None:
    signal = np.zeros((1, 1000))
    signal[0, -10:] = np.linspace(0, 1, 10)
    assert np.abs(filtered(signal, 100, highpass=0.5)[0, :-50]).max() < 0.15


def test_a_corner_is_where_half_the_amplitude_is_left() -> None:
    for option in ("highpass", "lowpass"):
        result = filtered(sine(5, 500), 500, **{option: 5.0})
        assert np.abs(result[0, 2000:3000]).max() == pytest.approx(0.5, abs=0.01)


def test_a_constant_becomes_zero_by_a_highpass_and_stays_by_the_others() -> None:
    constant = np.full((1, 300), 7.0)
    assert np.abs(filtered(constant, 100, highpass=0.5)).max() < 1e-5
    np.testing.assert_allclose(filtered(constant, 100, lowpass=20, notch=40), constant, rtol=1e-5)
    assert filtered(np.ones((1, 1)), 100, lowpass=20).shape == (1, 1)


@pytest.mark.parametrize(
    ("corners", "text"),
    [
        ({"lowpass": 50.0}, "^--data.lowpass 50 must lie between 0 and 50 Hz"),
        ({"notch": 60.0}, "data.notch"),
        ({"highpass": -1.0}, "data.highpass"),
        ({"highpass": 30.0, "lowpass": 20.0}, "^--data.highpass 30 must be below --data.lowpass 20$"),
    ],
)
def test_impossible_corners_are_refused(corners: dict[str, float], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        filtered(np.zeros((1, 100)), 100, **corners)


def test_a_record_is_filtered_at_its_own_rate_before_it_is_resampled() -> None:
    rows = np.concatenate([sine(5, 500) + sine(50, 500), sine(7, 500)]).astype(np.float32)
    record = Record("rec", rows, 500.0, ["II", "V1"])
    signal, present = prepare(record, DataConfig(leads=["V1", "ii", "V2"], rate=100, notch=50))
    assert signal.shape == (3, 1000)
    assert present.tolist() == [True, True, False]
    np.testing.assert_allclose(signal[1, 100:-100], sine(5, 100)[0, 100:-100], atol=0.02)
    np.testing.assert_allclose(signal[0, 100:-100], sine(7, 100)[0, 100:-100], atol=0.02)


def test_an_electrodes_offset_does_not_matter() -> None:
    rows = np.concatenate([sine(5, 100), sine(7, 100)]).astype(np.float32)
    shifted = rows + np.array([[1.5], [-0.7]], np.float32)
    config = DataConfig(leads=["II", "V1", "V2"], rate=100)
    (plain, _), (moved, _) = (
        prepare(Record("rec", signal, 100.0, ["II", "V1"]), config) for signal in (rows, shifted)
    )
    np.testing.assert_allclose(moved, plain, atol=1e-6)
    assert np.abs(np.median(moved, 1)).max() < 1e-6 and not moved[2].any()
    kept, _ = prepare(Record("rec", shifted, 100.0, ["II", "V1"]), replace(config, centre=False))
    np.testing.assert_array_equal(kept[:2], shifted)
    assert shifted[0].mean() > 1.4  # what was read stays


def test_a_record_under_a_second_is_refused() -> None:
    with pytest.raises(DataError, match=r"^rec: it lasts 0\.99 s, less than 1 s$"):
        prepare(Record("rec", sine(5, 100)[:, :99], 100.0, ["II"]), DataConfig())
    prepare(Record("rec", sine(5, 100)[:, :100], 100.0, ["II"]), DataConfig())
