from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from core.errors import DataError
from tasks.ecg.config import LEADS
from tasks.ecg.data.records import find_records, read_record


def beats(leads: int = 12, samples: int = 1000, seed: int = 0) -> np.ndarray:
    """Integers in uV: a spike of about 1 mV every 200 samples and some noise, ``(leads, samples)``."""
    generator = np.random.default_rng(seed)
    places = np.arange(samples) % 200
    wave = np.exp(-0.5 * ((places - 100) / 4) ** 2)
    sizes = generator.uniform(500, 1500, (leads, 1))
    return np.round(sizes * wave + generator.normal(0, 10, (leads, samples))).astype(np.int16)


def write_wfdb(
    folder: Path,
    values: np.ndarray,
    name: str = "rec",
    first: str | None = None,
    gain: str = "1000/mV",
    leads: tuple[str, ...] = LEADS,
    ending: str = "dat",
    fmt: str = "16",
    comments: str = "",
) -> Path:
    """Writes a record by hand, as the format's description has it."""
    first = first or f"{name} {len(values)} 500 {values.shape[1]}"
    lines = [
        f"{name}.{ending} {fmt} {gain} 16 0 0 0 0 {lead}" for lead, _ in zip(leads, values, strict=False)
    ]
    header = folder / f"{name}.hea"
    header.write_text("\n".join([first, *lines]) + "\n" + comments, encoding="utf-8")
    if ending == "mat":
        savemat(folder / f"{name}.mat", {"val": values}, format="4")
    else:
        (folder / f"{name}.dat").write_bytes(values.T.astype("<i2").tobytes())
    return header


def fails(path: Path, *parts: str, rate: float | None = None) -> None:
    with pytest.raises(DataError) as caught:
        read_record(path, input_rate=rate)
    text = str(caught.value)
    assert "\n" not in text
    for part in parts:
        assert part in text, text


def test_a_wfdb_record_is_read_in_millivolts_by_gain_baseline_and_unit(tmp_path: Path) -> None:
    values = beats()
    comments = "# Age: 74\n# Sex: Female\n#Dx: 59118001, 426783006\n"
    record = read_record(write_wfdb(tmp_path, values, gain="500(-20)/mV", comments=comments))
    np.testing.assert_allclose(record.signal, (values + 20.0) / 500, rtol=1e-6)
    assert record.signal.dtype == np.float32
    assert (record.name, record.rate, record.leads) == ("rec", 500, list(LEADS))
    assert (record.age, record.sex, record.codes) == (74, "F", ["59118001", "426783006"])
    assert record.notes == []


@pytest.mark.parametrize(
    ("gain", "factor"), [("1/uV", 1e-3), ("1/µV", 1e-3), ("1e3/mV", 1e-3), ("1000000/V", 1e-3)]
)
def test_the_unit_in_a_header_counts(tmp_path: Path, gain: str, factor: float) -> None:
    values = beats()
    record = read_record(write_wfdb(tmp_path, values, gain=gain))
    np.testing.assert_allclose(record.signal, values * factor, rtol=1e-6)


@pytest.mark.parametrize("name", ["rec.hea", "rec.mat", "rec"])
def test_a_challenge_record_is_found_by_any_of_its_names(tmp_path: Path, name: str) -> None:
    values = beats()
    write_wfdb(tmp_path, values, ending="mat", fmt="16+24")
    record = read_record(tmp_path / name)
    np.testing.assert_allclose(record.signal, values / 1000, rtol=1e-6)
    assert find_records(tmp_path) == [tmp_path / "rec.hea"]


def test_format_212_is_read(tmp_path: Path) -> None:
    values = beats(2, 500)
    values = np.clip(values, -2000, 2000)
    pairs = values.T.reshape(-1, 2).astype(np.int64) & 0xFFF
    packed = np.stack(
        [pairs[:, 0] & 255, (pairs[:, 0] >> 8) | ((pairs[:, 1] >> 8) << 4), pairs[:, 1] & 255], 1
    )
    header = write_wfdb(tmp_path, values, fmt="212", leads=("MLII", "V5"))
    (tmp_path / "rec.dat").write_bytes(packed.astype(np.uint8).tobytes())
    record = read_record(header)
    np.testing.assert_allclose(record.signal, values / 1000, rtol=1e-6)
    assert record.leads == ["II", "V5"]
    assert record.notes == ["MLII taken as II"]


def test_what_a_header_does_not_say_is_wfdbs_default_and_noted(tmp_path: Path) -> None:
    values = beats()
    record = read_record(write_wfdb(tmp_path, values, gain="0"))
    np.testing.assert_allclose(record.signal, values / 200, rtol=1e-6)
    assert "no gain for 12 of 12 leads: 200 units/mV" in record.notes[0]
    assert "no unit: mV" in record.notes[1]
    assert "no sampling rate: 250 Hz" in read_record(write_wfdb(tmp_path, values, first="rec 12")).notes[0]


def test_gains_that_scale_each_lead_to_one_are_put_aside(tmp_path: Path) -> None:
    values = beats(2)
    header = write_wfdb(tmp_path, values, leads=("I", "II"))
    lines = header.read_text().splitlines()
    for row in (0, 1):
        lines[row + 1] = lines[row + 1].replace("1000/mV", f"{np.ptp(values[row])}(7)/mV")
    header.write_text("\n".join(lines))
    record = read_record(header)
    np.testing.assert_allclose(record.signal, (values - 7.0) / 1000, atol=1e-6)
    assert record.notes == ["header gains are each lead's range (as in LUDB): taken as 1 µV a unit"]


