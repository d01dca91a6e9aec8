"""One training of ``compare``: a run below the parent run, whose failure is a result."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from core.commands.compare_setup import configure
from core.commands.nested import parent_tags, resumable, train_nested
from core.errors import Interrupted
from core.report.compare import Study, Trial
from core.task import Task
from core.track.run import Nested, Run


class _Stopwatch:
    """Times a fit between the first and the last report of its progress, on top of an earlier session."""

    def __init__(self, trial: Trial, show: Callable[[float], None]) -> None:
        self.trial, self.show = trial, show
        self.before = (trial.cpu_seconds, trial.seconds)
        self.start: tuple[float, float] | None = None

    def advance(self, done: int, total: int) -> None:
        """Takes the time."""
        now = time.process_time(), time.monotonic()
        self.start = self.start or now
        self.trial.cpu_seconds = self.before[0] + now[0] - self.start[0]
        self.trial.seconds = self.before[1] + now[1] - self.start[1]
        self.show(done / total)


def train_trial(
    task: Task, config: Any, study: Study, trial: Trial, parent: Run, show: Callable[[float], None]
) -> None:
    """Makes one training, or ends one that was interrupted; a failure becomes the state of the trial.

    Raises:
        Interrupted: The training was stopped and can go on.
        TrackingError: The store cannot be used, which no other training could either.
    """
    resume = None
    if trial.status == "interrupted":
        resume = resumable(Path(config.output), task, trial.run)
    if resume is None:
        trial.cpu_seconds = trial.seconds = 0.0
    trial.status, trial.reason, trial.metrics = "waiting", "", {}
    runs: list[Run] = []
    nested = Nested(
        name=f"{trial.rule}-seed{trial.seed}",
        params={"rule": trial.rule},
        tags=parent_tags(parent.id, parent.mlflow_run_id),
        opened=runs.append,
        advance=_Stopwatch(trial, show).advance,
    )
    if config.train.compile:
        torch.compiler.reset()  # else the limit of recompilations ends compilation after a few rules

    def finish() -> str:
        trial.metrics = {
            name.removeprefix("test/"): float(value)
            for name, value in runs[0].record.metrics.items()
            if name.startswith("test/")
        }
        value = trial.metrics[study.metric]
        return "" if math.isfinite(value) else f"{study.metric} is {value}"

    try:
        trial.reason = train_nested(task, configure(config, trial.rule, trial.seed), resume, nested, finish)
        trial.status = "failed" if trial.reason else "finished"
    except (Interrupted, KeyboardInterrupt):
        trial.status = "interrupted"
        raise
    finally:
        trial.run = runs[0].id if runs else ""
