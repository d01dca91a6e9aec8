"""One trial of a sweep: a run below the parent run, scored on validation data, whose failure is a result."""

from __future__ import annotations

import contextlib
import math
import shutil
import signal
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import TrialState

from core.cli import default_config
from core.commands.nested import CONFIG, parent_tags, resumable, train_nested
from core.commands.sweep_space import flags
from core.commands.sweep_study import Place, decode, give_back, touch
from core.config import check_train
from core.errors import Interrupted, TrackingError, TrainingError
from core.parser import parse
from core.report.sweep import DEFAULT_METRIC
from core.task import Task
from core.track.folder import read_metrics
from core.track.run import Nested, Run

VALIDATIONS = 10
"""Validations of a part where the configuration does not say."""
SIGN_SECONDS = 10.0
SCORE = "sweep_score"
"""Curve of the value that is scored, in the trial's run."""


class Pruned(Interrupted):
    """The trial promises less than the others."""


def configured(task: Task, folder: Path | None, argv: list[str], values: Mapping[str, Any]) -> Any:
    """Returns the configuration of some values.

    Args:
        task: The task.
        folder: Folder of the sweep, whose configuration is the start; None for the task's default one.
        argv: Options of ``train``.
        values: Key of the configuration to value.

    Raises:
        ConfigError: No training can use a value.
    """
    config = parse(
        task.config_class,
        [*argv, *flags(values)],
        prog=f"python -m tasks.sweep --task {task.name}",
        description="",
        models=task.models,
        default_config=default_config(task) if folder is None else folder / CONFIG,
    )
    check_train(config.train)
    return config


def score_of(metric: str, value: float, metrics: Mapping[str, float]) -> float:
    """Returns the value of a validation that is scored.

    Raises:
        TrainingError: The validation does not measure it, or it is not finite.
    """
    if metric != DEFAULT_METRIC and metric not in metrics:
        raise TrainingError(f"--score {metric}: the validation measures {', '.join(metrics) or 'nothing'}")
    score = value if metric == DEFAULT_METRIC else metrics[metric]
    if not math.isfinite(score):
        raise TrainingError(f"{metric} is {score}")
    return score


class Judge:
    """Follows the validations of a trial: logs the score, tells it to Optuna, and stops what promises little.

    The score of a run of several parts is the mean over them.
    """

    def __init__(
        self, place: Place, study: optuna.Study, trial: optuna.Trial, stopped: Callable[[], bool]
    ) -> None:
        self.place, self.study, self.trial, self.stopped = place, study, trial, stopped
        self.run: Run | None = None
        self.latest: dict[str, float] = {}
        self.percent, self.signed = -1, 0.0

    def opened(self, run: Run) -> None:
        """Takes the trial's run."""
        self.run = run
        self.trial.set_user_attr("run", run.id)

    def advance(self, done: int, total: int) -> None:
        """Gives a sign of life to the other processes, and looks whether one of them asks for the end."""
        if time.monotonic() - self.signed > SIGN_SECONDS:
            touch(self.place.folder, self.trial.number)
            self.signed = time.monotonic()
            if self.stopped():
                signal.raise_signal(signal.SIGTERM)  # the loop writes a checkpoint and ends

    def validated(self, part: str, value: float, metrics: dict[str, float], share: float) -> None:
        """Takes what a validation gave; ``share`` of all steps were made."""
        assert self.run is not None
        score = score_of(self.place.settings.metric, value, metrics)
        percent = round(100 * share)
        self.run.log_metrics({f"{part}/{SCORE}" if part else SCORE: score}, percent)
        self.latest[part] = score
        if percent <= self.percent:
            return
        self.percent = percent
        self.trial.report(statistics.fmean(self.latest.values()), percent)
        if percent < 100 and self.trial.should_prune():
            shutil.rmtree(self.run.checkpoints, ignore_errors=True)
            raise Pruned(f"pruned after {percent} % of the steps")

    def score(self, keeps_best: bool) -> float:
        """Returns the score of the weights that were kept: the best with early stopping, else the last.

        Raises:
            TrainingError: Nothing was validated.
        """
        assert self.run is not None
        curves = read_metrics(self.run.folder)
        choose = max if self.place.settings.higher_is_better else min
        scores = [
            choose(value for _, value in curve) if keeps_best else curve[-1][1]
            for name, curve in curves.items()
            if name.split("/")[-1] == SCORE and name.count("/") <= 1
        ]
        if not scores:
            raise TrainingError("nothing was validated; set --train.validate_every")
        return statistics.fmean(scores)


def train_trial(
    task: Task,
    place: Place,
    study: optuna.Study,
    trial: optuna.Trial,
    stopped: Callable[[], bool] = lambda: False,
) -> None:
    """Trains and scores one trial; a failure is told to Optuna.

    Args:
        task: The task.
        place: The sweep.
        study: Its trials.
        trial: The one to train.
        stopped: Whether the process that handed out the trial asks for its end; for where no signal can be sent.

    Raises:
        Interrupted: The trial was stopped; it is given back and will be gone on with.
        TrackingError: The store cannot be used, which no other trial could either.
    """
    judge = Judge(place, study, trial, stopped)
    settings = place.settings
    began = time.monotonic()
    half = resumable(place.folder, task, trial.user_attrs.get("run", ""))
    nested = Nested(
        name=f"trial{trial.number:03d}",
        params={"trial": trial.number},
        tags=parent_tags(settings.run, settings.mlflow_run_id),
        opened=judge.opened,
        advance=judge.advance,
        validated=judge.validated,
        validations=VALIDATIONS,
        tested=False,
    )
    found: list[float] = []
    try:
        config = configured(task, place.folder, [], decode(place.space, trial.params))
        config = replace(config, output=str(place.folder), register=False)

        def finish() -> str:
            found.append(judge.score(config.train.patience > 0))
            return ""

        reason = train_nested(task, config, half, nested, finish)
    except Pruned as stop:
        _tell(study, trial, began, str(stop), TrialState.PRUNED)
    except (Interrupted, KeyboardInterrupt, TrackingError):
        with place.lock():
            give_back(study, trial)
        raise
    else:
        if reason:
            _tell(study, trial, began, reason, TrialState.FAIL)
        else:
            _tell(study, trial, began, "", TrialState.COMPLETE, found[0])


def _tell(
    study: optuna.Study,
    trial: optuna.Trial,
    began: float,
    reason: str,
    state: TrialState,
    value: float | None = None,
) -> None:
    # It has ended already if this process was taken for dead.
    with contextlib.suppress(UpdateFinishedTrialError):
        trial.set_user_attr("seconds", time.monotonic() - began)
        trial.set_user_attr("reason", reason)
        study.tell(trial.number, value, state=state)
