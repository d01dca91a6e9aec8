"""Comparison of residual rules, on small forecasts: the trainings, what is tracked, failures, going on."""

from __future__ import annotations

import csv
import json
import os
import signal
from pathlib import Path

import pytest
import torch
import yaml
from commands import watch

from core.cli import main as run_command
from core.residual import PointwiseRule
from core.residual.rules import RULES
from tasks.__main__ import task_names
from tasks.compare import main, take
from tasks.forecasting.task import TASK


@pytest.fixture
def broken():
    """Residual rules that fail, each in its own way; the registry is as before afterwards."""

    class Diverging(PointwiseRule):
        def forward(self, x, update):
            return x + update * float("nan")

    class Refusing(PointwiseRule):
        def __init__(self, spec):
            from core.errors import ConfigError

            raise ConfigError("this rule needs channels in fours")

        def forward(self, x, update):
            return x

    class Defective(PointwiseRule):
        def forward(self, x, update):
            raise RuntimeError("shapes do not fit\nby far")

    rules = {"diverging": Diverging, "refusing": Refusing, "defective": Defective}
    for name, rule in rules.items():
        RULES.register(name)(rule)
    yield list(rules)
    for name in rules:
        del RULES._entries[name]


def compare(*argv):
    """Exit code of a comparison in the forecasting task."""
    try:
        return main(["--task=forecasting", *argv])
    except SystemExit as stop:
        return stop.code


def table(folder):
    """Rows of results.csv by rule and seed."""
    with open(Path(folder) / "results.csv", newline="") as file:
        return {(row["rule"], int(row["seed"])): row for row in csv.DictReader(file)}


def record(row, folder):
    """The run.json of a training."""
    return json.loads((Path(folder) / "forecasting" / row["run"] / "run.json").read_text())


# ---------------------------------------------------------------- arguments


def test_help_and_wrong_arguments_import_nothing_heavy(run_python):
    lines = [
        ["--help"],
        *(["--task", name, "--help"] for name in task_names()),
        ["--task=forecasting", "--train.lrr=1"],
        ["--task=forecastin"],
        ["--task=forecasting", "--seeds=0"],
        [],
    ]
    answers = watch(run_python, "tasks.compare", lines)
    assert all(heavy == [] for *_, heavy in answers)
    helps, (lrr, task, seeds, missing) = answers[:-4], answers[-4:]
    for code, out, err, _ in helps:
        assert (code, err) == (0, "")
        assert "--rules" in out
        assert "python -m tasks.compare --task forecasting --rules add" in out
    for _, out, _, _ in helps[1:]:
        assert "--model.rule_options" in out, "the task's own options"
    for code, out, err, _ in (lrr, task, seeds, missing):
        assert (code, out, err.count("\n")) == (2, "", 1)
    assert "Did you mean '--train.lr'?" in lrr[2]
    assert "Did you mean 'forecasting'?" in task[2]
    assert "--seeds takes the number of seeds" in seeds[2]
    assert "--task is missing; there is: csi, denoising, detection, ecg, forecasting" in missing[2]


def test_options_are_taken_in_both_forms_and_the_rest_is_left():
    argv = ["--a", "1", "--rules=add", "--b=2", "--seeds", "5", "--rules", "scaled"]
    assert take(argv, ("--rules", "--seeds")) == (
        {"--rules": "scaled", "--seeds": "5"},
        ["--a", "1", "--b=2"],
    )


@pytest.mark.parametrize(
    ("flags", "code", "expected"),
    [
        (["--rules=add,laurel_r"], 2, "Did you mean 'laurel_rw'?"),
        (["--rules=add,,scaled"], 2, "has an empty name"),
        (["--rules"], 2, "--rules needs a value"),
        (["--rules=add", "--seeds=x"], 2, "not 'x'"),
        (["--rules=add", "--model.rule=scaled", "--model.rule_options={scale: 2}"], 2, "does not name"),
        (["--rules=scaled", "--model.rule=scaled", "--model.rule_options={scal: 2}"], 2, "no option 'scal'"),
        (["--rules=add,scaled", "--train.epochs=3"], 2, "--train.epochs has no meaning here"),
        (["--rules=add", "--train.device=gpu"], 2, "is not a device"),
        (["--rules=add", "--data.path=missing.csv"], 1, "there is no file missing.csv"),
        (["--rules=add", "--tracking=mlruns"], 1, "no runs in a folder of files"),
        (["--resume=nowhere"], 2, "there is no comparison"),
        (["--resume=nowhere", "--output=here"], 2, "without --output"),
    ],
)
def test_a_start_that_fails_is_one_line_and_leaves_nothing(flags, code, expected, small, capsys):
    assert compare(*small, *flags) == code
    said = capsys.readouterr().err
    assert expected in said
    assert said.count("\n") == 1
    assert not list(Path.cwd().iterdir())


def test_a_model_without_a_rule_cannot_be_compared(small, capsys, monkeypatch):
    from dataclasses import make_dataclass

    from tasks.forecasting.config import MODELS

    monkeypatch.setitem(MODELS._entries, "plain", make_dataclass("Plain", [("name", str, "plain")]))
    chosen = [word for word in small if not word.startswith("--model")]
    assert compare(*chosen, "--model=plain") == 2
    assert "model 'plain' of forecasting has no option `rule`" in capsys.readouterr().err


