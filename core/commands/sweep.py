"""``sweep``: values of a training's options searched by Optuna, scored on validation data, the best one tested."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import torch
from filelock import FileLock, Timeout
from rich.console import Console

from core.commands.nested import start_parent, trials_bar
from core.commands.results import make_console
from core.commands.sweep_final import is_finished, report, rows_of, start_values, test_best
from core.commands.sweep_ray import require_ray, train_with_ray
from core.commands.sweep_setup import Wanted, check_trainings, open_sweep
from core.commands.sweep_space import dump_space, parse_space
from core.commands.sweep_study import Place, release, write_settings
from core.commands.sweep_train import train_trial
from core.errors import ConfigError, Interrupted, SkipwayError, TrainingError
from core.report.sweep import Row, Settings, Tested
from core.task import Task
from core.track.folder import create_folder
from core.track.run import Run
from core.track.store import prepare, public_uri, resolve_uri
from core.train.distributed import environment_world
from core.train.hardware import choose_device, choose_precision
from core.train.signals import interruptible

POLL_SECONDS = 2.0
"""Between two looks at what other processes train."""
Say = Callable[[int], None]
"""Takes the number of a trial that has ended."""


def run(task: Task, config: Any, wanted: Wanted) -> int:
    """Trains the trials that are left, tests the best configuration and the start, and reports.

    The process that begins a sweep leads it: it waits for those that were started on the same folder, and reports.

    Args:
        task: The task.
        config: Its configuration of ``train``, the start.
        wanted: What to do.

    Returns:
        0, or 1 if the best configuration could not be trained again.

    Raises:
        ConfigError: Before anything is trained or written.
        TrainingError: No trial has finished.
        Interrupted: What was trained is kept.
    """
    if environment_world().size > 1:
        raise ConfigError(
            "each trial of a sweep trains in one process; start it without torchrun, several times on one folder"
        )
    choose_precision(config.train.precision, choose_device(config.train.device))
    if wanted.scheduler == "ray":
        require_ray()
    variant = task.variant(getattr(config, "objective", None))
    config = variant.prepare(config)
    data = variant.load(config)
    metric = variant.primary_metric(config, data)
    with _locked(wanted.folder):
        settings, known = open_sweep(task, config, data, wanted)
    if not known:
        assert wanted.space is not None
        check_trainings(variant, config, data, wanted.space, wanted, settings.metric)
    uri = resolve_uri(config.tracking)
    if uri is not None:
        prepare(uri)
    folder = (wanted.folder or create_folder(Path("runs"), "sweep")).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder):
        # Another process may have begun it meanwhile.
        settings, known = open_sweep(task, config, data, replace(wanted, folder=folder))
        leader = _lead(folder)
        parent = _parent(task, folder, config, data, settings, uri) if leader else None
        if parent is not None:
            settings = replace(settings, run=parent.id, mlflow_run_id=parent.mlflow_run_id)
        write_settings(folder, settings)
        place = Place(folder, settings, parse_space(settings.space))
        study = place.study()
        if not known:
            _enqueue_start(study, place, config)
    console = make_console()
    _introduce(console, place, data, uri, leader is not None)
    try:
        with interruptible():
            _train_all(task, place, study, config, wanted, console)
            if parent is None:
                return 0
            _wait(place, study, console)
            tested = test_best(task, config, place, study, parent)
    except BaseException as error:
        stopped = isinstance(error, Interrupted | KeyboardInterrupt)
        if parent is not None:
            report(task, place, study, parent, [], metric, console)
            parent.finish("KILLED" if stopped else "FAILED")
        done = sum(row.state in ("finished", "pruned", "failed") for row in rows_of(place, study))
        text = f"{done} of {settings.trials} trials done; continue with --resume {folder}"
        if stopped:
            raise Interrupted(f"interrupted, {text}") from None
        if isinstance(error, SkipwayError):
            raise type(error)(f"{error}; {text}") from error
        raise
    finally:
        if leader is not None:
            leader.release()
    report(task, place, study, parent, tested, metric, console)
    parent.finish("FINISHED" if tested else "FAILED")
    if not tested:
        raise TrainingError(f"no trial has finished; see {folder / 'trials.csv'}")
    return 1 if _failed(tested) else 0


def _failed(tested: list[Tested]) -> bool:
    return bool(tested[0].reason)


def _locked(folder: Path | None) -> Any:
    """Holds the lock of a sweep that may be begun by another process; nothing where there is no folder yet."""
    return FileLock(folder / ".sweep.lock") if folder is not None and folder.is_dir() else nullcontext()


def _lead(folder: Path) -> FileLock | None:
    """Returns the lock of the process that leads a sweep; None if another one does."""
    lock = FileLock(folder / ".leader.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return None
    return lock


def _parent(task: Task, folder: Path, config: Any, data: Any, settings: Settings, uri: str | None) -> Run:
    """Opens the parent run, or makes it."""
    if settings.run:
        parent = Run.open(folder, settings.run, uri, task.name)
    else:
        tags = {"skipway.kind": "sweep"}
        parent = Run.create(task.name, folder, uri, name="sweep", tags=tags)
    params = {f"space.{key}": values for key, values in settings.space.items()}
    more = {"sampler": settings.sampler, "pruner": settings.pruner, "trials": settings.trials}
    start_parent(parent, folder, config, data, params | more | {"metric": settings.metric})
    return parent


def _enqueue_start(study: optuna.Study, place: Place, config: Any) -> None:
    """Lets the start be the first trial, where the space has it; a grid has its own order."""
    values = start_values(place, config)
    if values is not None and place.settings.sampler != "grid":
        study.enqueue_trial(values)


def _introduce(console: Console, place: Place, data: Any, uri: str | None, leads: bool) -> None:
    settings = place.settings
    for label, text in (
        ("data", f"{data.name}: {data.size} samples, digest {data.digest[:12]}"),
        ("space", "; ".join(f"{key} {values}" for key, values in dump_space(place.space).items())),
        ("trials", f"{settings.trials}, {settings.sampler} sampler, {settings.pruner} pruner"),
        (
            "score",
            f"{settings.metric} on validation data, {settings.direction}; the test data is for the end",
        ),
        ("folder", str(place.folder)),
        ("tracking", public_uri(uri) if uri else "off"),
        *([] if leads else [("leader", "another process; this one trains along")]),
    ):
        console.print(f"{label:10} {text}", markup=False, soft_wrap=True)


def _train_all(
    task: Task, place: Place, study: optuna.Study, config: Any, wanted: Wanted, console: Console
) -> None:
    """Trains what is left under one bar, and waits for the trials of other processes."""
    end = time.time() + wanted.seconds if wanted.seconds is not None else None
    with trials_bar(console) as progress:
        bar = progress.add_task("trials", total=place.settings.trials)

        def say(number: int) -> None:
            rows = rows_of(place, study)
            progress.update(bar, completed=sum(row.state != "running" for row in rows))
            for row in rows:
                if row.number == number:
                    progress.console.print(_line(row, place.settings), markup=False, soft_wrap=True)

        say(-1)
        if wanted.scheduler == "ray":
            train_with_ray(task, place, end, wanted.cpus, config.train.device, say)
        else:
            _train_here(task, place, study, end, say)


def _wait(place: Place, study: optuna.Study, console: Console) -> None:
    """Waits for the trials of other processes; those whose process dies are trained by the next ``--resume``."""
    if is_finished(study):
        return
    with console.status("waiting for the trials of other processes"):
        while not is_finished(study):
            time.sleep(POLL_SECONDS)
            with place.lock():
                release(study, place.folder)


def _train_here(task: Task, place: Place, study: optuna.Study, end: float | None, say: Say) -> None:
    while end is None or time.time() < end:
        trial = place.ask(study)
        if trial is None:
            return
        torch.compiler.reset()  # else the limit of recompilations ends compilation after a few trials
        train_trial(task, place, study, trial)
        say(trial.number)


def _line(row: Row, settings: Settings) -> str:
    options = ", ".join(
        f"{key.split('.')[-1]} {value:.4g}" if isinstance(value, float) else f"{key.split('.')[-1]} {value}"
        for key, value in row.values.items()
    )
    value = f"{settings.metric} {row.value:.5g}, " if row.value is not None else ""
    why = f" ({row.reason})" if row.reason else ""
    return f"trial {row.number} {row.state}: {value}{options}, {row.seconds:.0f} s{why}"
