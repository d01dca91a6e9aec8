"""Sweeps on small forecasts: the space, the trials, what is scored and tested, failures, going on, two processes."""

from __future__ import annotations

import csv
import importlib.util
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from commands import watch

from core.cli import main as run_command
from core.commands.sweep_space import Choices, Range, corners, dump_space, flags, parse_space
from core.errors import ConfigError
from tasks.forecasting.task import TASK
from tasks.sweep import main

ROOT = Path(__file__).parents[2]
SPACE = "{train.lr: log 1e-4..1e-1, model: {width: [4, 8]}}"


@pytest.fixture
def small(small, monkeypatch):
    """The same, and each data set's baselines are scored once."""
    original = type(TASK).baselines
    monkeypatch.setattr(type(TASK), "baselines", lambda self, c, d: _naive(original, self, c, d))
    return small


@pytest.fixture
def quick(small, monkeypatch):
    """The same without the sweep's pictures and its last trainings."""
    from core.commands import sweep_final
    from core.report.sweep import Tested

    def test(task, place, study, parent, name, trial, config):
        return Tested(name, trial)

    monkeypatch.setattr(sweep_final, "_test", test)
    monkeypatch.setattr(sweep_final, "draw_sweep", lambda *arguments: iter(()))
    return small


def _naive(original, task, config, data, known={}):  # noqa: B006
    """The baselines of this data, scored once."""
    if data.digest not in known:
        known[data.digest] = original(task, config, data)
    return known[data.digest]


def sweep(*argv):
    """Exit code of a sweep in the forecasting task."""
    try:
        return main(["--task=forecasting", *argv])
    except SystemExit as stop:
        return stop.code


def table(folder):
    """Rows of trials.csv."""
    with open(Path(folder) / "trials.csv", newline="") as file:
        return list(csv.DictReader(file))


def record(folder, run):
    """The run.json of a training."""
    return json.loads((Path(folder) / "forecasting" / run / "run.json").read_text())


# ---------------------------------------------------------------- the space


def test_ranges_and_lists_are_read_and_written():
    space = parse_space(
        {
            "train.lr": "log 1e-4..0.01",
            "model.width": [4, 8],
            "model.blocks": "2..8 step 3",
            "model": ["a", "b"],
        }
    )
    assert space["train.lr"] == Range(1e-4, 0.01, True, None, whole=False)
    assert space["model.blocks"] == Range(2, 8, False, 3, whole=True)
    assert space["model.width"] == Choices((4, 8))
    assert space["model.name"] == Choices(("a", "b"))
    assert parse_space(dump_space(space)) == space
    assert [space["model.blocks"].holds(value) for value in (2, 5, 6, 8, 11, 5.0, True)] == [
        *(True, True, False, True, False, False, False)
    ]
    assert flags({"train.lr": 1e-4, "model.rule": "add", "model.lookbacks": [2, 3], "train.ema": None}) == [
        *("--train.lr=0.0001", "--model.rule=add", "--model.lookbacks=[2, 3]", "--train.ema=null")
    ]


def test_all_corners_of_a_small_space_and_each_value_of_a_large_one():
    two = parse_space({"a": [1, 2, 3], "b": "0.5..2.0"})
    assert len(list(corners(two))) == 6
    many = parse_space({name: [0, 1] for name in "abcdefg"})
    assert len(list(corners(many))) == 7 * 2 + 2


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ("2..x", "x is not a number"),
        ("5..2", "has no values"),
        ("log 0..1", "begins above 0"),
        ("1..2 step 0.3", "do not lead from 1 to 2"),
        ([3], "two or more different values"),
        ([3, 3], "two or more different values"),
        (3, "is no list and no range"),
        ("quick", "is no list and no range"),
    ],
)
def test_an_entry_that_is_wrong_is_told(entry, expected):
    with pytest.raises(ConfigError, match=expected):
        parse_space({"train.lr": entry})