def test_a_folder_with_something_else_is_refused(small, capsys):
    Path("full").mkdir()
    Path("full/mine.txt").write_text("")
    assert compare(*small, "--rules=add", "--output=full") == 2
    assert "holds something else" in capsys.readouterr().err


def test_the_listing_and_the_common_command_know_it(small, capsys, monkeypatch):
    from tasks import __main__

    __main__.print_listing()
    assert "python -m tasks.compare --task forecasting --rules add,laurel_rw" in capsys.readouterr().out
    monkeypatch.setattr("sys.argv", ["tasks", "compare", "forecasting", "--rules=ad", *small])
    assert __main__.main() == 2
    assert "Did you mean 'add'?" in capsys.readouterr().err


# ---------------------------------------------------------------- the trainings


def test_each_training_is_what_train_alone_makes_of_it(small, capsys):
    """Whatever was trained before in the same process; options go to the rule that they are of."""
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    chosen = [*small, "--model.rule=scaled", "--model.rule_options={scale: 0.5}", "--seed=4"]
    assert compare(*chosen, "--rules=add,scaled", "--seeds=2", "--output=both") == 0
    out = capsys.readouterr().out
    rows = table("both")
    assert list(rows) == [("add", 4), ("scaled", 4), ("add", 5), ("scaled", 5)], "seed by seed"
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
    for rule, seed, options in (("scaled", 5, "{scale: 0.5}"), ("add", 4, "{}")):
        alone = [*small, f"--seed={seed}", f"--model.rule={rule}", f"--model.rule_options={options}"]
        assert run_command(TASK, "train", [*alone, f"--output=alone-{rule}"]) == 0
        (folder,) = Path(f"alone-{rule}/forecasting").iterdir()
        expected = json.loads((folder / "run.json").read_text())["metrics"]
        for name, value in expected.items():
            if name.startswith("test/"):
                assert float(rows[rule, seed][name.removeprefix("test/")]) == float(value), name
        run = record(rows[rule, seed], "both")
        assert run["metrics"].keys() - expected.keys() == set(), "the same metrics"
        assert run["params"]["rule"] == run["params"]["model.rule"] == rule
        assert run["params"]["seed"] == seed

    mases = [float(rows["add", seed]["mase"]) for seed in (4, 5)]
    assert mases[0] != mases[1]
    state = json.loads(Path("both/results.json").read_text())
    summary = {row["rule"]: row for row in state["summary"]}
    assert summary["add"]["metrics"]["mase"]["mean"] == pytest.approx(sum(mases) / 2)
    differences = [float(rows["scaled", seed]["mase"]) - mases[seed - 4] for seed in (4, 5)]
    assert summary["scaled"]["difference"]["mean"] == pytest.approx(sum(differences) / 2)
    assert "mase, lower is better" in out
    assert "Monthly/mase" in out
    assert Path("both/rules.png").read_bytes().startswith(b"\x89PNG")


def test_trainings_are_nested_runs_and_no_model_is_registered(small, tracking, capsys):
    from mlflow import MlflowClient

    assert (
        compare(*small[:-1], f"--tracking={tracking}", "--rules=add,decayed", "--seeds=1", "--output=c") == 0
    )
    client = MlflowClient(tracking_uri=tracking)
    experiment = client.get_experiment_by_name("skipway/forecasting")
    runs = client.search_runs([experiment.experiment_id])
    (parent,) = [run for run in runs if run.info.run_name.startswith("compare-")]
    children = [run for run in runs if run is not parent]
    assert {run.data.params["rule"] for run in children} == {"add", "decayed"}
    for run in children:
        assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert run.data.params["seed"] == "0"
        assert run.info.status == "FINISHED"
        value = float(table("c")[run.data.params["rule"], 0]["mase"])
        assert run.data.metrics["test/mase"] == pytest.approx(value)
        assert parent.data.metrics[f"{run.data.params['rule']}/mase"] == pytest.approx(value)
        files = {entry.path for entry in client.list_artifacts(run.info.run_id)}
        assert "report.html" in files
        assert "checkpoints" not in files, "they would be most of it"
    files = {entry.path for entry in client.list_artifacts(parent.info.run_id)}
    assert files >= {"config.yaml", "results.csv", "results.json", "figures"}
    assert client.search_registered_models() == []
    assert not list(Path("c").glob("forecasting/*/checkpoints"))


def test_rules_that_fail_are_reported_and_the_rest_goes_on(small, broken, capsys):
    rules = ",".join([*broken, "add"])
    assert compare(*small, f"--rules={rules}", "--seeds=1", "--output=c") == 1
    said = capsys.readouterr()
    rows = table("c")
    assert {rule: row["status"] for (rule, _), row in rows.items()} == {
        "diverging": "failed",
        "refusing": "failed",
        "defective": "failed",
        "add": "finished",
    }
    assert rows["diverging", 0]["reason"].startswith("the loss is nan at step 0")
    assert "--resume" not in rows["diverging", 0]["reason"], "there is nothing to go on with"
    assert rows["refusing", 0]["reason"] == "this rule needs channels in fours"
    assert rows["refusing", 0]["run"] == ""
    assert rows["defective", 0]["reason"] == "RuntimeError: shapes do not fit"
    assert "in forward" in Path("c/errors/defective-seed0.txt").read_text()
    assert record(rows["diverging", 0], "c")["status"] == "FAILED"
    assert "seed 0: RuntimeError" in said.out
    assert "Traceback" not in said.out + said.err


