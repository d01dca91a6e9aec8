"""Logs a package to MLflow as a pyfunc made from code, with signature, example and pinned requirements."""

from __future__ import annotations

import importlib.metadata
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from core.task import Task
from core.track.environment import installed
from core.track.package import Package

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric

MODEL_NAME = "model"
"""Name of the logged model within its run: ``runs:/<id>/model``."""
SERVE_FILE = Path(__file__).with_name("serve_model.py")

_DIGEST_TAG = "skipway.package"
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


def log_package(
    client: MlflowClient,
    package: Package,
    task: Task,
    mlflow_run_id: str,
    *,
    digest: str,
    scores: Sequence[Metric],
) -> str:
    """Logs a package into a run and returns the logged model's id.

    ``mlflow.pyfunc.log_model`` asks for the history of every metric of the run, one request each, and begins
    another model after a failure. Here the caller gives the scores, and a model of the same package is finished.

    Args:
        client: Client of the current tracking store.
        package: The package.
        task: Its task.
        mlflow_run_id: The run.
        digest: Digest of its weights and configuration, by which it is found again.
        scores: Metrics of the run that the page of the model shows too.
    """
    with warnings.catch_warnings():
        # MLflow warns about type hints of its own classes when it imports them.
        warnings.filterwarnings("ignore", message=".*Any type hint is inferred as AnyType")
        import mlflow.pyfunc
    from mlflow.entities import LoggedModelOutput, LoggedModelStatus, Metric
    from mlflow.models import Model, infer_signature

    run = client.get_run(mlflow_run_id)
    mine = f"source_run_id = '{mlflow_run_id}' AND tags.`{_DIGEST_TAG}` = '{digest}'"
    found = client.search_logged_models([run.info.experiment_id], filter_string=mine)
    ready = [model.model_id for model in found if model.status == LoggedModelStatus.READY]
    if ready:
        return str(ready[0])
    model = (
        found[0]
        if found
        else client.create_logged_model(
            run.info.experiment_id, MODEL_NAME, mlflow_run_id, {_DIGEST_TAG: digest}, run.data.params
        )
    )
    ident = str(model.model_id)
    if ident not in {output.model_id for output in (run.outputs.model_outputs if run.outputs else ())}:
        client.log_outputs(mlflow_run_id, [LoggedModelOutput(ident, step=0)])
    known = {(m.key, m.timestamp, m.step) for m in model.metrics or ()}
    new = [
        Metric(m.key, m.value, m.timestamp, m.step, model_id=ident, run_id=mlflow_run_id)
        for m in scores
        if (m.key, m.timestamp, m.step) not in known
    ]
    if new:  # MLflow refuses more than 100 scores of a model if it has some of them
        client.log_batch(mlflow_run_id, new)
    predictor = task.predictor(package)
    frame, params = task.example(predictor)
    signature = infer_signature(frame, task.serve(predictor, frame, params), params=params or None)
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / MODEL_NAME)
        mlflow.pyfunc.save_model(
            path,
            mlflow_model=Model(
                artifact_path=model.artifact_location,
                run_id=mlflow_run_id,
                model_uuid=ident,
                model_id=ident,
                metadata={"skipway": package.metadata["skipway_version"], "task": package.task},
            ),
            python_model=str(SERVE_FILE),
            artifacts={"package": str(package.folder)},
            signature=signature,
            input_example=(frame, params) if params else frame,
            pip_requirements=requirements(package.task),
        )
        client.log_model_artifacts(ident, path)
    client.finalize_logged_model(ident, LoggedModelStatus.READY)
    return ident
