"""The command line: what it imports, how it fails, and how it resumes. The forecasting task stands for all."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from core.cli import _parse, main
from core.config import TrainConfig
from core.errors import TrackingError
from core.track.run import Run
from tasks.forecasting.task import TASK

ROOT = Path(__file__).parents[2]
COMMANDS = ("train", "evaluate", "predict", "export")

WATCH = """
import contextlib, io, json, sys
from core.cli import main
from tasks.forecasting.task import TASK
heavy = {"torch", "mlflow", "pandas", "gluonts", "monai", "lightning", "statsmodels", "matplotlib", "scipy"}
for argv in json.loads(sys.argv[1]):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main(TASK, *argv[:1], argv[1:])
        except SystemExit as stop:
            code = stop.code
    print(json.dumps([code, out.getvalue(), err.getvalue(), sorted(heavy & sys.modules.keys())]))
"""


@pytest.fixture(scope="module")
def light(tmp_path_factory):
    """Answers of a fresh process to what must not need a heavy library, with the libraries that it imported."""
    lines = [
        *([command, "--help"] for command in COMMANDS),
        ["train", "--train.lrr", "1"],
        ["train", "--model", "nbeats_generi"],
        ["train", "--train.lr", "x"],
        ["train", "--train.batch_size", "0"],
        ["train", "--train.max_time", "soon"],
        ["train", "--config", "missing.yaml"],
        ["predict", "--inputt", "x"],
    ]
    folder = tmp_path_factory.mktemp("light")
    done = subprocess.run(
        [sys.executable, "-c", WATCH, json.dumps(lines)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert not list(folder.iterdir())
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    return {" ".join(argv): answer for argv, answer in zip(lines, answers, strict=True)}


@pytest.mark.parametrize("command", COMMANDS)
def test_help_imports_nothing_heavy(command, light):
    code, out, err, heavy = light[f"{command} --help"]
    assert (code, err, heavy) == (0, "", [])
    assert f"python -m tasks.forecasting.{command}" in out
    assert "Examples:" in out
    for line in TASK.examples[command]:
        assert line in out
    if command == "train":
        assert "Peak learning rate" in out, "inherited options keep their help"
        assert "--resume" in out
        assert "L_H" in out


def test_wrong_arguments_answer_before_anything_heavy_is_imported(light):
    for line, (code, out, err, heavy) in light.items():
        if "--help" not in line:
            assert (code, out, heavy) == (2, "", []), line
            assert err.count("\n") == 1, line
            assert "error: " in err


def test_wrong_arguments_name_the_nearest_right_one(light):
    assert "Did you mean '--train.lr'?" in light["train --train.lrr 1"][2]
    assert "Did you mean 'nbeats_generic'?" in light["train --model nbeats_generi"][2]
    assert "Did you mean '--input'?" in light["predict --inputt x"][2]
    assert "--train.lr takes float, not 'x'" in light["train --train.lr x"][2]


# ---------------------------------------------------------------- starts that fail


@pytest.fixture
def table(tmp_path_factory):
    """Three monthly series."""
    path = tmp_path_factory.mktemp("data") / "sales.csv"
    rows = [
        f"{name},{2010 + t // 12}-{t % 12 + 1:02d}-01,{level + t + 5 * (t % 12)}"
        for name, level in (("a", 10), ("b", 20), ("c", 300))
        for t in range(60)
    ]
    path.write_text("\n".join(["unique_id,ds,y", *rows]) + "\n")
    return path


@pytest.fixture
def small(table):
    """A training of a moment."""
    return [
        f"--data.path={table}",
        "--data.horizon=3",
        "--model.lookbacks=[2]",
        "--model.losses=[smape]",
        "--model.blocks=1",
        "--model.width=4",
        "--train.steps=6",
        "--train.batch_size=8",
        "--train.tune_allocator=false",
    ]


@pytest.fixture
def work(tmp_path, monkeypatch):
    """An empty working directory."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def run(argv, capsys, command="train"):
    """Exit code and what was said on the error stream."""
    try:
        code = main(TASK, command, argv)
    except SystemExit as stop:
        code = stop.code
    return code, capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "code", "expected"),
    [
        (["--train.lrr=1"], 2, "Did you mean '--train.lr'?"),
        (["--model.rule=ad"], 2, "Did you mean 'add'?"),
        (["--model.rule_options={'scal': 2}"], 2, "has no option 'scal'"),
        (["--model.rule=scaled", "--model.rule_options={scale: x}"], 2, "scale takes float, not 'x'"),
        (["--train.epochs=3"], 2, "--train.epochs has no meaning here"),
        (["--train.workers=2"], 2, "--train.workers has no meaning here"),
        (["--model.lookbacks=[2, 2]"], 2, "names a member twice"),
        (["--model.lookbacks=[0]"], 2, "a lookback is 1 horizon or more"),
        (["--model.blocks=0"], 2, "--model.blocks 0 is too small"),
        (["--model.losses=[]"], 2, "--model.losses is empty"),
        (["--data.name=wid"], 2, "Did you mean 'wide'?"),
        (["--data.path=missing.csv"], 1, "there is no file missing.csv"),
        (["--data.holdout=false"], 2, "leaves nothing to test on"),
        (["--train.device=gpu"], 2, "is not a device"),
        (["--train.steps={Yearly: 3}"], 2, "has no number for Monthly"),
        (["--train.history=0.1"], 2, "holds no window"),
        (["--train.recompute=segments"], 2, "stacked ensembles"),
        (["--train.teacher=missing"], 1, "there is no model at missing"),
        (
            ["--train.freeze=[group.0]"],
            2,
            "no module of this model. Did you mean 'groups.0'? Its parts are groups",
        ),
        (["--train.freeze=[groups]"], 2, "--train.freeze [groups] leaves nothing that learns"),
        (["--train.ema_gamma=5"], 2, "--train.ema_gamma is of a moving average; set --train.ema"),
        (["--train.orthonormal=-1"], 2, "--train.orthonormal -1.0 is too small"),
        (["--intervals.levels=[80, 100]"], 2, "--intervals.levels 100"),
        (["--data.horizon=1", "--model.losses=[mase]", "--model.lookbacks=[1]"], 2, "no naive error"),
        (["--tracking=mlruns"], 1, "no runs in a folder of files"),
        (["--resume=last"], 1, "there is no run"),
        (["--resume"], 2, "--resume needs a run"),
    ],
)
def test_a_start_that_fails_is_one_line_and_leaves_nothing(flags, code, expected, small, work, capsys):
    given = [flag.split("=")[0] for flag in flags]
    argv = [word for word in small if word.split("=")[0] not in given]
    result, said = run([*argv, "--tracking=none", *flags], capsys)
    assert result == code
    assert expected in said
    assert said.count("\n") == 1
    assert "error: " in said
    assert not list(work.iterdir())


