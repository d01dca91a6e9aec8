"""Where a model comes from: what its package and its card say of the run that made it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from core.errors import ConfigError

if TYPE_CHECKING:
    from core.task import Evaluation, Task
    from core.track.folder import Record
    from core.track.package import Package

TRAINING = "training"
"""Entry of the metadata of a run's own package."""
PROVENANCE = "provenance"
"""The same entry of a package that was handed on: its data is elsewhere."""


def provenance(record: Record) -> dict[str, Any]:
    """Returns how a run's model can be made again, and how good it was: run, command, commit, versions, scores."""
    tags = record.tags
    return {
        "run": record.id,
        "command": command_of(record),
        "commit": tags.get("git.commit"),
        "dirty": tags["git.dirty"] == "true" if "git.dirty" in tags else None,
        "seed": tags.get("seed"),
        "versions": {
            name.removeprefix("version."): value
            for name, value in tags.items()
            if name.startswith("version.")
        },
        "scores": {
            name: value
            for name, value in record.metrics.items()
            if name.split("/")[0] in ("test", "baseline")
        },
    }


def command_of(record: Record) -> str:
    """Returns the command line of a run as it is typed: a file of the task packages becomes ``python -m``."""
    program, *words = shlex.split(record.tags.get("command", "train"))
    path = PurePath(program)
    if path.suffix == ".py" and "tasks" in path.parts:
        module = path.with_suffix("").parts
        start = len(module) - 1 - module[::-1].index("tasks")
        name = ".".join(module[start:]).removesuffix(".__main__")
        return shlex.join(["python", "-m", name, *words])
    if path.stem == "train":
        return shlex.join(["python", "-m", f"tasks.{record.task}.train", *words])
    return shlex.join([path.name, *words])


def scores_of(results: Mapping[str, Evaluation]) -> dict[str, float]:
    """Returns the scores under the names that they are logged by: ``test/mape``, ``baseline/theta/mape``.

    Args:
        results: Method to scores, the model under ``"model"``.
    """
    return {
        f"{'test' if method == 'model' else f'baseline/{method}'}/{name}": value
        for method, result in results.items()
        for name, value in result.metrics.items()
    }


def results_of(scores: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """Returns method to metric to value, the model under ``"model"``: the reverse of :func:`scores_of`."""
    results: dict[str, dict[str, float]] = {"model": {}}
    for name, value in scores.items():
        kind, _, rest = name.partition("/")
        method, _, metric = ("model", "", rest) if kind == "test" else rest.partition("/")
        results.setdefault(method, {})[metric] = float(value)  # "nan" is text in JSON
    return results


def count_parameters(task: Task, package: Package, predictor: Any) -> int | None:
    """Returns the number of parameters of all networks of a package; none where there is no network.

    A task that gives no networks has them in its predictor.
    """
    from torch import nn

    try:
        networks = list(task.modules(package).values())
    except ConfigError:
        networks = [value for value in vars(predictor).values() if isinstance(value, nn.Module)]
    return sum(p.numel() for network in networks for p in network.parameters()) or None
