from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from core.track.promotion import load_policy

ROOT = Path(__file__).resolve().parents[3]


def test_the_settings_folder_holds_no_python():
    assert (ROOT / "mlflow" / "README.md").exists()
    assert not list((ROOT / "mlflow").rglob("*.py"))
    # From the repository root, `import mlflow` must find the library.
    code = "import importlib.util; print(importlib.util.find_spec('mlflow').origin)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("__init__.py")


def test_mlflow_projects_install_what_the_package_declares():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    tasks = yaml.safe_load((ROOT / "MLproject").read_text())["entry_points"]
    declared = {*project["dependencies"]}.union(*(project["optional-dependencies"][task] for task in tasks))
    assert set(yaml.safe_load((ROOT / "mlflow" / "python_env.yaml").read_text())["dependencies"]) == declared


def test_every_entry_point_is_a_task_with_files_that_exist():
    points = yaml.safe_load((ROOT / "MLproject").read_text())["entry_points"]
    for name, point in points.items():
        assert (ROOT / "tasks" / name / "task.py").exists()
        assert (ROOT / point["parameters"]["config"]["default"]).exists()
        assert f"-m tasks.{name}.train" in point["command"]


@pytest.mark.parametrize("task", yaml.safe_load((ROOT / "mlflow" / "registry.yaml").read_text()))
def test_every_policy_can_be_read(task, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load_policy(task).promote == "if-better"
    assert (ROOT / "tasks" / task).is_dir()


def test_the_server_needs_every_password():
    compose = (ROOT / "mlflow" / "server" / "compose.yaml").read_text()
    settings = (ROOT / "mlflow" / "server" / "env.example").read_text()
    command = yaml.safe_load(compose)["services"]["mlflow"]["command"]
    assert "--app-name=basic-auth" in command
    for name in ("POSTGRES_PASSWORD", "MLFLOW_FLASK_SERVER_SECRET_KEY", "MLFLOW_AUTH_ADMIN_PASSWORD"):
        assert f"${{{name}:?" in compose
        assert f"{name}=" in settings