def test_help_and_wrong_spaces_import_nothing_heavy(run_python):
    chosen = "--task=forecasting"
    lines = [
        ["--help"],
        [chosen, "--help"],
        [chosen, "--space={train.lrr: 1..2}"],
        [chosen, "--space={model.width: [4, wide]}"],
        [chosen, "--space={train.lr: -1.0..1.0}"],
        [chosen, "--space={seed: [1, 2]}"],
        [chosen, "--space={train.lr: [1e-3, 1e-2], train.ema_warmup: [true, false]}"],
        [chosen, "--space=nowhere.yaml"],
        [chosen, "--space={train.lr: [1e-3, 1e-2]}", "--trials=none"],
        ["--task=forecastin"],
        ["--resume=nowhere"],
        [],
    ]
    answers = watch(run_python, "tasks.sweep", lines)
    assert all(heavy == [] for *_, heavy in answers)
    for code, out, err, _ in answers[:2]:
        assert (code, err) == (0, "")
        assert "--sampler" in out
    assert "--model.lookbacks" in answers[1][1], "the task's own options"
    expected = [
        "Did you mean '--train.lr'?",
        "--model.width takes int, not 'wide'",
        "--train.lr -1.0 is too small",
        "seed cannot be searched",
        "--train.ema_warmup has no moving average",
        "there is no such file",
        "--trials takes a number",
        "Did you mean 'forecasting'?",
        "there is no sweep",
        "--task is missing",
    ]
    for (code, out, err, _), words in zip(answers[2:], expected, strict=True):
        assert (code, out, err.count("\n")) == (2, "", 1), err
        assert words in err


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ([], "--space is missing"),
        (["--space={model.rule: [add, laurel_r]}"], "Did you mean 'laurel_rw'?"),
        (["--space={train.lr: 0.1..0.2}", "--sampler=grid"], "train.lr is a range"),
        (["--space={train.lr: 0.1..0.2}", "--sampler=tp"], "Did you mean 'tpe'?"),
        (["--space={train.lr: 0.1..0.2}", "--pruner=mean"], "Did you mean 'median'?"),
        (["--space={data.horizon: [3, 4]}"], "scores would not compare"),
        (["--space={train.lr: 0.1..0.2}", "--score=mse"], "--score mse: the validation measures mase"),
        (["--space={train.lr: 0.1..0.2}", "--intervals.calibration=none"], "never on the test data"),
    ],
)
def test_a_start_that_fails_is_one_line_and_leaves_nothing(flags, expected, small, capsys):
    assert sweep(*small, *flags) == 2
    said = capsys.readouterr().err
    assert expected in said
    assert said.count("\n") == 1
    assert not list(Path.cwd().iterdir())


@pytest.mark.skipif(importlib.util.find_spec("ray") is not None, reason="Ray is installed")
def test_without_ray_one_line_says_what_to_install(small, capsys):
    assert sweep(*small, "--space={train.lr: 0.1..0.2}", "--scheduler=ray") == 2
    assert capsys.readouterr().err == "error: --scheduler ray needs Ray Tune: pip install '.[ray]'\n"


def test_ray_trains_the_trials(small):
    pytest.importorskip("ray")
    assert sweep(*small, f"--space={SPACE}", "--scheduler=ray", "--trials=2", "--output=s") == 0
    assert [row["state"] for row in table("s")] == ["finished", "finished"]


def test_what_ray_lost_goes_on_and_what_it_is_to_stop_is_given_back(quick, capsys, monkeypatch):
    """What a process of Ray does, without Ray: its trial is lost with its machine, begun anew, and stopped."""
    from core.commands import sweep_ray, sweep_train
    from core.commands.sweep_study import load_place

    assert sweep(*quick, f"--space={SPACE}", "--trials=1", "--output=s") == 0
    place = load_place(Path("s"))
    place = replace(place, settings=replace(place.settings, trials=3))
    monkeypatch.setattr(sweep_ray, "load_place", lambda folder: place)
    study = place.study()
    lost = place.ask(study)
    for key, value in (
        (sweep_ray.GROUP, "all"),
        (sweep_ray.SLOT, "first"),
        ("process", {"host": "elsewhere"}),
    ):
        lost.set_user_attr(key, value)
    result = sweep_ray.train_one("forecasting", "s", None, "all", "first")
    assert (result["trial"], result["state"], result["train.lr"]) == (2, "COMPLETE", lost.params["train.lr"])
    assert result["score"] == place.study().trials[2].value
    assert sweep_ray.train_one("forecasting", "s", 1.0, "all", "second") == {}  # no time is left

    monkeypatch.setattr(sweep_train, "SIGN_SECONDS", -1.0)
    original = sweep_train.Judge.advance

    def advance(judge, done, total):
        if done == 3:
            study.set_user_attr("stop/all", "stopped")
        original(judge, done, total)

    monkeypatch.setattr(sweep_train.Judge, "advance", advance)
    assert sweep_ray.train_one("forecasting", "s", None, "all", "second") == {}
    stopped, again = place.study().trials[3:]
    assert (stopped.state.name, again.state.name, again.user_attrs["of"]) == ("FAIL", "WAITING", 3)
    assert list(Path("s/forecasting", again.user_attrs["run"], "checkpoints").rglob("*.pt"))
    assert sweep_ray.train_one("forecasting", "s", None, "all", "third") == {}  # all are to end
    assert sweep_ray.train_one("forecasting", "s", None, "others", "first")["trial"] == 4
    assert sweep_ray.train_one("forecasting", "s", None, "others", "second") == {}  # none is left


