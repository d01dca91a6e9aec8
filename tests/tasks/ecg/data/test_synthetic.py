"""Made records: WFDB that others read, the same bytes for a seed, and the findings that their labels say."""

import hashlib
import sys

import numpy as np
import pytest
import wfdb
from scipy.signal import find_peaks

from core.errors import DataError
from tasks.ecg.config import LEADS, DataConfig
from tasks.ecg.data import synthetic, waves
from tasks.ecg.data.load import load_data
from tasks.ecg.data.records import read_record


def digest(folder):
    total = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        total.update(path.name.encode() + path.read_bytes())
    return total.hexdigest()


def examples(finding, without=(), count=8):
    """Patients, signals and findings of records with a finding and without others."""
    found, number = [], 0
    while len(found) < count:
        number += 1
        rng = np.random.default_rng([9, number])
        patient = synthetic.make_patient(number, rng)
        signal, findings = synthetic.record_of(patient, rng)
        if finding in findings and not {*without} & {*findings}:
            found.append((patient, signal, findings))
    return found


def peaks(signal):
    """Samples of the R waves, by the power of all leads' slopes."""
    smooth = np.apply_along_axis(np.convolve, 1, signal, np.ones(5) / 5, "valid")
    power = np.convolve((np.diff(smooth, axis=1) ** 2).sum(0), np.ones(25) / 25, mode="same")
    return find_peaks(power, height=0.3 * power.max(), distance=round(0.3 * synthetic.RATE))[0]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("synthetic") / "records"
    assert synthetic.write_records(path, seed=3, records=60) >= 20
    return path


def test_files_are_wfdb_with_right_checksums_and_challenge_headers(folder):
    headers = sorted(folder.glob("*.hea"))
    assert len(headers) == 60
    for path in headers[:10]:
        stored = wfdb.rdrecord(str(path.with_suffix("")), physical=False)
        assert stored.sig_name == list(LEADS) and (stored.fs, stored.sig_len) == (250, 2500)
        assert [(a - b) % 65536 for a, b in zip(stored.calc_checksum(), stored.checksum, strict=True)] == [
            0
        ] * 12
        record = read_record(path)
        assert record.codes and {*record.codes} <= {*synthetic.FINDINGS.values()}
        assert "Synthetic record" in record.comments and record.leads == list(LEADS) and not record.notes


def test_one_seed_gives_one_set_of_files(folder, tmp_path):
    synthetic.write_records(tmp_path / "again", seed=3, records=60)
    synthetic.write_records(tmp_path / "other", seed=4, records=60)
    assert digest(tmp_path / "again") == digest(folder) != digest(tmp_path / "other")


def test_a_folder_that_holds_something_is_left_alone(folder, capsys, monkeypatch):
    with pytest.raises(DataError, match="is not empty"):
        synthetic.write_records(folder)
    monkeypatch.setattr(sys, "argv", ["synthetic", str(folder)])
    assert synthetic.main() == 1 and "is not empty" in capsys.readouterr().err


def test_a_patient_has_one_to_three_records(folder):
    names = [path.stem for path in folder.glob("*.hea")]
    counts = {}
    for name in names:
        counts.setdefault(name.split("_")[0], []).append(name)
    assert {len(records) for records in counts.values()} == {1, 2, 3}


def test_leads_obey_einthoven_and_goldberger():
    _, signal, _ = examples("NSR", count=1)[0]
    rows = dict(zip(LEADS, signal, strict=True))
    np.testing.assert_allclose(rows["I"] + rows["III"], rows["II"], atol=1e-12)
    np.testing.assert_allclose(rows["aVR"], -(rows["I"] + rows["II"]) / 2, atol=1e-12)
    np.testing.assert_allclose(rows["aVF"], rows["II"] - rows["I"] / 2, atol=1e-12)
    assert np.abs(rows["aVL"]).max() > 0


@pytest.mark.parametrize(
    ("finding", "low", "high"), [("NSR", 58, 101), ("SB", 37, 61), ("STach", 98, 146), ("AF", 50, 150)]
)
def test_rates_are_those_of_the_rhythm(finding, low, high):
    for _, signal, _ in examples(finding, without=("LBBB", "RBBB")):
        intervals = np.diff(peaks(signal)) / synthetic.RATE
        assert low < 60 / np.mean(intervals) < high
        spread = np.std(intervals) / np.mean(intervals)
        assert spread > 0.08 if finding == "AF" else spread < 0.08


