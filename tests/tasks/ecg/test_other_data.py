"""A trained model on data that is named, split or stored in another way than the training's, in whole commands."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from commands import run_command, run_folder
from record_folders import MADE, NAMES, QUICK, SMALL, TINY, challenge_folder, table_folder

from core.track.package import load_package
from tasks.ecg.data.records import read_record
from tasks.ecg.task import TASK

run = partial(run_command, TASK)
the_run = partial(run_folder, TASK)
FOLDS = ["--data.folds=3", "--scoring.bootstrap=0", "--train.epochs=1"]


def scores(work):
    return json.loads((work / "evaluation" / "metrics.json").read_text())["metrics"]["model"]


def samples(work):
    return pd.read_csv(work / "evaluation" / "samples.csv", index_col="file")


def test_other_classes_and_other_folds_leave_each_record_to_its_own_network(
    records, work, capsys, no_figures
):
    assert run("train", [f"--data.path={records}", *MADE, *TINY, *SMALL, *FOLDS], capsys)[0] == 0
    folder = the_run(work)
    before = pd.read_csv(folder / "samples.csv", index_col="file")
    package = load_package(folder / "package")
    assert list(package.metadata["folds"]) == ["fold1", "fold2", "fold3"]
    argv = ["--model", folder, "--tracking=none"]
    code, out, err = run("evaluate", [*argv, f"--data.labels=[{NAMES[0]}, LAD]"], capsys)
    assert (code, err) == (0, "") and "test records were in the training" not in out
    assert (samples(work).fold == before.fold[samples(work).index]).all()
    names = ["sinus rhythm", "left axis deviation"]
    np.testing.assert_allclose(samples(work)[names], before.loc[samples(work).index, names], atol=1e-6)
    code, out, err = run("evaluate", [*argv, "--data.folds=2"], capsys)
    assert (code, err) == (0, "") and "24 of 24 test records were in the training" in " ".join(out.split())
    assert (samples(work).fold != before.fold[samples(work).index]).any()
    np.testing.assert_allclose(samples(work)[names], before.loc[samples(work).index, names], atol=1e-6)


def test_a_model_of_a_table_scores_a_challenges_folder_by_its_own_names(work, capsys, no_figures):
    rows = [[f"r{i}.npy", f"P{i}", ("Sinus rhythm", "AF")[i % 2]] for i in range(24)]
    table_folder(work / "mine", rows)
    (work / "mine" / "labels.csv").rename(work / "mine" / "mine.csv")
    argv = ["--data.path=mine", "--data.table=mine.csv", "--data.input_rate=100", "--data.least=2"]
    assert run("train", [*argv, r"--data.patient=r\d+", *TINY, *SMALL, *QUICK], capsys)[0] == 0
    codes = ["426783006", "164889003"]
    challenge_folder(work / "theirs", {f"A{i}": codes[i % 2] for i in range(8)})
    argv = ["--model", the_run(work), "--data.test_path=theirs", "--data.name=challenge", "--tracking=none"]
    code, out, err = run("evaluate", argv, capsys)
    assert (code, err) == (0, "") and "finds nothing in 8 of 8 names" in " ".join(out.split())
    names = ["atrial fibrillation", "Sinus rhythm"]  # abbreviations are written out where there are codes
    metrics = scores(work)
    assert {f"{name}/auroc" for name in names} <= set(metrics)
    found = samples(work)
    assert found[names].to_numpy().min() > 0
    classifier = TASK.predictor(load_package(the_run(work) / "package"))
    signal, _ = classifier.prepare(read_record(Path("theirs/A3.hea")))
    np.testing.assert_allclose(
        found.loc["A3", names].astype(float),
        classifier.probabilities([signal])[0],
        atol=1e-5,
    )


def test_a_class_that_the_model_does_not_know_is_one_line(trained, work, capsys):
    challenge_folder(work / "theirs", {f"A{i}": ("426783006", "47665007")[i % 2] for i in range(3)})
    argv = ["--model", the_run(trained), "--data.test_path=theirs", "--tracking=none"]
    code, _, err = run("evaluate", [*argv, "--data.labels=[NSR, RAD]"], capsys)
    assert code == 2 and len(err.strip().splitlines()) == 1
    assert "--data.labels: the model does not know 'right axis deviation'; leave it out" in err


def test_a_test_of_which_no_class_can_be_scored_is_one_line(trained, work, capsys):
    challenge_folder(work / "theirs", {f"A{i}": "426783006" for i in range(3)})
    argv = ["--model", the_run(trained), "--data.test_path=theirs", "--tracking=none"]
    code, _, err = run("evaluate", argv, capsys)
    assert code == 1 and len(err.strip().splitlines()) == 1
    assert "no class has both positive and negative records among the 3 that are tested" in err