def test_a_damaged_database_costs_no_training(small, work, capsys):
    (work / "mlflow.db").write_text("no database at all" * 100)
    code, said = run(small, capsys)
    assert code == 1
    assert "is not a usable SQLite database" in said
    assert [path.name for path in work.iterdir()] == ["mlflow.db"]


def test_a_wrong_policy_is_told_before_the_training(small, work, capsys):
    (work / "mlflow").mkdir()
    (work / "mlflow" / "registry.yaml").write_text("forecasting: {min_gian: 0.1}\n")
    code, said = run([*small, "--tracking=none"], capsys)
    assert code == 2
    assert "min_gian" in said
    assert [path.name for path in work.iterdir()] == ["mlflow"]


def test_a_model_that_is_not_a_mapping_is_one_line(work, capsys):
    (work / "wrong.yaml").write_text("model: 3\n")
    code, said = run(["--config=wrong.yaml"], capsys)
    assert code == 2
    assert said.startswith("error: wrong.yaml: `model` holds")


def test_a_finished_run_is_not_resumed(small, work, capsys):
    assert run([*small, "--tracking=none"], capsys)[0] == 0
    code, said = run(["--resume=last"], capsys)
    assert code == 2
    assert "is finished; --config" in said


def test_sigterm_after_the_fit_ends_the_run_as_killed(small, work, capsys, monkeypatch):
    """In the test phase there is no step to finish: the run is closed at once, and can be resumed to its end."""
    from core.commands import train

    def terminated(*unused):
        os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(train, "_finish", terminated)
        code, said = run([*small, "--tracking=none"], capsys)
    assert code == 130
    assert "error: interrupted; continue with --resume" in said
    (folder,) = (work / "runs" / "forecasting").iterdir()
    assert json.loads((folder / "run.json").read_text())["status"] == "KILLED"
    assert run(["--resume=last"], capsys)[0] == 0


