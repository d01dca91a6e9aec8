"""What a report says beside the record of its run: ``report.json``, from which it can be written again."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from core.commands.results import Comparison, compare
from core.errors import ConfigError, TrackingError
from core.task import Evaluation, load_task
from core.track.folder import Record, finite, write_atomic

SUMMARY = "report.json"


@dataclass
class Summary:
    """Content of ``report.json``.

    Attributes:
        title: Heading, ``nbeats_generic on tourism``.
        model: Heading of the model's column.
        data: ``name``, ``size`` in samples and ``digest``.
        higher_is_better: Direction of the primary metric.
        rows: The primary metric against the baselines, the whole set last.
        metrics: Method to all its metrics, the model under ``"model"``.
        notes: What was assumed about data and model, one line each.
    """

    title: str
    model: str
    data: dict[str, Any]
    higher_is_better: bool
    rows: list[Comparison]
    metrics: dict[str, dict[str, float]]
    notes: list[str]

    @property
    def direction(self) -> str:
        """``higher is better`` or ``lower is better``."""
        return f"{'higher' if self.higher_is_better else 'lower'} is better"


def verdict(row: Comparison) -> tuple[str, str]:
    """Returns ``better``, ``worse``, ``equal`` or ``none``, and the comparison with the best baseline in words."""
    if row.best is None:
        return "none", "no baseline"
    if math.isnan(row.gain):
        return "none", f"not comparable with {row.best}"
    if row.gain == 0:
        return "equal", f"equal to {row.best}"
    word = "better" if row.gain > 0 else "worse"
    return word, f"{row.difference}, {word} than {row.best}"


def write_summary(folder: Path, summary: Summary) -> None:
    """Writes ``report.json`` into a run's folder, as strict JSON."""
    text = json.dumps(finite(asdict(summary)), indent=2, allow_nan=False)
    write_atomic(folder / SUMMARY, text + "\n")


def read_summary(folder: Path) -> Summary | None:
    """Reads ``report.json``; None where there is none.

    Raises:
        TrackingError: It is damaged.
    """
    path = folder / SUMMARY
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        rows = [
            Comparison(**row | {"values": _numbers(row["values"]), "gain": float(row["gain"])})
            for row in content.pop("rows")
        ]
        metrics = {method: _numbers(values) for method, values in content.pop("metrics").items()}
        return Summary(**content, rows=rows, metrics=metrics)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise TrackingError(f"{path} cannot be read as the summary of a run: {error}") from None


def summary_of_record(record: Record) -> Summary | None:
    """Returns what the record of a run says by itself, for runs without ``report.json``; None if it has no score."""
    score = (record.registration or {}).get("score")
    if score is None:
        return None
    metrics: dict[str, dict[str, float]] = {"model": {}}
    for name, value in _numbers(record.metrics).items():
        kind, _, rest = name.partition("/")
        method, _, metric = rest.partition("/")
        if kind == "test":
            metrics["model"][rest] = value
        elif kind == "baseline":
            metrics.setdefault(method, {})[metric] = value
    model, unit = record.task, ""
    try:
        task = load_task(record.task).variant(record.params.get("objective"))
        model, unit = task.title, task.unit
    except ConfigError:
        pass  # a run of another installation is shown under the task's name
    higher = bool(score["higher_is_better"])
    results = {method: Evaluation(values) for method, values in metrics.items()}
    data = record.datasets[0] if record.datasets else {"name": "unknown data", "size": 0, "digest": ""}
    rows = compare(results, score["metric"], higher, unit)
    name = record.params.get("model.name", model)
    return Summary(f"{name} on {data['name']}", model, data, higher, rows, metrics, [])


def _numbers(values: dict[str, Any]) -> dict[str, float]:
    """Strict JSON has nan and the infinite numbers as strings."""
    return {name: float(value) for name, value in values.items()}
