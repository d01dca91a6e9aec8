"""What users get wrong, in whole commands: one line each, and no run is left behind."""

from __future__ import annotations

import shutil
from functools import partial

import numpy as np
import pytest
from commands import run_command, run_folder
from record_folders import LEADS, QUICK, SMALL, TINY, challenge_folder, wave, wfdb_record, write_csv

from tasks.ecg.task import TASK

run = partial(run_command, TASK)
the_run = partial(run_folder, TASK)
SINUS, FLUTTER = "426783006", "164890007"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--model.rul=add"], "unknown option --model.rul. Did you mean '--model.rule'?"),
        (["--data.lead=[II]"], "Did you mean '--data.leads'?"),
        (["--model=xresnet1d19"], "Did you mean 'xresnet1d18'"),
        (["--model.rule=ad"], "Did you mean 'add'?"),
        (["--scoring.baselines=[linea]"], "Did you mean 'linear'?"),
        (["--train.freeze=[stm]"], "Did you mean 'stem'?"),
        (["--train.teacher_distance=kl"], "--train.teacher_distance takes 'mse', 'relative', not 'kl'"),
        (["--model=backbone", "--model.backbone=resnet51"], "Did you mean 'resnet50'?"),
        (["--model=ecg_mamba_tiny", "--model.strides=[2]"], "--model.strides [2] must be two numbers"),
        (["--model.kernel=4"], "--model.kernel 4 must be odd"),
        (["--model.dropout=1"], "--model.dropout 1.0 must be 0 or more and below 1"),
        (["--data.labels=[fats]"], "nearest: fast"),
        (["--data.leads=[II, V12]"], "no lead is called 'V12'"),
        (["--data.folds=99"], "there are 12 patients"),
        (["--data.name=synthetic"], "--data.name synthetic takes no folder"),
        (["--data.lowpass=60"], "60"),
        (["--data.mixup=2"], "--data.mixup 2.0 must lie between 0 and 1"),
        (["--crop=0.1"], "under 8 samples"),
        (["--crop=-1"], "--crop -1.0 must be a time above 0 s"),
        (["--train.batch_size=1"], "batch norms need 2 records or more in each process, and model has 1"),
        (["--train.patience=2", "--data.validation_share=0"], "set --data.validation_share above 0"),
        (["--scoring.stride=0"], "--scoring.stride 0.0 must be a time above 0 s"),
    ],
)
def test_a_wrong_option_is_one_line(options, said, table, work, capsys):
    own = [] if options[0].startswith("--model=") else SMALL
    argv = [f"--data.path={table}", "--data.least=2", *TINY, *own, *options]
    code, _, error = run("train", argv, capsys)
    assert code == 2 and said in error and len(error.strip().splitlines()) == 1
    assert not (work / "runs").exists()


def test_a_folder_of_no_known_layout_is_one_line(work, capsys):
    wfdb_record(work / "bad" / "a", wave(0))
    for path, said in (("nowhere", "nowhere: is not a folder"), ("bad", "see --data.name and --data.table")):
        code, _, error = run("train", [f"--data.path={path}", *TINY, *SMALL], capsys)
        assert code == 1 and said in error and len(error.strip().splitlines()) == 1


# ---------------------------------------------------------------- damaged records


def gain(text):
    return lambda path: path.write_text(path.read_text().replace("1000/mV", text))


def shortened(path):
    file = path.with_suffix(".dat")
    file.write_bytes(file.read_bytes()[:-400])


def without_lead(path):
    wfdb_record(path.with_suffix(""), wave(3)[:11], comments=[f"Dx: {SINUS}"])