# ---------------------------------------------------------------- the trials


def test_trials_are_scored_on_validation_data_and_the_best_is_tested(small, tracking, capsys, monkeypatch):
    """What a trial scores is the validation of its training, and the test data is asked for twice alone."""
    from mlflow import MlflowClient

    tested = []
    evaluate = type(TASK).evaluate

    def counting(self, predictor, config, data):
        tested.append(config.train.lr)
        return evaluate(self, predictor, config, data)

    monkeypatch.setattr(type(TASK), "evaluate", counting)
    chosen = [*small[:-1], f"--tracking={tracking}", "--seed=3"]
    assert sweep(*chosen, f"--space={SPACE}", "--trials=3", "--pruner=none", "--output=s") == 0
    out = capsys.readouterr().out
    rows = table("s")
    assert [row["state"] for row in rows] == ["finished"] * 3
    assert (float(rows[0]["train.lr"]), rows[0]["model.width"]) == (0.003, "4"), "the start comes first"
    assert len({row["train.lr"] for row in rows}) == 3
    best = min(rows, key=lambda row: float(row["score"]))
    assert best is not rows[0]
    assert tested == [float(best["train.lr"]), 0.003]
    assert "the test data is for the end" in out

    # The same training, validated at its end.
    alone = [*small, "--seed=3", f"--train.lr={best['train.lr']}", f"--model.width={best['model.width']}"]
    assert run_command(TASK, "train", [*alone, "--train.validate_every=6", "--output=alone"]) == 0
    (folder,) = Path("alone/forecasting").iterdir()
    metrics = json.loads((folder / "run.json").read_text())["metrics"]
    assert float(best["score"]) == pytest.approx(float(metrics["val_mase"]), rel=1e-6)

    # best.yaml is that training.
    saved = yaml.safe_load(Path("s/best.yaml").read_text())
    assert saved["train"]["lr"] == float(best["train.lr"])
    assert saved["output"] == "runs" and saved["register"] is True
    assert run_command(TASK, "train", ["--config=s/best.yaml", "--tracking=none", "--output=again"]) == 0
    (folder,) = Path("again/forecasting").iterdir()
    again = json.loads((folder / "run.json").read_text())["metrics"]["test/mase"]

    client = MlflowClient(tracking_uri=tracking)
    runs = client.search_runs([client.get_experiment_by_name("skipway/forecasting").experiment_id])
    (parent,) = [run for run in runs if run.info.run_name.startswith("sweep-")]
    children = [run for run in runs if run is not parent]
    assert len(children) == 5, "three trials, the best and the start"
    for run in children:
        assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
        tests = {name for name in run.data.metrics if name.startswith(("test/", "baseline/"))}
        assert bool(tests) == (not run.info.run_name.startswith("trial"))
    assert parent.data.metrics["best/mase"] == pytest.approx(float(again))
    assert {entry.path for entry in client.list_artifacts(parent.info.run_id)} >= {
        *("config.yaml", "trials.csv", "report.html", "best.yaml", "figures")
    }
    versions = client.search_model_versions("name='skipway-forecasting'")
    assert len(versions) == 1, "the best one"
    page = Path("s/report.html").read_text()
    assert "data:image/png;base64," in page
    assert best["run"] in page
    assert Path("s/sweep.png").read_bytes().startswith(b"\x89PNG")


