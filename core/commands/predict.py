"""``predict``: domain files in, domain files out."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from core.commands.load import load_predictor
from core.commands.results import make_console
from core.errors import ConfigError, one_line
from core.task import Task
from core.train.hardware import keep_large_allocations


def run(task: Task, config: Any) -> int:
    """Predicts every input; returns 1 when some could not be read, after the others were written."""
    if config.input is None:
        raise ConfigError("predict needs --input FILE|FOLDER")
    if config.input not in task.live_inputs and not Path(config.input).exists():
        raise ConfigError(f"--input {config.input} does not exist")
    if config.input not in task.live_inputs and not (
        Path(config.input).is_file() or Path(config.input).is_dir()
    ):
        raise ConfigError(f"--input {config.input} is a pipe or a device; give a file or a folder")
    keep_large_allocations()
    console = make_console(stderr=task.writes_to_stdout(config))
    _, predictor = load_predictor(task, config, console)
    output = task.default_output(predictor, config) if config.output is None else config.output
    if output is None:
        raise ConfigError("predict needs --output FILE|FOLDER")
    failures = task.predict(predictor, replace(config, output=output))
    for failure in failures:
        print(f"error: {one_line(failure)}", file=sys.stderr)
    return 1 if failures else 0