@pytest.mark.parametrize(("finding", "low", "high"), [("LAD", -90, -30), ("RAD", 90, 180), ("NSR", -30, 90)])
def test_the_axis_is_that_of_leads_one_and_avf(finding, low, high):
    others = {"LAD", "RAD"} - {finding}
    for patient, _, _ in examples(finding, without=(*others, "RBBB", "AF")):
        times = np.arange(-500, 500) / 1000
        beat = waves.dipole(patient.heart, np.array([-3.0, -1.5, 0.0, 1.5]), times)
        near = np.abs(times) < 0.1
        limbs = (waves.LEADS_OF_ELECTRODES @ waves.ELECTRODES @ beat[near].T).sum(1)
        axis = np.degrees(np.arctan2(limbs[5] * 2 / np.sqrt(3), limbs[0]))
        assert low < axis < high


def test_blocks_widen_qrs_and_turn_its_end_to_their_side():
    def late(finding, lead):
        ends = []
        for patient, _, _ in examples(finding, without={"LBBB", "RBBB", "LAD", "RAD"} - {finding}):
            beat = waves.dipole(patient.heart, np.array([-1.5, 0.0, 1.5]), np.array([0.06]))
            ends.append((waves.LEADS_OF_ELECTRODES @ waves.ELECTRODES @ beat[0])[LEADS.index(lead)])
        return np.array(ends)

    assert (late("RBBB", "V1") > 0.2).all() and (late("RBBB", "V6") < -0.1).all()
    assert (late("LBBB", "V1") < -0.2).all() and (late("LBBB", "V6") > 0.2).all()
    assert (np.abs(late("NSR", "V6")) < 0.2).all()


def test_a_first_degree_block_is_a_pr_interval_over_a_fifth_of_a_second():
    assert all(patient.heart.conduction > 0.2 for patient, _, _ in examples("IAVB"))
    assert all(patient.heart.conduction < 0.2 for patient, _, _ in examples("NSR", without=("IAVB",)))


def test_ischaemia_lowers_st_and_turns_t_over_its_wall():
    rng = np.random.default_rng(0)
    for wall, direction in waves.WALLS.items():
        heart = waves.normal_heart(rng)
        changed = waves.ischaemia(heart, rng, wall)
        to = np.array(direction) / np.linalg.norm(direction)
        assert to @ changed.t < 0 and to @ changed.st < to @ heart.st - 0.04
        across = heart.t - to * (to @ heart.t)
        np.testing.assert_allclose(changed.t - to * (to @ changed.t), across, atol=1e-12)


def test_hypertrophy_raises_sokolow_and_lyons_sum():
    def sums(finding, without):
        found = examples(finding, (*without, "LBBB", "RBBB", "LAD", "RAD"))
        return [-signal[6].min() + max(signal[10].max(), signal[11].max()) for _, signal, _ in found]

    assert np.mean(sums("LVH", ())) > 1.3 * np.mean(sums("NSR", ("LVH",)))


def test_fibrillating_atria_have_no_p_wave():
    patient, _, _ = examples("NSR", count=1)[0]
    times = np.arange(-400, 100) / 1000
    beats = np.array([-1.0, 0.0, 1.0])
    silent = (waves.Wave(0.0, 0.01, (0.0, 0.0, 0.0)),)
    still = waves.Heart(0.16, 0.4, np.zeros(3), silent, np.zeros(3), np.zeros(3))
    assert not waves.dipole(still, beats, times).any()
    atria = waves.Heart(0.16, 0.4, patient.heart.p, silent, np.zeros(3), np.zeros(3))
    top = times[np.abs(waves.dipole(atria, beats, times)).sum(1).argmax()]
    assert top == pytest.approx(0.005 - 0.16, abs=2e-3)


def test_the_default_data_are_made_and_say_so(monkeypatch):
    write = synthetic.write_records
    monkeypatch.setattr(synthetic, "write_records", lambda folder: write(folder, 0, 80))
    data = load_data(DataConfig(least=1))
    assert data.synthetic and data.name == "synthetic" and data.size == 80
    assert data.notes[0].startswith("the records are synthetic")
    assert len(data.classes) == 11 and "left ventricular hypertrophy" in data.classes
    assert data.signals[0].shape == (12, 1000) and data.present.all()
    assert (data.labels[:, :4].sum(1) == 1).all()
    (fold,) = data.folds
    assert not {data.patients[i] for i in fold.train} & {data.patients[i] for i in fold.test}


def test_a_folder_of_made_records_is_known_as_such(folder):
    data = load_data(DataConfig(path=str(folder), least=1))
    assert data.synthetic and data.name == "records"
    assert "left ventricular hypertrophy" not in data.classes and "left ventricular hypertrophy" in " ".join(
        data.notes
    )