def test_a_grid_is_trained_once_over_and_failures_do_not_end_it(quick, capsys):
    """A learning rate of 1e30 has no finite loss; the sweep marks it and goes on."""
    space = "--space={train.lr: [1e-3, 1e30], model.width: [4, 8]}"
    assert sweep(*quick, space, "--sampler=grid", "--output=s") == 0
    said = capsys.readouterr()
    rows = table("s")
    assert sorted((float(row["train.lr"]), row["model.width"], row["state"]) for row in rows) == [
        *((0.001, "4", "finished"), (0.001, "8", "finished"), (1e30, "4", "failed"), (1e30, "8", "failed"))
    ]
    assert all(
        "finite" in row["reason"] or "nan" in row["reason"] for row in rows if row["state"] == "failed"
    )
    assert "Traceback" not in said.out + said.err
    assert "start │  none │" in said.out, "it is not one of the grid"


def test_a_hopeless_trial_is_pruned(quick, capsys):
    """Against five good trials one with a learning rate of next to nothing is stopped after a third of its steps."""
    space = "--space={train.lr: [1e-2, 2e-2, 3e-2, 4e-2, 5e-2, 6e-2, 1e-9]}"
    assert (
        sweep(*quick, space, "--sampler=grid", "--trials=6", "--seed=22", "--train.steps=10", "--output=s")
        == 0
    )
    worst = table("s")[5]
    assert float(worst["train.lr"]) == 1e-9, "another order of the grid needs another seed"
    assert (worst["state"], worst["reason"]) == ("pruned", "pruned after 30 % of the steps")
    assert float(worst["score"]) > max(float(row["score"]) for row in table("s")[:5])
    assert record("s", worst["run"])["status"] == "KILLED"


# ---------------------------------------------------------------- going on


def test_what_was_stopped_goes_on_and_more_trials_are_added(quick, capsys, stop_after):
    chosen = [*quick, f"--space={SPACE}", "--sampler=random", "--pruner=none"]
    assert sweep(*chosen, "--trials=2", "--output=whole") == 0
    with stop_after(4):
        assert sweep(*chosen, "--trials=2", "--output=s") == 130
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "interrupted, 0 of 2 trials done; continue with --resume" in said
    assert main(["--resume=s"]) == 0
    whole, now = table("whole"), table("s")
    assert [(row["train.lr"], row["score"]) for row in now] == [(r["train.lr"], r["score"]) for r in whole]
    assert record("s", now[0]["run"])["tags"]["skipway.run"].startswith("trial000-"), (
        "the run that was stopped"
    )

    assert main(["--resume=s", "--trials=3"]) == 0
    assert [row["run"] for row in table("s")][:2] == [row["run"] for row in now]
    assert len(table("s")) == 3
    capsys.readouterr()
    for more, words in (
        (["--space={train.lr: 0.1..0.2}"], "another --space"),
        (["--sampler=tpe"], "another --sampler"),
        (["--train.steps=7"], "was made with train.steps 6, not 7"),
    ):
        assert main(["--resume=s", *more]) == 2
        assert words in capsys.readouterr().err


def test_a_trial_whose_process_was_killed_is_trained_by_another(quick):
    """SIGKILL leaves a trial that says it is running; a second process on the folder takes it over."""
    code = """
import os, signal, sys
from core.commands import train
original = train.Observer
def observer(advance, log, validated):
    def count(done, total):
        if done == 4:
            os.kill(os.getpid(), signal.SIGKILL)
    return original(count, log, validated)
train.Observer = observer
from tasks.sweep import main
main(sys.argv[1:])
"""
    argv = ["--task=forecasting", *quick, f"--space={SPACE}", "--trials=2", "--output=s"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code, *argv], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert main(argv) == 0
    assert [row["state"] for row in table("s")] == ["finished", "finished"]
    assert float(table("s")[0]["train.lr"]) == 0.003


def test_a_second_process_trains_along_and_does_not_report(quick, capsys):
    from core.commands.sweep import _lead

    chosen = [*quick, f"--space={SPACE}"]
    assert sweep(*chosen, "--trials=1", "--output=s") == 0
    page = Path("s/report.html").read_text()
    leader = _lead(Path("s"))
    assert leader is not None
    capsys.readouterr()
    assert main(["--resume=s", "--trials=2"]) == 0
    leader.release()
    out = capsys.readouterr().out
    assert "this one trains along" in out and "trial 1 finished" in out
    assert Path("s/report.html").read_text() == page
    assert main(["--resume=s"]) == 0
    assert len(table("s")) == 2
