"""Trials of a sweep by Ray Tune: one machine, or a cluster whose machines share the folder of the sweep.

Tune decides where and when a trial is trained, and starts it anew where a machine is lost; Optuna's journal in the
folder chooses the values and holds the trials, as for processes that were started by hand.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from core.commands.sweep_study import Place, counted, decode, give_back, load_place
from core.commands.sweep_train import train_trial
from core.errors import ConfigError, Interrupted, TrackingError, TrainingError
from core.task import Task, load_task
from core.train.hardware import choose_device
from core.train.signals import interruptible

STOP_SECONDS = 60.0
"""Time that trials have to write their checkpoints."""
RESTARTS = 3
"""How often a trial is started anew whose machine is lost."""
GROUP = "ray"
"""Attribute of a trial: who handed it to Ray."""
SLOT = "ray_trial"
"""Attribute of a trial: Tune's name of its own trial."""
RESULTS = "ray_tune"
"""Folder of Tune's own records, below that of the sweep."""
SETTINGS = {
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C is taken here, so that trials write their checkpoints
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # MLflow has the curves
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # the paths of the options are relative to where the sweep was started
}
"""Environment of Tune."""


def train_one(task: str, folder: str, end: float | None, group: str, slot: str) -> dict[str, Any]:
    """Trains the next trial of a sweep, in a process of Ray.

    Args:
        task: Name of the task.
        folder: Folder of the sweep.
        end: Unix time after which no trial begins.
        group: Who hands out the trial, and can ask for its end by :func:`_stop`.
        slot: Tune's name of its trial: what was begun under it before was lost with its process.

    Returns:
        Number, state, score and options of the trial; nothing if there is none left, no time, or all are to end.

    Raises:
        Interrupted: The machine is taken away; Tune tries again.
    """
    place = load_place(Path(folder))
    study = place.study()
    if _stop_reason(study, group) is not None or (end is not None and time.time() > end):
        return {}
    with place.lock():
        for lost in _running(study, group):
            if lost.user_attrs[SLOT] == slot:
                give_back(study, lost)
    trial = place.ask(study)
    if trial is None:
        return {}
    trial.set_user_attr(SLOT, slot)
    trial.set_user_attr(GROUP, group)
    try:
        train_trial(load_task(task), place, study, trial, lambda: _stop_reason(study, group) is not None)
    except TrackingError as error:  # no other trial could use the store either
        study.set_user_attr(f"stop/{group}", str(error))
        return {}
    except Interrupted:
        if _stop_reason(study, group) is None:
            raise
        return {}
    done = study.get_trials(deepcopy=False)[trial.number]
    score = {} if done.value is None else {place.settings.metric: done.value}
    return {"trial": trial.number, "state": done.state.name} | score | decode(place.space, done.params)


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
        TrackingError: The store cannot be used.
        TrainingError: Ray could not train a trial.
    """
    study, group = place.study(), uuid.uuid4().hex
    left = place.settings.trials - sum(counted(study))
    if left <= 0:
        return
    name, folder = task.name, str(place.folder)
    os.environ.update(SETTINGS)
    import ray
    from ray import tune

    class Training(tune.Trainable):  # type: ignore[misc, unused-ignore]
        """A trial of Tune: the next one of the sweep, from its beginning or its checkpoint to its end."""

        def step(self) -> dict[str, Any]:
            return {**train_one(name, folder, end, group, self.trial_id), "done": True}

    class Listener(tune.Callback):  # type: ignore[misc, unused-ignore]
        """Tells of the trials that have ended."""

        def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            if "trial" in trial.last_result:
                say(trial.last_result["trial"])

        def __reduce__(self) -> tuple[type, tuple[()]]:
            return tune.Callback, ()  # Tune stores its settings, and the bar of this process is none

    if not ray.is_initialized():
        ray.init(log_to_driver=False, logging_level=logging.ERROR, include_dashboard=False)
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # failures are told in one line
    gpus = 1 if choose_device(device).type == "cuda" else 0
    tuner = tune.Tuner(
        tune.with_resources(Training, {"cpu": cpus, "gpu": gpus}),
        tune_config=tune.TuneConfig(num_samples=left),
        run_config=tune.RunConfig(
            name=group,
            storage_path=str(place.folder / RESULTS),
            failure_config=tune.FailureConfig(max_failures=RESTARTS),
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),  # runs have their own
            callbacks=[Listener()],
            verbose=0,
        ),
    )
    try:
        with interruptible():  # Ray has taken SIGTERM for itself
            errors = tuner.fit().errors
        reason = _stop_reason(study, group)
        if reason is not None:
            raise TrackingError(reason)
        if errors:
            raise TrainingError(f"Ray could not train a trial: {str(errors[0]).strip().splitlines()[-1]}")
    finally:
        _stop(study, group)
        ray.shutdown()


def _stop_reason(study: optuna.Study, group: str) -> str | None:
    reason: str | None = study.user_attrs.get(f"stop/{group}")
    return reason


def _running(study: optuna.Study, group: str) -> list[FrozenTrial]:
    running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    return [trial for trial in running if trial.user_attrs.get(GROUP) == group]


def _stop(study: optuna.Study, group: str) -> None:
    """Asks the trials that are going to stop, and waits until they have given themselves back."""
    if not _running(study, group):
        return
    study.set_user_attr(f"stop/{group}", "stopped")
    end = time.monotonic() + STOP_SECONDS
    with contextlib.suppress(KeyboardInterrupt):  # a second Ctrl-C does not wait
        while _running(study, group) and time.monotonic() < end:
            time.sleep(0.5)


def require_ray() -> None:
    """Raises ``ConfigError`` unless Ray Tune is installed."""
    try:
        import ray.tune  # noqa: F401
    except ImportError:
        raise ConfigError("--scheduler ray needs Ray Tune: pip install '.[ray]'") from None
