"""Signals that resemble electrocardiograms, in WFDB layout: ``python -m tasks.ecg.data.synthetic FOLDER``.

A dipole model of beats (``waves.py``), a rhythm, and noise on nine electrodes. It is there to try all commands without
a download, and promises nothing about real electrocardiograms: a model trained on it names no real findings, and its
accuracy says nothing about accuracy on people.

Headers are as in the PhysioNet challenges, with a line ``Dx:`` of SNOMED CT codes, so that the ordinary reader reads
them.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from core.cli import folder_parser, run_folder_command
from core.errors import ConfigError, DataError
from tasks.ecg.config import LEADS
from tasks.ecg.data import waves

RATE = 250
"""Hz."""
SECONDS = 10
COMMENT = "Synthetic record"
"""Last line of each header."""
PATIENT = r"P\d+"
"""Finds the patient in a record's name."""
FINDINGS = {
    "NSR": "426783006",
    "SB": "426177001",
    "STach": "427084000",
    "AF": "164889003",
    "IAVB": "270492004",
    "LBBB": "733534002",
    "RBBB": "713427006",
    "LAD": "39732003",
    "RAD": "47665007",
    "LVH": "164873001",
    "MIs": "164861001",
}
"""SNOMED CT codes of what is made: rhythms, conduction, axis, left ventricular hypertrophy, myocardial ischaemia."""

_GAIN = 1000  # ADC units per mV
_RATES = {"NSR": (62, 97), "SB": (40, 58), "STach": (102, 140), "AF": (60, 125)}  # beats a minute
_RHYTHMS = {"NSR": 0.5, "SB": 0.15, "STach": 0.15, "AF": 0.2}


@dataclass(frozen=True)
class Patient:
    """Whose records are made.

    Attributes:
        name: As in the names of the records.
        age: Years.
        sex: Male or Female.
        heart: The beats.
        findings: What all records of this patient show, names of ``FINDINGS``.
        electrodes: ``(9, 3)``: potentials for a dipole; electrodes never stick at quite the same places.
    """

    name: str
    age: int
    sex: str
    heart: waves.Heart
    findings: frozenset[str]
    electrodes: np.ndarray


def write_records(folder: Path, seed: int = 0, records: int = 600) -> int:
    """Writes records of 10 s in WFDB format, one to three of a patient.

    Args:
        folder: New or empty folder.
        seed: Same seed, same files.
        records: How many.

    Returns:
        Number of patients.

    Raises:
        DataError: The folder holds something already.
    """
    if folder.exists() and any(folder.iterdir()):
        raise DataError(f"{folder} is not empty; name a new folder")
    folder.mkdir(parents=True, exist_ok=True)
    left, number = records, 0
    while left:
        number += 1
        rng = np.random.default_rng([seed, number])
        patient = make_patient(number, rng)
        for record in range(min(left, int(rng.integers(1, 4)))):
            signal, findings = record_of(patient, rng)
            _write(folder, f"{patient.name}_{record + 1}", patient, signal, findings)
            left -= 1
    return number


def make_patient(number: int, rng: np.random.Generator) -> Patient:
    """Returns a patient with any findings that can stand together."""
    heart = waves.normal_heart(rng)
    findings = set()
    block = rng.choice(["", "LBBB", "RBBB"], p=[0.76, 0.1, 0.14])
    if block != "LBBB" and rng.uniform() < 0.15:
        findings.add("LVH")
        heart = waves.left_ventricular_hypertrophy(heart, rng, strain=rng.uniform() < 0.6)
    if block == "LBBB":
        heart = waves.left_bundle_branch_block(heart, rng)
    axis = rng.choice(["", "LAD", "RAD"], p=[0.7, 0.17, 0.13])
    low, high = {"": (-22, 82), "LAD": (-70, -35), "RAD": (97, 135)}[str(axis)]
    heart = waves.turned(heart, rng.uniform(low, high))
    if block == "RBBB":
        # The axis is read before the late right ventricle.
        heart = waves.right_bundle_branch_block(heart, rng)
    if block:
        findings.add(str(block))
    if axis:
        findings.add(str(axis))
    if block != "LBBB" and rng.uniform() < 0.2:
        findings.add("MIs")
        heart = waves.ischaemia(heart, rng, str(rng.choice(list(waves.WALLS))))
    if rng.uniform() < 0.2:
        findings.add("AF")
    if "AF" not in findings and rng.uniform() < 0.18:
        findings.add("IAVB")
        heart = replace(heart, conduction=rng.uniform(0.215, 0.32))
    electrodes = waves.ELECTRODES.copy()
    electrodes[3:] *= rng.normal(1, 0.1, (6, 1))
    electrodes[3:] += rng.normal(0, 0.08, (6, 3))
    return Patient(
        f"P{number:04d}",
        int(rng.integers(20, 90)),
        str(rng.choice(["Male", "Female"])),
        heart,
        frozenset(findings),
        electrodes,
    )


