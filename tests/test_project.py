"""What holds for the repository as a whole."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PYTHON = [
    path for folder in ("core", "tasks", "benchmarks") for path in sorted((ROOT / folder).rglob("*.py"))
]


def names(path):
    return str(path.relative_to(ROOT))


def imported(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


@pytest.mark.parametrize("path", PYTHON, ids=names)
def test_directions_of_import(path):
    """core never imports tasks, and a task never imports another."""
    folder, *rest = path.relative_to(ROOT).parts
    for name in imported(path):
        if folder == "core":
            assert name.split(".")[0] != "tasks", f"{path} imports {name}"
        if folder == "tasks" and len(rest) > 1 and name.startswith("tasks."):
            assert name.split(".")[1] == rest[0], f"{path} imports {name}"


@pytest.mark.parametrize("path", PYTHON, ids=names)
def test_public_functions_have_a_docstring_and_a_return_type(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 500
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert ast.get_docstring(tree) or not tree.body, f"{path} says nothing about itself"
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"{path}:{node.lineno} {node.name}"
            assert node.returns is not None, f"{path}:{node.lineno} {node.name}"


def test_the_mlflow_folder_holds_no_python():
    """A module there would hide the library `mlflow` from everything that runs in the repository's root."""
    assert (ROOT / "mlflow").is_dir() and not list((ROOT / "mlflow").rglob("*.py"))
    code = "import mlflow; assert mlflow.start_run"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_the_wheel_holds_core_and_tasks_alone():
    from setuptools import find_packages

    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    packed = find_packages(str(ROOT), include=settings["packages"]["find"]["include"])
    assert {name.split(".")[0] for name in packed} == {"core", "tasks"}
    folders = {str(path.parent.relative_to(ROOT)).replace("/", ".") for path in PYTHON}
    assert {f for f in folders if not f.startswith("benchmarks")} == set(packed), "a folder lacks __init__.py"


def test_every_dependency_is_pinned_and_no_file_names_an_index():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8").lower().replace("_", "-")
    pinned = {line.split("==")[0] for line in pins.splitlines()}
    from packaging.requirements import Requirement

    declared = project["dependencies"] + [
        r for extra in project["optional-dependencies"].values() for r in extra
    ]
    for text in declared:
        name = Requirement(text).name.lower().replace("_", "-")
        assert name == "skipway" or name in pinned, f"{name} has no version in constraints.txt"
    assert "://" not in pins and "--" not in pins


def test_importing_core_is_light(run_python):
    heavy = "torchvision, monai, timm, segmentation_models_pytorch, torchmetrics, lightning, mlflow, gluonts"
    parts = "core, core.residual, core.backbones, core.compress"
    code = f"import sys, {parts}; print([m for m in '{heavy}'.split(', ') if m in sys.modules])"
    assert run_python(code).strip() == "[]"


def test_doctor_finds_nothing_wrong(run_python):
    code = "from core.doctor import main; raise SystemExit(main())"
    text = run_python(code)
    assert "all that is needed works" in text and "residual rules" in text


def test_the_listing_names_tasks_models_and_rules(run_python):
    text = run_python("import sys; sys.argv[1:] = []; from tasks.__main__ import main; main()")
    for word in ("forecasting", "nbeats_interpretable", "tourism", "orthogonal", "resnet50", "cspnext"):
        assert word in text