DAMAGES = {
    "no header": (lambda path: path.unlink(), "a.dat: has no header a.hea beside it"),
    "no samples": (lambda path: path.with_suffix(".dat").unlink(), "its file a.dat is missing"),
    "cut off": (shortened, "a.dat: is cut off: holds 183 of the 200 samples that a.hea promises"),
    "gain": (gain("1/mV"), "too large for a heart; correct gain and unit in the header"),
    "unit": (gain("1000/mmHg"), "no lead is in a unit of voltage"),
    "flat": (
        lambda path: wfdb_record(path.with_suffix(""), 0 * wave(0)),
        "no lead has a signal; all are flat or without samples",
    ),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_record_is_one_line(trained, work, capsys, name):
    damage, said = DAMAGES[name]
    wfdb_record(work / "a", wave(0))
    damage(work / "a.hea")
    file = "a.dat" if name == "no header" else "a.hea"
    code, _, error = run("predict", ["--model", the_run(trained), "--input", file, "--tracking=none"], capsys)
    assert code == 1 and said in error and len(error.strip().splitlines()) == 1
    assert not (work / "findings.csv").exists()


def test_damaged_records_are_left_out_of_a_training_and_named(work, capsys, no_figures):
    damages = {name.replace(" ", "_"): pair for name, pair in DAMAGES.items() if name != "no header"}
    challenge_folder(work / "data", {f"r{i}": (SINUS, FLUTTER)[i % 2] for i in range(9)})
    challenge_folder(work / "data", {f"{name}/a": SINUS for name in damages})
    for name, (damage, _) in damages.items():
        damage(work / "data" / name / "a.hea")
    code, out, error = run("train", ["--data.path=data", "--data.least=2", *TINY, *SMALL, *QUICK], capsys)
    assert (code, error) == (0, "") and "9 samples" in out
    notes = " ".join(out.split())
    for name, (_, said) in damages.items():
        assert f"{name}/a: left out: " in notes and said in notes


def test_flat_leads_unknown_codes_and_lost_samples_are_told(work, capsys, no_figures):
    codes = {f"r{i}": (SINUS, FLUTTER)[i % 2] for i in range(9)} | {"odd": f"{SINUS},999999"}
    challenge_folder(work / "data", codes)
    signal = wave(0)
    signal[7] = 0
    wfdb_record(work / "data" / "odd", signal, comments=[f"Dx: {SINUS},999999"])
    argv = ["--data.path=data", "--data.least=2", *TINY, *SMALL, *QUICK]
    code, out, error = run("train", argv, capsys)
    said = " ".join(out.split())
    assert (code, error) == (0, "")
    assert "1 unknown codes are no classes; most frequent: 999999 1" in said
    assert "odd: lead V2 flat: counts as missing" in said


def test_records_without_a_lead_are_dropped_where_that_is_asked(work, capsys, no_figures):
    challenge_folder(work / "data", {f"r{i}": (SINUS, FLUTTER)[i % 2] for i in range(9)})
    without_lead(work / "data" / "r0.hea")
    argv = ["--data.path=data", "--data.least=2", *TINY, *SMALL, *QUICK]
    code, out, error = run("train", [*argv, "--output=kept"], capsys)
    assert (code, error) == (0, "") and "9 samples" in out and "no lead V6: zeros" in " ".join(out.split())
    code, out, error = run("train", [*argv, "--data.missing_leads=drop"], capsys)
    assert (code, error) == (0, "") and "8 samples" in out
    assert "r0: left out: has no lead V6" in " ".join(out.split())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda rows: rows[:1] + [[row[0], row[1], "x", 0] for row in rows[1:]], "'x' is neither 0 nor 1"),
        (lambda rows: [*rows, ["zz.csv", "p", 0, 0]], "row 13 names zz.csv, which is not in"),
        (lambda rows: [*rows, rows[1]], "rows 1 and 13 name the same file 00.csv"),
        (lambda rows: [["name", *rows[0][1:]], *rows[1:]], "has no column file"),
    ],
)
def test_a_wrong_table_is_one_line(table, work, capsys, change, said):
    shutil.copytree(table, work / "bad")
    rows = [line.split(",") for line in (table / "labels.csv").read_text().splitlines()]
    write_csv(work / "bad" / "labels.csv", change(rows))
    code, _, error = run("train", ["--data.path=bad", *TINY, *SMALL], capsys)
    assert code == 1 and said in error and len(error.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("options", "said", "wanted"),
    [
        (["--input=nowhere.hea"], "--input nowhere.hea does not exist", 2),
        (["--input=r.csv", "--output=x.txt"], "write a .csv file", 2),
        (["--input=r.csv", "--finding=sinus rythm"], "Did you mean 'sinus rhythm'?", 2),
        (["--input=r.csv", "--page=svg"], "--page", 2),
        (["--input=r.csv", "--threshold=2"], "--threshold 2.0 must lie between 0 and 1", 2),
        (["--input=r.csv", "--units=kV"], "--units", 2),
        (["--input=r.csv", "--units=uV"], "too small for a heart; check its unit, and give it by --units", 1),
        (["--input=nan.npz"], "no lead has a signal", 1),
        (["--input=unequal.csv"], "leads are of unequal lengths: II 150 samples, I 200", 1),
        (["--input=other.csv"], "has none of the leads", 1),
        (["--input=twice.csv"], "has lead II twice", 1),
    ],
)
def test_wrong_inputs_of_predict_are_one_line(trained, work, capsys, options, said, wanted):
    signal = wave(0)
    times = (np.arange(200) / 100).round(2)
    write_csv(work / "r.csv", [["time", *LEADS], *np.column_stack([times, signal.T])])
    short = [
        [*row, value if i < 150 else ""]
        for i, (row, value) in enumerate(
            zip(np.column_stack([times, signal[0]]).tolist(), signal[1], strict=True)
        )
    ]
    write_csv(work / "unequal.csv", [["time", "I", "II"], *short])
    pair = np.column_stack([times, signal[:2].T])
    write_csv(work / "other.csv", [["time", "breath", "pleth"], *pair])
    write_csv(work / "twice.csv", [["time", "II", "lead ii"], *pair])
    np.savez(work / "nan.npz", signal=np.full((12, 200), np.nan), rate=100)
    code, _, error = run("predict", ["--model", the_run(trained), "--tracking=none", *options], capsys)
    assert code == wanted and said in error and len(error.strip().splitlines()) == 1
    assert not (work / "findings.csv").exists()


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("--data.rate=80", "--data.rate 80: the model was trained with 50"),
        ("--data.leads=[II, I]", "the model was trained with ['I', 'II'"),
        ("--data.highpass=0.5", "--data.highpass 0.5: the model was trained with 0.0"),
    ],
)
def test_records_are_not_scored_in_another_form_than_that_of_the_training(
    option, said, trained, work, capsys
):
    code, _, error = run("evaluate", [f"--model={the_run(trained)}", "--output=scores", option], capsys)
    assert code == 2
    assert said in error