def record_of(patient: Patient, rng: np.random.Generator) -> tuple[np.ndarray, list[str]]:
    """Makes a record.

    Returns:
        Signal ``(12, RATE * SECONDS)``, mV, and names of its findings in the order of ``FINDINGS``.
    """
    rhythm = "AF" if "AF" in patient.findings else _sinus(patient, rng)
    found = patient.findings | {rhythm}
    times = np.arange(RATE * SECONDS) / RATE
    beats = _beats(rhythm, rng)
    heart = patient.heart
    if rhythm == "AF":
        heart = replace(heart, p=np.zeros(3))
    total = waves.dipole(heart, beats, times)
    if rhythm == "AF":
        total += _fibrillation(times, rng)
    breath = 1 + rng.uniform(0, 0.05) * np.sin(2 * np.pi * (rng.uniform(0.2, 0.35) * times + rng.uniform()))
    potentials = patient.electrodes @ (total * breath[:, None]).T
    potentials += _noise(times, len(potentials), rng)
    signal = waves.LEADS_OF_ELECTRODES @ potentials
    return signal, [name for name in FINDINGS if name in found]


def _sinus(patient: Patient, rng: np.random.Generator) -> str:
    # A late P wave would fall into the T wave before it.
    names = [
        name for name in _RHYTHMS if name != "AF" and not (name == "STach" and "IAVB" in patient.findings)
    ]
    chances = np.array([_RHYTHMS[name] for name in names])
    return str(rng.choice(names, p=chances / chances.sum()))


def _beats(rhythm: str, rng: np.random.Generator) -> np.ndarray:
    """Times of the R waves, s, from before the record to after it."""
    count = 3 * SECONDS
    mean = 60 / rng.uniform(*_RATES[rhythm])
    if rhythm == "AF":
        intervals = np.maximum(mean * rng.lognormal(0, rng.uniform(0.15, 0.28), count), 0.33)
    else:
        # Sinus rhythm goes with the breath.
        swing = rng.uniform(0.005, 0.05) * np.sin(
            np.cumsum(np.full(count, 2 * np.pi * 0.25 * mean)) + rng.uniform(0, 6.3)
        )
        intervals = mean * (1 + swing + rng.normal(0, 0.01, count))
    beats = np.cumsum(intervals) - intervals[0] - rng.uniform(0, mean)
    return beats[beats < SECONDS + 0.5]


def _fibrillation(times: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Waves of fibrillating atria, 4 to 8 Hz and never quite periodic: ``(n, 3)``, mV."""
    size = rng.uniform(0.02, 0.07)
    wander = np.interp(times, np.linspace(0, SECONDS, 21), rng.normal(0, 0.8, 21))
    phase = 2 * np.pi * rng.uniform(4.5, 7.5) * times + wander
    wave = np.sin(phase) + 0.4 * np.sin(2 * phase + rng.uniform(0, 6.3))
    wave *= np.interp(times, np.linspace(0, SECONDS, 11), rng.uniform(0.5, 1.3, 11))
    return size * wave[:, None] * np.array([0.1, 0.6, -0.9])


def _noise(times: np.ndarray, electrodes: int, rng: np.random.Generator) -> np.ndarray:
    """Baseline wander, mains and muscles at each electrode ``(electrodes, n)``, mV."""
    total = np.zeros((electrodes, len(times)))
    for _ in range(2):
        phase = rng.uniform(0.08, 0.45) * times + rng.uniform(size=(electrodes, 1))
        total += rng.exponential(0.03, (electrodes, 1)) * np.sin(2 * np.pi * phase)
    total += rng.exponential(0.004, (electrodes, 1)) * np.sin(2 * np.pi * (50 * times + rng.uniform()))
    muscles = rng.standard_normal(total.shape)
    muscles[:, 1:] -= 0.5 * muscles[:, :-1]
    strength = rng.uniform(0.003, 0.02) * rng.lognormal(0, 0.3, (electrodes, 1))
    return total + strength * muscles


def _write(folder: Path, name: str, patient: Patient, signal: np.ndarray, findings: list[str]) -> None:
    """Writes a record in WFDB's format 16; ``wfdb.wrsamp`` takes several times as long."""
    values = np.round(signal * _GAIN).astype("<i2")
    lines = [f"{name} {len(LEADS)} {RATE} {values.shape[1]}"]
    for lead, row in zip(LEADS, values, strict=True):
        checksum = (int(row.sum(dtype=np.int64)) + 2**15) % 2**16 - 2**15
        lines.append(f"{name}.dat 16 {_GAIN}/mV 16 0 {row[0]} {checksum} 0 {lead}")
    lines += [
        f"# Age: {patient.age}",
        f"# Sex: {patient.sex}",
        f"# Dx: {','.join(FINDINGS[finding] for finding in findings)}",
        f"# {COMMENT}",
    ]
    (folder / f"{name}.dat").write_bytes(values.T.tobytes())
    (folder / f"{name}.hea").write_text("\n".join(lines) + "\n", newline="\n")


def main(argv: list[str] | None = None) -> int:
    """Writes the records into a folder; returns the exit code."""
    parser = folder_parser(
        "tasks.ecg.data.synthetic",
        "Writes signals that resemble electrocardiograms, in WFDB format with headers as in the PhysioNet challenges. "
        "They promise nothing about real electrocardiograms.",
    )
    parser.add_argument("--records", type=int, default=600, help="how many (default 600)")

    def write(options: argparse.Namespace) -> str:
        if options.records < 1:
            raise ConfigError(f"--records {options.records} must be 1 or more")
        patients = write_records(options.folder, options.seed, options.records)
        return f"{options.records} records of {patients} patients in {options.folder}"

    return run_folder_command(parser, write, argv)


if __name__ == "__main__":
    sys.exit(main())