def test_a_learning_rate_for_another_batch_is_told(small, work, capsys):
    def said(*flags):
        assert main(TASK, "train", [*small, "--tracking=none", "--register=false", *flags]) == 0
        return [line for line in capsys.readouterr().out.splitlines() if line.startswith("rate")]

    scaled = ["--train.lr=0.004", "--train.lr_base_batch=256", "--train.accumulate=2"]
    line = "0.004 for a batch of 256: 0.00025 for 16 (--train.lr_base_batch null takes --train.lr as it is)"
    assert said(*scaled) == [f"rate       {line}"]
    assert said() == []


def test_a_run_is_the_teacher_of_another(small, work, capsys):
    assert run([*small, "--tracking=none"], capsys)[0] == 0
    (teacher,) = (work / "runs" / "forecasting").iterdir()
    learn = [*small, "--tracking=none", f"--train.teacher={teacher}", "--train.teacher_distance=relative"]
    assert run([*learn, "--model.width=5", "--train.log_every=1"], capsys)[0] == 0
    (student,) = set((work / "runs" / "forecasting").iterdir()) - {teacher}
    metrics = json.loads((student / "run.json").read_text())["metrics"]
    assert metrics["teacher_distance"] > 0
    assert metrics["loss"] == pytest.approx(
        0.5 * (metrics["task_loss"] + metrics["teacher_distance"]), rel=1e-5
    )
    code, said = run([*learn, "--model.lookbacks=[3]"], capsys)
    assert code == 2
    assert "the teacher reads windows of 6 steps and this model of 9" in said


def test_evaluate_without_data_scores_on_the_data_of_the_training(small, work, capsys):
    assert run([*small, "--tracking=none"], capsys)[0] == 0
    (folder,) = (work / "runs" / "forecasting").iterdir()
    assert run([f"--model={folder}", "--output=scores"], capsys, "evaluate")[0] == 0
    trained = json.loads((folder / "run.json").read_text())["metrics"]
    scored = json.loads((work / "scores" / "metrics.json").read_text())["metrics"]["model"]
    assert scored["mase"] == pytest.approx(trained["test/mase"], rel=1e-9)


@pytest.mark.parametrize("command", ["evaluate", "export"])
def test_a_file_where_results_should_go_is_told_at_once(command, work, capsys):
    (work / "taken").write_text("")
    code, said = run(["--output=taken/here"], capsys, command)
    assert code == 2
    assert said.startswith("error: --output taken/here cannot be made a folder")


def test_debug_shows_where_an_error_comes_from(work, capsys):
    code, said = run(["--data.path=missing.csv", "--debug"], capsys)
    assert code == 1
    assert "Traceback" in said
    assert said.endswith("error: data.path: there is no file missing.csv\n")


def test_predict_needs_its_files(work, capsys):
    assert run(["--input", "a.csv"], capsys, "predict")[0] == 2
    code, said = run(["--input", "a.csv", "--output", "b.csv"], capsys, "predict")
    assert (code, said) == (2, "error: --input a.csv does not exist\n")


# ---------------------------------------------------------------- resuming


