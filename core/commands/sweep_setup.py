"""What ``sweep`` checks and reads before anything is trained or written."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from core.commands.nested import check_digest, check_folder, same_config
from core.commands.sweep_space import Space, dump_space, parse_space, singles
from core.commands.sweep_study import PRUNERS, SAMPLERS
from core.commands.sweep_train import configured, score_of
from core.commands.train import build_parts
from core.errors import ConfigError, TrainingError
from core.report.sweep import DEFAULT_METRIC, Settings, read_settings
from core.task import Part, Task
from core.train.hardware import choose_device
from core.train.held_out import hold_out

TRIALS = 20
"""Trials of a new sweep."""


@dataclass(frozen=True)
class Wanted:
    """What to do.

    Attributes:
        argv: Options of ``train``.
        space: What to search; None to go on with the folder's.
        trials: Number of trials; None for the folder's, or :data:`TRIALS`.
        sampler: ``tpe``, ``random`` or ``grid``; None for the folder's, or ``tpe``.
        pruner: ``median`` or ``none``; None for the folder's, or ``median``.
        metric: ``NAME`` or ``max NAME`` of the validation; None for the folder's, or what early stopping watches.
        seconds: Time after which no trial begins; None for no limit.
        scheduler: ``here`` or ``ray``.
        cpus: Cores of a trial under Ray.
        folder: Folder of the sweep; None makes one in ``runs/sweep``.
    """

    argv: list[str]
    space: Space | None
    trials: int | None
    sampler: str | None
    pruner: str | None
    metric: str | None
    seconds: float | None
    scheduler: str
    cpus: int
    folder: Path | None


def open_sweep(task: Task, config: Any, data: Any, wanted: Wanted) -> tuple[Settings, bool]:
    """Returns what the sweep is, and whether the folder has it already.

    Raises:
        ConfigError: The folder holds something else or another sweep, or the options contradict each other.
    """
    folder = wanted.folder
    known = read_settings(folder) if folder is not None else None
    check_folder(folder, known is not None, "sweep")
    name, higher = _metric(wanted.metric)
    if known is None:
        if wanted.space is None:
            raise ConfigError("--space is missing, such as --space '{train.lr: log 1e-4..1e-2}'")
        settings = Settings(
            task=task.name,
            space=dump_space(wanted.space),
            trials=TRIALS,
            sampler=wanted.sampler or "tpe",
            pruner=wanted.pruner or "median",
            metric=name,
            higher_is_better=higher,
            seed=config.seed,
            data=data.name,
            digest=data.digest,
        )
        SAMPLERS[settings.sampler](wanted.space, 0)
        PRUNERS[settings.pruner]()
        return replace(settings, trials=_trials(settings, wanted.space, wanted.trials)), False
    assert folder is not None
    given: dict[str, Any] = {
        "task": task.name,
        "space": dump_space(wanted.space) if wanted.space is not None else None,
        "sampler": wanted.sampler,
        "pruner": wanted.pruner,
        "score": name if wanted.metric is not None else None,
    }
    for option, value in given.items():
        if value is not None and value != getattr(known, {"score": "metric"}.get(option, option)):
            raise ConfigError(f"{folder} is a sweep with another --{option}; give another --output")
    same_config(folder, config)
    check_digest(folder, [known.digest], data)
    if wanted.trials is not None:
        known = replace(known, trials=_trials(known, parse_space(known.space), wanted.trials))
    return known, True


def _trials(settings: Settings, space: Space, wanted: int | None) -> int:
    """Returns the number of trials: what is wanted, and of a grid no more than it has points."""
    if settings.sampler != "grid":
        return wanted or TRIALS
    points = math.prod(len(domain.ends()) for domain in space.values())
    return min(points, wanted or points)


def _metric(text: str | None) -> tuple[str, bool]:
    """Splits ``max NAME``."""
    words = (text or DEFAULT_METRIC).split()
    if len(words) == 2 and words[0] in ("max", "min"):
        return words[1], words[0] == "max"
    if len(words) != 1:
        raise ConfigError(f"--score {text!r}: write the name of a validation value, or 'max NAME'")
    return words[0], False


def check_trainings(task: Task, config: Any, data: Any, space: Space, wanted: Wanted, metric: str) -> None:
    """Builds the start and every end of the space, and validates the untrained start once.

    Raises:
        ConfigError: Something does not fit the model or the data, or there is nothing to validate on.
    """
    parts, _ = build_parts(task, config, data)
    notes = [note for part in parts if (note := hold_out(part, config.seed))]
    device = choose_device(config.train.device)
    try:
        for part in parts:
            value, metrics = _validated(part, device)
            score_of(metric, value, metrics)
    except (ConfigError, TrainingError) as error:
        what = str(error).replace(", or leave --train.patience and --train.validate_every at 0", "")
        raise ConfigError(f"a sweep scores on validation data and never on the test data: {what}") from None
    for note in dict.fromkeys(notes):
        print(f"validation {note}")
    for values in singles(space):
        check_values(task, config, data, values, configured(task, None, wanted.argv, values))


def _validated(part: Part, device: torch.device) -> tuple[float, dict[str, float]]:
    learner = part.learner.to(device).eval()
    with torch.no_grad():
        return learner.validate()


def check_values(task: Task, start: Any, data: Any, values: Mapping[str, Any], config: Any) -> None:
    """Builds the models of some values once.

    Args:
        task: The task.
        start: Configuration of the start.
        data: Its data.
        values: Key to value.
        config: Configuration with these values.

    Raises:
        ConfigError: They fit neither model nor data, or change the data that trials are scored on.
    """
    said = ", ".join(f"{key} {value}" for key, value in values.items())
    config = task.prepare(config)
    # Options of the data may change how it is learned from, not what the scores are of.
    if getattr(config, "data", None) != getattr(start, "data", None):
        data_now = task.load(config)
        if data_now.digest != data.digest:
            raise ConfigError(
                f"--space: {said} changes the data or its split, so that scores would not compare"
            )
        data = data_now
    try:
        build_parts(task, config, data)
    except ConfigError as error:
        raise ConfigError(f"--space: {said}: {error}") from None
