"""Finished and unfinished run folders, made without a training."""

from __future__ import annotations

import json
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
from PIL import Image

from core.commands.results import compare
from core.report.html import write_report
from core.task import Evaluation
from core.track.folder import Record, metrics_line, write_record


@dataclass
class ToyConfig:
    """Configuration of the run."""

    seed: int = 0
    rule: str = "add"


METRICS = {
    "model": {"a/score": 9.0, "b/score": 100.0, "score": 10.0, "alone": 0.5},
    "first": {"a/score": 8.0, "b/score": 200.0, "score": 8.0},
    "second": {"a/score": 7.0, "score": 4.0},
}


def _make_run(
    root, ident, task="toy", started=0.0, status="FINISHED", data="lines", metrics=METRICS, title="Net"
):
    """Writes a run's folder; one that is finished has two figures and a report."""
    folder = root / task / ident
    (folder / "figures").mkdir(parents=True)
    record = Record(ident, task, "RUNNING", started, pid=0, host="elsewhere")
    record.datasets = [{"name": data, "size": 12, "digest": "d1ce", "context": "test"}]
    record.tags = {
        "git.commit": "0123456789abcdef",
        "git.dirty": "true",
        "command": f"train.py --data.path {data}",
    }
    write_record(folder, record)
    (folder / "config.yaml").write_text("seed: 0\nrule: add\n")
    lines = [metrics_line({"loss": 1 / (step + 1)}, step, 0.0) for step in range(3)]
    (folder / "metrics.jsonl").write_text("".join(lines))
    if status == "FINISHED":
        for place, name in enumerate(("error_by_horizon", "roc")):
            Image.new("RGBA", (1400, 700), (200, 30 * place, 30, 255)).save(
                folder / "figures" / f"{name}.png"
            )
        results = {method: Evaluation(values) for method, values in metrics.items()}
        write_report(
            folder,
            SimpleNamespace(title=title, higher_is_better=True),
            ToyConfig(),
            SimpleNamespace(name=data, size=12, digest="d1ce"),
            compare(results, "score", True),
            results,
            ["two lines were dropped"],
        )
    record.status = status
    write_record(folder, record)
    return folder


@pytest.fixture(scope="session")
def make_run():
    """Function that makes a run's folder below a root."""
    return _make_run


@pytest.fixture(scope="session")
def edit_record():
    """Function that changes entries of a run's ``run.json``."""

    def edit(folder, **changes):
        path = folder / "run.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return edit
