"""The model card: ``README.md`` of a package, with the front matter that model hubs read.

It is made of the package's metadata alone, so that a package which was handed on, or lies in a registry, has the card
of the run that made it. What the metadata does not hold is left out.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from core.commands.results import Comparison, compare
from core.task import Evaluation
from core.track.folder import write_atomic
from core.track.package import CARD, WEIGHTS, Package, add_metadata
from core.track.provenance import (
    PROVENANCE,
    TRAINING,
    count_parameters,
    provenance,
    results_of,
    scores_of,
)
from core.track.schema import schema_of, text_of

if TYPE_CHECKING:
    from core.task import Task
    from core.track.folder import Record
    from core.track.run import Run

SPLITS = frozenset(
    {
        *("test", "validation", "fold", "folds", "split", "splits", "holdout"),
        *("speaker", "patient", "subject", "group", "scene"),
    }
)
"""Words in the names of options of the data that say what was held out."""


def describe(
    package: Package,
    task: Task,
    predictor: Any,
    run: Run,
    metric: str,
    results: Mapping[str, Evaluation],
    notes: list[str],
) -> Package:
    """Puts origin, scores and schema of a run's model into its package, and writes the card there.

    Args:
        package: Package of the run.
        task: Its task.
        predictor: The model that was read from it.
        run: The run; its folder gets the card too.
        metric: Primary metric.
        results: Method to scores, the model under ``"model"``.
        notes: What was assumed about data and model, one line each.
    """
    training = provenance(run.record) | {
        "metric": metric,
        "scores": scores_of(results),
        "notes": notes,
    }
    known = {"parameters": count_parameters(task, package, predictor), "schema": schema_of(task, predictor)}
    package = add_metadata(package, {TRAINING: training, **known})
    write_card(package, task, package.folder, run.folder)
    return package


def completed(package: Package, task: Task, record: Record | None = None) -> Package:
    """Returns a package with what one of an earlier version lacks; nothing is written.

    Args:
        package: The package.
        task: Its task.
        record: The run that made it, where it is at hand.
    """
    metadata = dict(package.metadata)
    if "schema" not in metadata:
        predictor = task.predictor(package)
        metadata["parameters"] = count_parameters(task, package, predictor)
        metadata["schema"] = schema_of(task, predictor)
    if record is not None and not {TRAINING, PROVENANCE} & metadata.keys():
        metric = record.registration["score"]["metric"] if record.registration else None
        metadata[TRAINING] = provenance(record) | {"metric": metric}
    return replace(package, metadata=metadata)


def write_card(package: Package, task: Task, *folders: Path) -> None:
    """Writes the card of a package into folders, as ``README.md``."""
    text = card_of(package, task)
    for folder in folders:
        write_atomic(folder / CARD, text)


def card_of(package: Package, task: Task) -> str:
    """Returns the card of a package as Markdown with YAML front matter.

    Args:
        package: The package.
        task: Its task.
    """
    metadata = package.metadata
    origin = metadata.get(PROVENANCE) or metadata.get(TRAINING) or {}
    results = results_of(origin.get("scores", {}))
    comparisons = _comparisons(task, results, origin.get("metric"))
    sections = [
        _front_matter(package, task, results, origin.get("metric")),
        f"# {task.registered_name}",
        f"{task.summary[0].upper()}{task.summary[1:]}.",
        _section("Model", _facts(_model(package, task))),
        _section("Data", _facts(_data(metadata.get("data", {})))),
        _section("Results on held-out data", *_results(task, results, comparisons)),
        _section("Training", *_training(origin, metadata)),
        _section("Input and output", *_schema(metadata)),
        _section("Use", *_use(package, task)),
        _section("Limits", *_limits(task, metadata, origin, comparisons)),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _section(title: str, *parts: str) -> str:
    text = "\n\n".join(part for part in parts if part)
    return f"## {title}\n\n{text}" if text else ""


def _table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [list(header), *(list(row) for row in rows)]
    if len(lines) == 1:
        return ""
    lines.insert(1, ["---"] * len(lines[0]))
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def _facts(values: Mapping[str, Any]) -> str:
    return _table(
        ("", ""), ([name, str(value)] for name, value in values.items() if value not in (None, "", []))
    )


def _model_name(package: Package) -> str | None:
    model = package.config.get("model")
    return model.get("name") if isinstance(model, dict) else None


def _front_matter(
    package: Package, task: Task, results: Mapping[str, Mapping[str, float]], metric: str | None
) -> str:
    data = package.metadata.get("data", {}).get("name")
    name = _model_name(package)
    front: dict[str, Any] = {
        "library_name": "skipway",
        "tags": [tag for tag in ("skipway", task.name, name) if tag],
    }
    names = [metric] if metric else sorted({key for key in results["model"] if "/" not in key})
    values = {
        key: results["model"][key] for key in names if math.isfinite(results["model"].get(key, math.nan))
    }
    if values:
        front["metrics"] = list(values)
    if values and data:
        found = {
            "task": {"type": task.name},
            "dataset": {"type": data, "name": data},
            "metrics": [{"type": key, "value": value} for key, value in values.items()],
        }
        front["model-index"] = [{"name": task.registered_name, "results": [found]}]
    return f"---\n{yaml.safe_dump(front, sort_keys=False, allow_unicode=True)}---"


def _model(package: Package, task: Task) -> dict[str, Any]:
    metadata = package.metadata
    count = metadata.get("parameters")
    classes = metadata.get("classes")
    return {
        "task": f"`{task.name}`",
        "model": f"`{name}`" if (name := _model_name(package)) else None,
        "parameters": f"{count:,}" if count else None,
        "weights": f"{WEIGHTS}, {(package.folder / WEIGHTS).stat().st_size / 1e6:.3g} MB",
        "classes": ", ".join(map(str, classes)) if classes else None,
        "made": f"{metadata['created']} with skipway {metadata['skipway_version']}",
    }


def _data(data: Mapping[str, Any]) -> dict[str, Any]:
    options = data.get("config", {})
    held_out = [
        f"`{name} {value}`"
        for name, value in options.items()
        if SPLITS.intersection(name.split("_")) and value not in (None, 0, 0.0, [], "")
    ]
    return {
        "name": data.get("name"),
        "samples": f"{data['size']:,}" if "size" in data else None,
        "SHA-256 of content and split": f"`{data['digest']}`" if "digest" in data else None,
        "split": ", ".join(held_out),
    }


def _comparisons(
    task: Task, results: Mapping[str, Mapping[str, float]], metric: str | None
) -> list[Comparison]:
    if metric is None or metric not in results["model"]:
        return []
    scored = {method: Evaluation(dict(values)) for method, values in results.items()}
    return compare(scored, metric, task.higher_is_better, task.unit)


def _results(
    task: Task, results: Mapping[str, Mapping[str, float]], comparisons: list[Comparison]
) -> Iterable[str]:
    methods = [task.title, *(method for method in results if method != "model")]
    if comparisons:
        how = "higher" if task.higher_is_better else "lower"
        unit = f", in {task.unit}" if task.unit == "dB" else ""
        yield f"`{comparisons[-1].name}` decides about promotion; {how} is better{unit}."
        yield _table(
            ("metric", *methods, "against the best baseline"),
            (
                [row.name, *_values(row.name, results), f"{row.difference} ({row.best})" if row.best else ""]
                for row in comparisons
            ),
        )
    done = {row.name for row in comparisons}
    others = [name for name in results["model"] if name not in done]
    if others:
        yield "Other metrics:" if comparisons else ""
        yield _table(("metric", *methods), ([name, *_values(name, results)] for name in others))


def _values(name: str, results: Mapping[str, Mapping[str, float]]) -> list[str]:
    return [f"{values[name]:.4g}" if name in values else "" for values in results.values()]


def _training(origin: Mapping[str, Any], metadata: Mapping[str, Any]) -> Iterable[str]:
    if "command" not in origin:
        return
    yield f"```\n{origin['command']}\n```"
    versions = origin.get("versions") or {"torch": origin.get("torch")}
    commit, dirty = origin.get("commit"), origin.get("dirty")
    yield _facts(
        {
            "run": origin.get("run"),
            "commit": commit and f"`{commit}`{', with changes that are in no commit' if dirty else ''}",
            "seed": origin.get("seed"),
            "versions": ", ".join(f"{name} {version}" for name, version in versions.items() if version),
        }
    )
    if TRAINING in metadata:
        yield "`--config config.yaml`, the resolved configuration of the run, repeats it on the same data."


def _schema(metadata: Mapping[str, Any]) -> Iterable[str]:
    for name in ("input", "output", "normalisation"):
        if isinstance(metadata.get(name), str):
            yield f"{name.capitalize()} of the model: {metadata[name]}."
    schema = metadata.get("schema")
    if schema is None:
        return
    yield "A request and its answer are tables with these columns:"
    yield _table(
        ("", "name", "type", "default"),
        [
            *(("input", f"`{name}`", kind, "") for name, kind in schema["input"].items()),
            *(
                ("parameter", f"`{name}`", entry["type"], f"`{entry['default']!r}`")
                for name, entry in schema["params"].items()
            ),
            *(("output", f"`{name}`", kind, "") for name, kind in schema["output"].items()),
        ],
    )


def _use(package: Package, task: Task) -> Iterable[str]:
    yield "With skipway installed, and this folder as `model`:"
    yield f"```\npython -m tasks.{task.name}.predict --model model --input FILE --output RESULT\n```"
    schema = package.metadata.get("schema")
    if schema is None:
        return
    params = {name: entry["default"] for name, entry in schema["params"].items()}
    given = f", params={params!r}" if params else ""
    address = f"models:/{task.registered_name}@champion"
    yield "From the registry, `frame` being a table as above:"
    yield (
        f'```python\nimport mlflow\n\nmodel = mlflow.pyfunc.load_model("{address}")\n'
        f"model.predict(frame{given})\n```"
    )
    yield "Over HTTP; the last command sends a whole example of the body that is cut here:"
    yield f"```json\n{text_of(schema['example'])}\n```"
    yield (
        f"```\nmlflow models serve -m {address} --env-manager local --port 8080\n"
        f"python -m core.track example {address} > body.json\n"
        "curl -d @body.json -H 'Content-Type: application/json' http://localhost:8080/invocations\n```"
    )


def _limits(
    task: Task, metadata: Mapping[str, Any], origin: Mapping[str, Any], comparisons: list[Comparison]
) -> Iterable[str]:
    lines = []
    for row in comparisons:
        if row.best and not row.gain > 0:
            how = "better" if row.gain < 0 else "as good"
            lines.append(f"**{row.name}: the baseline {row.best} is {how}: {row.difference}.**")
    lines += task.limits
    if "base" in metadata:
        lines.append("Weights are stored as a difference; the scores are those of the model before that.")
    if origin.get("dirty"):
        lines.append("It was trained with changes that are in no commit: nobody can repeat it exactly.")
    lines += origin.get("notes", [])
    if metadata.get("data"):
        lines.append(
            f"It was trained and tested on {metadata['data']['name']}; on other data its scores are unknown."
        )
    return ["\n".join(f"- {line}" for line in lines)]