def test_a_rule_that_fails_everywhere_alone_leaves_nothing(small, broken, capsys):
    assert compare(*small, "--rules=refusing") == 2
    assert capsys.readouterr().err == "error: this rule needs channels in fours\n"
    assert not list(Path.cwd().iterdir())


def test_compilation_starts_afresh_for_each_rule(small, monkeypatch, capsys):
    """The limit of recompilations counts for a process, not for a training."""
    resets = []
    monkeypatch.setattr(torch.compiler, "reset", lambda: resets.append(True))
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self: None)
    assert compare(*small, "--rules=add,decayed", "--seeds=1", "--train.compile=true", "--output=c") == 0
    assert len(resets) == 2


# ---------------------------------------------------------------- going on


@pytest.fixture
def trained(monkeypatch):
    """Rule, seed and whether a run was resumed, of every training that is started."""
    from core.commands import train

    calls, original = [], train.run

    def run(task, config, resume=None, nested=None):
        calls.append((config.model.rule, config.seed, resume is not None))
        return original(task, config, resume, nested)

    monkeypatch.setattr(train, "run", run)
    return calls


def test_the_same_folder_gets_only_what_is_missing(small, trained, capsys):
    assert compare(*small, "--rules=add", "--seeds=1", "--output=c") == 0
    first = table("c")["add", 0]
    assert compare(*small, "--rules=decayed", "--seeds=2", "--output=c") == 0
    assert trained == [("add", 0, False), ("decayed", 0, False), ("add", 1, False), ("decayed", 1, False)]
    assert table("c")["add", 0] == first
    assert main(["--resume=c"]) == 0
    assert len(trained) == 4, "nothing was left to do"
    assert yaml.safe_load(Path("c/config.yaml").read_text())["register"] is False
    (parent,) = Path("c/forecasting").glob("compare-*")
    assert json.loads((parent / "run.json").read_text())["status"] == "FINISHED"

    capsys.readouterr()
    assert compare(*small, "--train.lr=0.5", "--output=c") == 2
    assert "c was made with train.lr 0.003, not 0.5" in capsys.readouterr().err
    path = Path(small[0].removeprefix("--data.path="))
    path.write_text(path.read_text().replace(",306\n", ",307\n", 1))
    assert main(["--resume=c"]) == 2
    assert "is not the data that c was made with" in capsys.readouterr().err
    assert len(trained) == 4


def test_ctrl_c_keeps_what_is_done_and_resume_ends_it(small, trained, capsys, monkeypatch):
    from core.commands import train

    assert compare(*small, "--rules=add,decayed", "--seeds=1", "--output=whole") == 0
    original = train.Observer

    def stopping(advance, log, validated):
        def count(done, total):
            advance(done, total)
            if done == 4 and trained[-1][0] == "decayed":
                os.kill(os.getpid(), signal.SIGINT)

        return original(count, log, validated)

    trained.clear()
    with monkeypatch.context() as patch:
        patch.setattr(train, "Observer", stopping)
        assert compare(*small, "--rules=add,decayed", "--seeds=1", "--output=c") == 130
    said = capsys.readouterr().err
    assert said == "error: interrupted, 1 of 2 trainings done; continue with --resume c\n"
    assert table("c")["decayed", 0]["status"] == "interrupted"
    assert Path("c/rules.png").exists()
    (parent,) = Path("c/forecasting").glob("compare-*")
    assert json.loads((parent / "run.json").read_text())["status"] == "KILLED"
    before = float(table("c")["decayed", 0]["cpu_seconds"])

    assert main(["--resume", "c"]) == 0
    assert trained == [("add", 0, False), ("decayed", 0, False), ("decayed", 0, True)]
    times = {"cpu_seconds", "seconds", "run"}
    for key, row in table("whole").items():
        now = table("c")[key]
        assert {k: v for k, v in now.items() if k not in times} == {
            k: v for k, v in row.items() if k not in times
        }
    assert float(table("c")["decayed", 0]["cpu_seconds"]) > before > 0


def test_sigterm_between_two_trainings_is_as_clean(small, monkeypatch, capsys):
    from core.commands import compare as command

    original = command._line

    def terminated(study, trial):
        os.kill(os.getpid(), signal.SIGTERM)
        return original(study, trial)

    with monkeypatch.context() as patch:
        patch.setattr(command, "_line", terminated)
        assert compare(*small, "--rules=add,decayed", "--seeds=1", "--output=c") == 130
    assert "1 of 2 trainings done" in capsys.readouterr().err
    assert [row["status"] for row in table("c").values()] == ["finished", "waiting"]
