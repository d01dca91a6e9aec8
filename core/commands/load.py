"""Finds the model that a command uses."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import NoModelError, PackageError, SkipwayError
from core.track.package import Package, load_package
from core.track.resolve import fetch
from core.track.store import resolve_uri

if TYPE_CHECKING:
    from rich.console import Console

    from core.task import Task


def load_predictor(task: Task, config: Any, console: Console) -> tuple[Package, Any]:
    """Returns the package of ``config.model`` and its predictor.

    By default that is the task's champion, or, where there is none, the first model that comes with the package.

    Raises:
        PackageError: The package is damaged or of another task.
        TrackingError: The registry has no such model or cannot be reached.
    """
    uri = resolve_uri(config.tracking)
    where = config.model or f"models:/{task.registered_name}@champion"
    said = where
    try:
        package = find_package(task, where, uri)
    except NoModelError as error:
        if config.model or not task.bundled:
            raise
        where = next(iter(task.bundled))
        package = find_package(task, where, uri)
        said = f"{where}, which comes with skipway ({task.bundled[where]})\n           no champion: {error}"
    console.print(f"model      {said}", markup=False, soft_wrap=True)
    with rebuilding(package):
        return package, task.predictor(package)


@contextmanager
def rebuilding(package: Package) -> Iterator[None]:
    """Takes what goes wrong while a model is made from a package for a fault of the package.

    Whoever writes other values into its JSON files can write the digests too, and models check no settings that no
    training gives.

    Raises:
        PackageError: The settings lack something, or describe no model.
    """
    try:
        yield
    except (SkipwayError, OSError, MemoryError):
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise PackageError(
            f"{package.folder} holds no {package.task} model as it is saved here ({type(error).__name__}: {reason}); "
            "copy the package again, or train anew"
        ) from error


def find_package(task: Task, where: str, uri: str | None) -> Package:
    """Returns the checked package of a model of this task.

    Args:
        task: The task.
        where: What :func:`core.track.resolve.fetch` takes, or the name of a model that comes with the task.
        uri: Address of the tracking store.

    Raises:
        PackageError: The package is missing, damaged or of another task.
        TrackingError: The registry has no such model or cannot be reached.
    """
    package = load_package(bundled_folder(task, where) if where in task.bundled else fetch(where, uri))
    if package.task != task.name:
        raise PackageError(f"{where} is a model of the task {package.task}, not of {task.name}")
    return package


def bundled_folder(task: Task, name: str) -> Path:
    """Returns the folder of a model that comes with the task."""
    return Path(importlib.import_module(f"tasks.{task.name}").__path__[0]) / "weights" / name
