"""``evaluate``: a trained model and the baselines on data, its own or other."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from core.commands.load import load_predictor
from core.commands.results import compare, make_console, print_results
from core.errors import ConfigError
from core.files import make_folder
from core.task import Evaluation, Task, data_record
from core.track.package import Package
from core.train.hardware import keep_large_allocations

SOURCES = ("name", "path", "test_path")
"""Options of ``data`` that name other data than the training's."""


def run(task: Task, config: Any) -> int:
    """Writes metrics.json, samples.csv and figures, and prints the table of results; returns 0."""
    keep_large_allocations()
    console = make_console()
    output = make_folder(Path(config.output), "--output")
    package, predictor = load_predictor(task, config, console)
    trained_on = package.metadata.get("data", {})
    config, taken = as_trained(task, config, package)
    if taken:
        console.print(f"           as in training: {', '.join(taken)}", markup=False)
    data = task.load(config)
    metric = task.primary_metric(config, data)
    console.print(f"data       {data.name}: {data.size} samples, digest {data.digest[:12]}", markup=False)
    if trained_on and trained_on.get("digest") != data.digest:
        console.print(f"           the model was trained on {trained_on.get('name')}: this is other data")
    for note in data.notes:
        console.print(f"           {note}", markup=False)
    with console.status("testing and scoring the baselines"):
        results: dict[str, Evaluation] = {"model": task.evaluate(predictor, config, data)}
        results |= task.baselines(config, data)
    rows = compare(results, metric, task.higher_is_better, task.unit)
    record = {
        "model": str(package.folder),
        "data": data_record(data),
        "metrics": {method: result.metrics for method, result in results.items()},
    }
    (output / "metrics.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    if (samples := results["model"].rows) is not None:
        samples.to_csv(output / "samples.csv", index=False)
    for name, figure in task.figures(predictor, config, data, results):
        figure.savefig(output / f"{name}.png", dpi=120, bbox_inches="tight")
    print_results(console, rows, results, f"{task.title} on {data.name}, held-out data", task.title)
    console.print(f"written    {output}: metrics.json, samples.csv, figures", markup=False, soft_wrap=True)
    return 0


def as_trained(task: Task, config: Any, package: Package) -> tuple[Any, list[str]]:
    """Fills what the user did not set with what the model was trained with.

    Data that the user names is scored with the options of ``task.trained_for``. Without a name or a path, or with those
    of the training, it is the data of the training, with whatever options the user set. Other groups of options, such
    as the protocol, are those of the training.

    Returns:
        The configuration, and what was taken over in words: options whose value is not the default.
    """
    groups = dict(package.metadata.get("options", {}))
    data = package.metadata.get("data", {}).get("config")
    if data is not None:
        given = [name for name in SOURCES if f"data.{name}" in config.given]
        # Of a model that was handed on the names of folders are left, which say nothing here.
        handed_on = "provenance" in package.metadata
        if handed_on and not given:
            raise ConfigError("this model comes without its data; give --data.test_path or --data.path")
        named = any(handed_on or not _same(getattr(config.data, name), data.get(name)) for name in given)
        groups["data"] = {k: v for k, v in data.items() if not named or k in task.trained_for}
    taken: list[str] = []
    for group, stored in groups.items():
        own = getattr(config, group)
        left = {k: v for k, v in stored.items() if f"{group}.{k}" not in config.given}
        default = type(own)()
        taken += [f"{group}.{k} {v}" for k, v in left.items() if v != getattr(default, k)]
        config = replace(config, **{group: replace(own, **left)})
    return config, taken


def _same(given: Any, stored: Any) -> bool:
    """Whether two names, paths or lists of paths are the same."""
    if isinstance(given, list) and isinstance(stored, list):
        return len(given) == len(stored) and all(map(_same, given, stored))
    if isinstance(given, str) and isinstance(stored, str):
        return given == stored or Path(given).resolve() == Path(stored).resolve()
    return given == stored
