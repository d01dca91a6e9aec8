"""One training of ``compare``: a run below the parent run, whose failure is a result."""

from __future__ import annotations

import gc
import math
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from core.commands import train
from core.commands.compare_setup import configure
from core.errors import Interrupted, SkipwayError, TrackingError
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
    folder = Path(config.output)
    half = folder / task.name / trial.run if trial.status == "interrupted" and trial.run else None
    resume = str(half) if half is not None and half.is_dir() else None
    if resume is None:
        trial.cpu_seconds = trial.seconds = 0.0
    trial.status, trial.reason, trial.metrics = "waiting", "", {}
    runs: list[Run] = []
    tags = {"skipway.parent": parent.id}
    if parent.mlflow_run_id is not None:
        tags["mlflow.parentRunId"] = parent.mlflow_run_id
    nested = Nested(
        name=f"{trial.rule}-seed{trial.seed}",
        params={"rule": trial.rule},
        tags=tags,
        opened=runs.append,
        advance=_Stopwatch(trial, show).advance,
    )
    if config.train.compile:
        torch.compiler.reset()  # else the limit of recompilations ends compilation after a few rules
    try:
        train.run(task, configure(config, trial.rule, trial.seed), resume, nested)
        record = runs[0].record
        trial.metrics = {
            name.removeprefix("test/"): float(value)
            for name, value in record.metrics.items()
            if name.startswith("test/")
        }
        value = trial.metrics[study.metric]
        trial.status = "finished" if math.isfinite(value) else "failed"
        trial.reason = "" if trial.status == "finished" else f"{study.metric} is {value}"
    except (Interrupted, KeyboardInterrupt):
        trial.status = "interrupted"
        raise
    except TrackingError:
        raise
    except SkipwayError as error:
        trial.status, trial.reason = "failed", str(error)
    except Exception as error:  # a defect of one rule must not cost the results of the others
        words = (str(error).splitlines() or [""])[0]
        trial.status, trial.reason = "failed", f"{type(error).__name__}: {words}"
        (folder / "errors").mkdir(exist_ok=True)
        path = folder / "errors" / f"{trial.rule}-seed{trial.seed}.txt"
        path.write_text(traceback.format_exc(), encoding="utf-8")
    finally:
        trial.run = runs[0].id if runs else ""
        gc.collect()  # models and optimisers refer to themselves in circles
