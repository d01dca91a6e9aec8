"""Finds the model that a command uses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from core.errors import PackageError
from core.track.package import load_package
from core.track.resolve import fetch
from core.track.store import resolve_uri

if TYPE_CHECKING:
    from rich.console import Console

    from core.task import Task
    from core.track.package import Package


def load_predictor(task: Task, config: Any, console: Console) -> tuple[Package, Any]:
    """Returns the package of ``config.model``, the task's champion by default, and its predictor.

    Raises:
        PackageError: The package is damaged or of another task.
        TrackingError: The registry has no such model or cannot be reached.
    """
    where = config.model or f"models:/{task.registered_name}@champion"
    package = load_package(fetch(where, resolve_uri(config.tracking)))
    if package.task != task.name:
        raise PackageError(f"{where} is a model of the task {package.task}, not of {task.name}")
    console.print(f"model      {where}", markup=False, soft_wrap=True)
    return package, task.predictor(package)