@pytest.fixture
def folder(work):
    """A run with a configuration."""
    run = Run.create("forecasting", Path("elsewhere"), None)
    run.save_config(yaml.safe_dump({"seed": 3, "train": {"lr": 0.5, "steps": 7}, "model": {"blocks": 2}}))
    return run.folder


@pytest.mark.parametrize(
    "form",
    [
        "--resume {id} --output elsewhere",
        "--resume={id} --output=elsewhere",
        "--output elsewhere --resume last",
        "--output=elsewhere --resume=last",
        "--resume {folder}",
    ],
)
def test_resume_finds_the_run_and_its_configuration(form, folder):
    argv = form.format(id=folder.name, folder=folder).split()
    config, resume = _parse(TASK, "train", [*argv, "--train.lr", "0.25"])
    assert Path(resume).absolute() == folder
    assert (config.seed, config.train.steps, config.train.lr) == (3, 7, 0.25)
    assert (config.model.blocks, config.model.width) == (2, 512), "the default file does not apply"


def test_resume_of_an_unknown_run_names_the_nearest(folder):
    wrong = folder.name[:-1] + "x"
    with pytest.raises(TrackingError, match=f"Did you mean '{folder.name}'"):
        _parse(TASK, "train", ["--output", "elsewhere", "--resume", wrong])


def test_a_stopped_run_resumes_to_the_same_result(small, work, capsys, stop_after):
    """SIGTERM in the second of two sessions of a run, through the real commands."""
    small = [*small, "--tracking=none", "--train.ema=0.5"]
    assert run([*small, "--output=whole"], capsys)[0] == 0

    with stop_after(4):
        code, said = run([*small, "--output=stopped"], capsys)
    (stopped,) = (work / "stopped" / "forecasting").iterdir()
    assert code == 130
    assert said == (
        f"error: stopped by SIGTERM after step 4 of 6, checkpoint written; continue with --resume {stopped}\n"
    )
    assert json.loads((stopped / "run.json").read_text())["status"] == "KILLED"
    assert not (stopped / "package").exists()

    assert run(["--output=stopped", "--resume=last"], capsys)[0] == 0
    (whole,) = (work / "whole" / "forecasting").iterdir()
    assert json.loads((stopped / "run.json").read_text())["status"] == "FINISHED"
    for name in ("samples.csv", "package/weights.safetensors"):
        assert (stopped / name).read_bytes() == (whole / name).read_bytes()


# ---------------------------------------------------------------- the time budget


def test_parts_share_the_time_budget_by_their_steps(tmp_path, monkeypatch):
    """40 s for 10 and 30 steps: 10 s for the first, which takes 4, and the 36 that are left for the other."""
    import torch
    from rich.console import Console

    from core.commands import train

    clock, limits = [100.0], []

    class Fake:
        def __init__(self, *args, deadline, **options):
            limits.append(deadline - clock[0])

        def fit(self):
            clock[0] += 4
            return SimpleNamespace(reason="finished", steps=1)

    monkeypatch.setattr(train, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    monkeypatch.setattr(train, "Trainer", Fake)
    parts = [SimpleNamespace(name=name, learner=torch.nn.Linear(1, 1), source=None) for name in "ab"]
    train._fit(
        parts,
        SimpleNamespace(seed=0, train=TrainConfig(max_time="40s")),
        SimpleNamespace(checkpoints=tmp_path),
        Console(quiet=True),
        steps={"a": 10, "b": 30},
        device=torch.device("cpu"),
        dtype=torch.float32,
    )
    assert limits == pytest.approx([10, 36])


def test_a_reader_that_has_had_enough_is_no_error():
    """As with `| head`: no traceback, and the exit code of a broken pipe."""
    code = (
        "import sys; from core.cli import with_one_line_errors as run; "
        "sys.exit(run(lambda argv: print('x' * 1_000_000) or sys.stdout.flush() or 0, []))"
    )
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env
    )
    process.stdout.read(10)
    process.stdout.close()
    assert process.stderr.read() == b"" and process.wait() == 141
    process.stderr.close()
