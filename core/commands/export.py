"""``export``: a trained model as ONNX or pt2, checked against the original."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from core.commands.load import load_predictor
from core.commands.results import make_console
from core.files import make_folder
from core.task import Task


def run(task: Task, config: Any) -> int:
    """Writes the programs and prints where; returns 0."""
    console = make_console()
    output = make_folder(Path(config.output), "--output")
    _, predictor = load_predictor(task, config, console)
    for path in task.export(predictor, output, config.format):
        console.print(
            f"written    {path} ({path.stat().st_size / 1e6:.1f} MB), same output checked", markup=False
        )
    return 0