def test_lost_samples_are_bridged_and_lost_or_flat_leads_left_out(tmp_path: Path) -> None:
    values = beats()
    values[0, 100:110] = -32768
    values[1, :101] = -32768
    values[2] = 5
    values[3, [50, 60, *range(800, 900)]] = -32768
    values[4, 300:400] = values[5, 300:400] = -32768
    record = read_record(write_wfdb(tmp_path, values))
    assert record.leads == [lead for lead in LEADS if lead not in ("II", "III")]
    ends = values[0, [99, 110]] / 1000
    np.testing.assert_allclose(record.signal[0, 99:111], np.linspace(*ends, 12), rtol=1e-5)
    assert record.notes == [
        "lead I: 0.02 s at 0.2 s without samples, bridged by a straight line",
        "lead aVR: 0.2 s at 1.6 s without samples, the longest of 3 gaps, bridged by a straight line",
        "lead aVL, aVF: 0.2 s at 0.6 s without samples, bridged by a straight line",
        "lead II without samples for more than 10 % of the time: counts as missing",
        "lead III flat: counts as missing",
    ]


def test_a_long_stretch_without_samples_is_no_normal_trace(tmp_path: Path) -> None:
    values = beats(samples=5000)
    values[:, 1000:1400] = -32768  # 0.8 s of 10 s
    record = read_record(write_wfdb(tmp_path, values))
    assert record.notes == ["all leads: 0.8 s at 2 s without samples, bridged by a straight line"]
    values[:, 4000:4400] = -32768  # 1.6 s in all
    fails(
        write_wfdb(tmp_path, values), "no lead has a signal", "without samples for more than 10 % of the time"
    )
    values = beats(samples=5000)
    values[:, ::2] = -32768  # of short gaps there may be many
    assert read_record(write_wfdb(tmp_path, values)).leads == list(LEADS)


def test_signals_that_are_no_voltage_are_left_out(tmp_path: Path) -> None:
    header = write_wfdb(tmp_path, beats(3), leads=("I", "II", "ABP"))
    header.write_text(header.read_text().replace("1000/mV 16 0 0 0 0 ABP", "1000/mmHg 16 0 0 0 0 ABP"))
    record = read_record(header)
    assert record.leads == ["I", "II"]
    assert record.notes == ["not in a unit of voltage, left out: ABP (mmHg)"]


@pytest.mark.parametrize("gain", ["1/mV", "1000/V", "1000000/mV"])
def test_a_gain_that_is_wrong_by_a_thousand_is_found(tmp_path: Path, gain: str) -> None:
    fails(
        write_wfdb(tmp_path, beats(), gain=gain), "rec.hea", "mV high", "correct gain and unit in the header"
    )


def test_damaged_wfdb_records_are_one_line_each(tmp_path: Path) -> None:
    values = beats()
    fails(tmp_path / "none.hea", "none.hea", "no such header")
    header = write_wfdb(tmp_path, values)
    data = tmp_path / "rec.dat"
    whole = data.read_bytes()
    data.write_bytes(whole[: len(whole) // 2])
    fails(header, "rec.dat", "holds 500 of the 1000 samples")
    data.write_bytes(whole + whole)
    fails(header, "rec.dat", "holds 2000 samples", "promises 1000")
    data.write_bytes(b"")
    fails(header, "rec.dat", "empty")
    data.unlink()
    fails(header, "rec.hea", "rec.dat is missing")
    fails(write_wfdb(tmp_path, values, first="rec 12 0 1000"), "rec.hea", "sampling rate")
    fails(write_wfdb(tmp_path, values, first="rec 13 500 1000"), "promises 13 leads, and has lines of 12")
    fails(write_wfdb(tmp_path, values, first="rec 0 500 1000"), "no leads")
    fails(write_wfdb(tmp_path, values, first="not a header"), "no WFDB header")
    fails(write_wfdb(tmp_path, values, gain="1000(x)/mV"), "lead 1 has no gain that can be read")
    fails(write_wfdb(tmp_path, values, leads=("",) * 12), "does not name its leads")
    fails(write_wfdb(tmp_path, values, fmt="17"), "no format that is known")
    fails(write_wfdb(tmp_path, values, leads=("I", "ii", "II", *LEADS[3:])), "lead II twice")
    fails(write_wfdb(tmp_path, np.zeros_like(values)), "no lead has a signal")
    fails(write_wfdb(tmp_path, values, gain="1000/mmHg"), "no lead is in a unit of voltage")
    header.write_text("")
    fails(header, "no WFDB header")


def test_a_mat_file_needs_its_header_and_version_4(tmp_path: Path) -> None:
    savemat(tmp_path / "alone.mat", {"val": beats()}, format="4")
    fails(tmp_path / "alone.mat", "alone.mat", "no header alone.hea beside it")
    header = write_wfdb(tmp_path, beats(), ending="mat", fmt="16+24")
    savemat(tmp_path / "rec.mat", {"val": beats()}, format="5")
    fails(header, "rec.mat", "MATLAB 5")


def test_other_files_are_one_line_each(tmp_path: Path) -> None:
    (tmp_path / "rec.edf").write_bytes(b"0" * 300)
    fails(tmp_path / "rec.edf", "rec.edf", ".hea, .mat, .csv")
    fails(tmp_path / "none.csv", "no such file")
    fails(tmp_path, "is a folder")


def test_records_are_found_at_any_depth_and_once(tmp_path: Path) -> None:
    for name in (
        "b/r1.hea",
        "b/r1.dat",
        "a/r2.hea",
        "a/r2.mat",
        "r3.csv",
        "r4.npy",
        ".hidden/r5.hea",
        "b/._r1.hea",
        "x.txt",
    ):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    assert [str(path.relative_to(tmp_path)) for path in find_records(tmp_path)] == [
        "a/r2.hea",
        "b/r1.hea",
        "r3.csv",
        "r4.npy",
    ]
