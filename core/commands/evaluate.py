"""``evaluate``: a trained model and the baselines on data, its own or other."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from core.commands.load import load_predictor
from core.commands.results import compare, make_console, print_results
from core.files import make_folder
from core.task import Evaluation, Task
from core.train.hardware import keep_large_allocations


def run(task: Task, config: Any) -> int:
    """Writes metrics.json, samples.csv and figures, and prints the table of results; returns 0."""
    keep_large_allocations()
    console = make_console()
    output = make_folder(Path(config.output), "--output")
    package, predictor = load_predictor(task, config, console)
    trained_on = package.metadata.get("data", {})
    if "config" in trained_on:
        if config.data == type(config.data)():
            config = replace(config, data=type(config.data)(**trained_on["config"]))
            console.print(
                "           no --data given: scored on the data that it was trained for", markup=False
            )
        else:
            config = replace(config, data=_filled(config.data, trained_on["config"], task.trained_for))
    config = _as_trained(config, package.metadata.get("options", {}))
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
        "data": {"name": data.name, "size": data.size, "digest": data.digest},
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


def _filled(given: Any, stored: dict[str, Any], names: tuple[str, ...]) -> Any:
    """Returns ``given`` with the stored values of those options that have their default."""
    default = type(given)()
    left = [name for name in names if name in stored and getattr(given, name) == getattr(default, name)]
    return replace(given, **{name: stored[name] for name in left})


def _as_trained(config: Any, options: dict[str, dict[str, Any]]) -> Any:
    """Returns the configuration with the groups of options that training stored, where none of theirs is given."""
    for name, stored in options.items():
        group = type(getattr(config, name))
        if getattr(config, name) == group():
            config = replace(config, **{name: group(**stored)})
    return config
