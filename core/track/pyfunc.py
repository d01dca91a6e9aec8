"""Logs a package to MLflow as a pyfunc made from code, with signature, example and pinned requirements."""

from __future__ import annotations

import importlib.metadata
import warnings
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from core.task import Task
from core.track.environment import installed
from core.track.package import Package

MODEL_NAME = "model"
"""Name of the logged model within its run: ``runs:/<id>/model``."""
SERVE_FILE = Path(__file__).with_name("serve_model.py")

_ALWAYS = ("mlflow", "numpy", "pandas", "safetensors", "torch")


def requirements(task: str) -> list[str]:
    """Returns pins of the installed versions that a served model needs.

    They are the common libraries and those of skipway's extra with the task's name. Giving them saves MLflow
    a search that takes 20 s and more. Skipway itself is not among them: it is installed where the model is
    served.
    """
    names = set(_ALWAYS)
    try:
        declared = importlib.metadata.requires("skipway") or []
    except importlib.metadata.PackageNotFoundError:  # run from a checkout that is not installed
        declared = []
    for text in declared:
        requirement = Requirement(text)
        marker = requirement.marker
        if requirement.name == "skipway" or marker is None or marker.evaluate({"extra": ""}):
            continue
        if marker.evaluate({"extra": canonicalize_name(task)}):  # the marker normalises its own side
            names.add(requirement.name)
    versions = {name: installed(name) for name in sorted(names)}
    # A local part such as +cpu names a build that indexes do not carry.
    return [
        f"{name}=={version.split('+')[0]}" for name, version in versions.items() if version != "not installed"
    ]


def log_package(package: Package, task: Task, mlflow_run_id: str) -> str:
    """Logs a package into a run of the current tracking store and returns the logged model's id.

    The run's status becomes FINISHED by this; the caller sets the one it wants.
    """
    with warnings.catch_warnings():
        # MLflow warns about type hints of its own classes when it imports them.
        warnings.filterwarnings("ignore", message=".*Any type hint is inferred as AnyType")
        import mlflow.pyfunc
    from mlflow.models import infer_signature

    predictor = task.predictor(package)
    frame, params = task.example(predictor)
    signature = infer_signature(frame, task.serve(predictor, frame, params), params=params or None)
    with mlflow.start_run(run_id=mlflow_run_id, log_system_metrics=False):
        info = mlflow.pyfunc.log_model(
            name=MODEL_NAME,
            python_model=str(SERVE_FILE),
            artifacts={"package": str(package.folder)},
            signature=signature,
            input_example=(frame, params) if params else frame,
            pip_requirements=requirements(package.task),
            metadata={"skipway": package.metadata["skipway_version"], "task": package.task},
        )
    return info.model_id
