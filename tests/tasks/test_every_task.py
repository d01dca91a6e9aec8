"""What holds for all tasks: one shape, one set of commands, one way of refusing."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest
import yaml
from commands import run_command

from core.task import load_task
from tasks.__main__ import task_names

ROOT = Path(__file__).resolve().parents[2]
TASKS = task_names()
CHOOSING = [
    name for name in TASKS if hasattr(getattr(load_task(name).evaluate_class(), "scoring", None), "baselines")
]
"""Tasks whose baselines are an option."""
MODULES = [
    "build",
    "config",
    "evaluate",
    "export",
    "figures",
    "predict",
    "scoring",
    "serving",
    "task",
    "train",
]


def test_the_eight_tasks_are_listed():
    assert sorted(TASKS) == [
        *("csi", "denoising", "detection", "ecg", "forecasting", "segmentation", "speech", "super_resolution")
    ]


@pytest.mark.parametrize("name", TASKS)
def test_a_newcomer_finds_the_same_files_in_every_task(name):
    folder = ROOT / "tasks" / name
    for module in MODULES:
        assert (folder / f"{module}.py").is_file(), f"{name} has no {module}.py"
    assert (folder / "models").is_dir() and (folder / "README.md").is_file()
    assert (folder / "data.py").is_file() or (folder / "data").is_dir()
    assert (folder / "configs" / "default.yaml").is_file()
    assert (ROOT / "tests" / "tasks" / name / "test_task.py").is_file()


@pytest.mark.parametrize("name", TASKS)
def test_one_word_names_a_task_in_every_place(name):
    task = load_task(name)
    assert task.name == name and task.registered_name == f"skipway-{name}"
    assert name in yaml.safe_load((ROOT / "mlflow" / "registry.yaml").read_text())
    assert name in yaml.safe_load((ROOT / "MLproject").read_text())["entry_points"]
    assert f"tasks/{name}/README.md" in (ROOT / "README.md").read_text()


@pytest.mark.parametrize("name", TASKS)
def test_every_model_has_a_residual_rule(name):
    """One option changes the rule in any task."""
    models = load_task(name).models
    for model in models:
        options = {field.name for field in fields(models[model])}
        assert {"rule", "rule_options"} <= options, f"{name}: {model}"


@pytest.mark.parametrize("command", ["train", "evaluate"])
@pytest.mark.parametrize("name", CHOOSING)
def test_a_result_never_stands_alone(name, command, work, capsys):
    task = load_task(name)
    code, _, said = run_command(task, command, ["--scoring.baselines=[]"], capsys)
    assert (code, said) == (
        2,
        "error: --scoring.baselines is empty: no result stands alone; name one or more (see --help)\n",
    )
