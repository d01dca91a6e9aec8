from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from core.errors import DataError
from tasks.ecg.config import LEADS
from tasks.ecg.data.records import read_record


def waves(leads: int = 12, samples: int = 500) -> np.ndarray:
    """Sines of 1 to 2 mV, ``(leads, samples)``."""
    return np.linspace(1, 2, leads)[:, None] * np.sin(np.arange(samples) / 9)


def write_csv(path: Path, header: str, columns: np.ndarray) -> Path:
    separator = ";" if ";" in header else ","
    rows = [separator.join("" if np.isnan(value) else f"{value:.6f}" for value in row) for row in columns.T]
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def fails(path: Path, *parts: str, rate: float | None = 250.0) -> None:
    with pytest.raises(DataError) as caught:
        read_record(path, input_rate=rate)
    text = str(caught.value)
    assert text.startswith(str(path))
    assert "\n" not in text
    for part in parts:
        assert part in text, text


def test_a_csv_file_gives_rate_units_and_leads_by_its_names(tmp_path: Path) -> None:
    signal = waves(3)
    times = np.arange(500) / 360
    table = np.concatenate([[1000 * times.round(3)], signal * [[1], [1000], [-1]]])
    path = write_csv(tmp_path / "rec.csv", "time (ms);lead i;II (uV);-aVR", table)
    record = read_record(path)
    assert (record.leads, record.rate) == (["I", "II", "aVR"], 360)
    np.testing.assert_allclose(record.signal, signal, atol=2e-6)


def test_a_csv_file_takes_what_it_does_not_say_from_the_options(tmp_path: Path) -> None:
    signal = waves(2)
    path = write_csv(tmp_path / "rec.csv", "V1,V2", 1000 * signal)
    record = read_record(path, units="uV", input_rate=250.0)
    assert record.rate == 250
    np.testing.assert_allclose(record.signal, signal, atol=1e-6)
    fails(path, "does not say its sampling rate", "--input_rate in predict, --data.input_rate", rate=None)
    fails(path, "mV high", "--units in predict, --data.units")


def test_gaps_in_a_csv_file_are_bridged(tmp_path: Path) -> None:
    signal = waves(2)
    signal[0, 50:55] = np.nan
    record = read_record(write_csv(tmp_path / "rec.csv", "I,II", signal), input_rate=250.0)
    assert np.isfinite(record.signal).all()
    assert record.notes == ["lead I: 0.02 s at 0.2 s without samples, bridged by a straight line"]


def test_bad_csv_files_are_one_line_each(tmp_path: Path) -> None:
    path = tmp_path / "rec.csv"
    signal = waves(2)
    ragged = signal.copy()
    ragged[1, 400:] = np.nan
    fails(write_csv(path, "I,II", ragged), "unequal lengths: II 400 samples, I 500")
    fails(write_csv(path, "1.0,2.0", signal), "its first row is numbers")
    fails(write_csv(path, "I,i", signal), "lead I twice")
    fails(write_csv(path, "I,II", signal * np.nan), "no lead has a signal")
    fails(write_csv(path, "time,II", np.stack([np.arange(500) ** 1.1, signal[0]])), "not evenly spaced")
    gap = np.delete(np.arange(501) / 250, 300)
    fails(write_csv(path, "time,II", np.stack([gap, signal[0]])), "not evenly spaced")
    fails(write_csv(path, "time (h),II", signal), "unit of time 'h'")
    path.write_text("I,II\n0.1,0.2\n0.3,abc\n")
    fails(path, "row 3, column II: 'abc' is not a number")
    path.write_text("I,II\n")
    fails(path, "holds no samples")
    path.write_bytes(b"")
    fails(path, "empty")
    path.write_bytes(b"\xff\xfe\x00\x80" * 10)
    fails(path, "is no table of numbers")
    path.write_text("I,II\n1,2\n1,2,3,4\n")
    fails(path, "is no table of numbers")


@pytest.mark.parametrize("turned", [False, True])
def test_numpy_files_are_read_either_way_round(tmp_path: Path, turned: bool) -> None:
    signal = waves()
    np.save(tmp_path / "rec.npy", signal.T if turned else signal)
    record = read_record(tmp_path / "rec.npy", input_rate=100.0)
    assert (record.leads, record.rate) == (list(LEADS), 100)
    np.testing.assert_allclose(record.signal, signal, rtol=1e-6)


def test_an_npz_file_says_rate_leads_and_units(tmp_path: Path) -> None:
    signal = waves(2)
    factors = np.array([[1.0], [1000.0]])
    np.savez(
        tmp_path / "rec.npz", signal=(signal * factors).T, fs=257.5, leads=["V2", "ii"], units=["mV", "uV"]
    )
    record = read_record(tmp_path / "rec.npz", units="V", input_rate=1.0)
    assert (record.leads, record.rate) == (["V2", "II"], 257.5)
    np.testing.assert_allclose(record.signal, signal, rtol=1e-6)


def test_bad_numpy_files_are_one_line_each(tmp_path: Path) -> None:
    path = tmp_path / "rec.npy"
    np.save(path, waves(8))
    fails(path, "(8, 500)", "12 leads", ".npz")
    np.save(path, waves().astype(complex))
    fails(path, "complex128")
    np.save(path, np.array([{"a": 1}]), allow_pickle=True)
    fails(path, "cannot be read as a NumPy file")
    np.save(path, waves()[None])
    fails(path, "(1, 12, 500)")
    np.save(path, waves())
    fails(path, "sampling rate of 0 Hz is impossible", rate=0.0)
    path.write_bytes(path.read_bytes()[:1000])
    fails(path, "cannot be read as a NumPy file")
    other = tmp_path / "rec.npz"
    np.savez(other, a=waves())
    fails(other, "no array called signal", "it has a")
    np.savez(other, signal=waves(2), leads=["I", "II"], units=["mV", "mV", "mV"])
    fails(other, "2 leads and 3 units")
    np.savez(other, signal=waves(2), leads=["I", "II"], units="furlong")
    fails(other, "unknown unit 'furlong'")
    np.savez(other, signal=waves(2), leads=["I", "II"], rate=[1, 2])
    fails(other, "rate is not one number")
    other.write_bytes(b"PK\x03\x04 nothing")
    fails(other, "cannot be read as a NumPy file")
