"""Trials of a sweep as Ray tasks: one machine, or a cluster whose machines share the folder of the sweep.

Ray decides where and when; Optuna's journal in the folder holds the trials, as for processes that were started by hand.
Ray is imported when it is used.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from core.commands.sweep_study import Place, counted, load_place
from core.commands.sweep_train import train_trial
from core.errors import ConfigError
from core.task import Task, load_task
from core.train.hardware import choose_device

STOP_SECONDS = 60.0
"""Time that trials have to write their checkpoints."""


def train_one(task: str, folder: str, end: float | None) -> int | None:
    """Trains the next trial of a sweep, in a process of Ray.

    Args:
        task: Name of the task.
        folder: Folder of the sweep.
        end: Unix time after which no trial begins.

    Returns:
        Its number; None if there is none left, or no time.
    """
    if end is not None and time.time() > end:
        return None
    place = load_place(Path(folder))
    study = place.study()
    trial = place.ask(study)
    if trial is None:
        return None
    train_trial(load_task(task), place, study, trial)
    return trial.number


def train_with_ray(
    task: Task, place: Place, end: float | None, cpus: int, device: str, say: Callable[[int], None]
) -> None:
    """Trains what is left, as many trials at a time as Ray has room for.

    Args:
        task: The task.
        place: The sweep.
        end: Unix time after which no trial begins.
        cpus: Cores of a trial.
        device: Device of a trial; on a GPU it has one.
        say: Takes the number of a trial that has ended.

    Raises:
        Interrupted: The trials that were going are given back.
    """
    import ray

    if not ray.is_initialized():
        ray.init(log_to_driver=False, logging_level="ERROR", include_dashboard=False)
    gpus = 1 if choose_device(device).type == "cuda" else 0
    remote = ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=0)(train_one)
    pending = [
        remote.remote(task.name, str(place.folder), end)
        for _ in range(place.settings.trials - sum(counted(place.study())))
    ]
    try:
        while pending:
            done, pending = ray.wait(pending, num_returns=1)
            for reference in done:
                number = ray.get(reference)
                if number is not None:
                    say(number)
    except ray.exceptions.RayTaskError as error:
        raise error.as_instanceof_cause() from None
    finally:
        for reference in pending:
            ray.cancel(reference)
        ray.wait(pending, num_returns=len(pending), timeout=STOP_SECONDS) if pending else None
        ray.shutdown()


def require_ray() -> None:
    """Raises ``ConfigError`` unless Ray is installed."""
    try:
        import ray  # noqa: F401
    except ImportError:
        raise ConfigError("--scheduler ray needs Ray: pip install '.[ray]'") from None
