"""Folders of small records, and options of trainings on them that are over in a second."""

import csv

import numpy as np

LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
TINY = [
    "--crop=1.28",
    "--data.rate=50",
    "--train.epochs=2",
    "--train.batch_size=4",
    "--train.log_every=1",
    "--train.device=cpu",
    "--train.tune_allocator=false",
    "--scoring.bootstrap=20",
    "--tracking=none",
]
SMALL = ["--model=xresnet1d18", "--model.width=4", "--model.layers=[1, 1]"]
QUICK = ["--train.steps=1", "--scoring.bootstrap=0", "--scoring.baselines=[prevalence]"]
NAMES = ["sinus rhythm", "AF", "LAD", "left ventricular hypertrophy"]
MADE = [r"--data.patient=P\d+", f"--data.labels=[{', '.join(NAMES)}]", "--data.test_share=0.4"]
"""For records of ``write_records``."""
LIMB = np.array([[1, 0], [0, 1], [-1, 1], [-0.5, -0.5], [1, -0.5], [-0.5, 1]])


def wave(seed, seconds=2.0, rate=100):
    """A smooth signal ``(12, n)`` in mV that obeys Einthoven."""
    rng = np.random.default_rng(seed)
    times = np.arange(round(seconds * rate)) / rate
    rows = np.sin(2 * np.pi * (rng.uniform(0.5, 3, (8, 1)) * times + rng.uniform(size=(8, 1))))
    return np.concatenate([LIMB @ rows[:2], rows[2:]])


def wfdb_record(path, signal, rate=100, comments=()):
    """Writes a record in format 16 with 1000 units a mV."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.round(signal * 1000).astype("<i2")
    lines = [f"{path.name} {len(values)} {rate} {values.shape[1]}"]
    lines += [f"{path.name}.dat 16 1000/mV 16 0 0 0 0 {lead}" for lead in LEADS[: len(values)]]
    path.with_name(f"{path.name}.hea").write_text(
        "\n".join([*lines, *(f"#{text}" for text in comments)]) + "\n"
    )
    path.with_name(f"{path.name}.dat").write_bytes(values.T.tobytes())


def challenge_folder(folder, codes):
    """A record for each entry of ``codes``: name to text after ``Dx:``."""
    for seed, (name, text) in enumerate(codes.items()):
        wfdb_record(folder / name, wave(seed), comments=["Age: 60", "Sex: Male", f"Dx: {text}"])
    return folder


def write_csv(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)


def table_folder(folder, rows, header=("file", "patient", "labels"), first=0):
    """Records as .npy files, of which each row's first field names one, and their labels.csv."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed, row in enumerate(rows):
        np.save(folder / row[0], wave(first + seed))
    write_csv(folder / "labels.csv", [header, *rows])
    return folder


def ptbxl_folder(folder, records, statements, rates=(100, 500)):
    """PTB-XL's layout: ``records`` are (ecg_id, patient, scp_codes, fold), ``statements`` rows of its table."""
    rows = [["ecg_id", "patient_id", "scp_codes", "strat_fold", "filename_lr", "filename_hr"]]
    for number, patient, codes, fold in records:
        files = [f"records{rate}/00000/{number:05d}_{'lr' if rate == 100 else 'hr'}" for rate in (100, 500)]
        rows.append([number, f"{patient}.0", str(codes), fold, *files])
        for rate, file in zip((100, 500), files, strict=True):
            if rate in rates:
                wfdb_record(folder / file, wave(number, rate=rate), rate)
    write_csv(folder / "ptbxl_database.csv", rows)
    header = ["", "description", "diagnostic", "form", "rhythm", "diagnostic_class", "diagnostic_subclass"]
    write_csv(folder / "scp_statements.csv", [header, *statements])
    return folder


def csv_folder(folder, count=12):
    """Records of 2 s as CSV files with a column of time, two classes in turn, and their labels.csv."""
    rows = [["file", "patient", "fast", "slow"]]
    for i in range(count):
        signal = wave(i)
        times = np.arange(signal.shape[1]) / 100
        write_csv(folder / f"{i:02d}.csv", [["time", *LEADS], *np.column_stack([times, signal.T]).round(4)])
        rows.append([f"{i:02d}.csv", f"p{i}", i % 2, int(i % 3 == 0)])
    write_csv(folder / "labels.csv", rows)
    return folder
