"""The state of a sweep: ``sweep.yaml`` with what it is, and Optuna's journal with its trials.

Several processes may work on one folder. Each takes its next trial under a lock; a trial whose process died is given
out again. Optuna's journal needs no server and works on network file systems.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import optuna
import yaml
from filelock import FileLock
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.pruners import BasePruner, MedianPruner, NopPruner
from optuna.samplers import BaseSampler, GridSampler, RandomSampler, TPESampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from core.commands.sweep_space import Choices, Range, Space, parse_space
from core.errors import ConfigError
from core.registry import Registry
from core.report.sweep import STATE, Settings, read_settings
from core.track.folder import Record, is_stale, process_identity, write_atomic
from core.train.seeds import derive_seed

JOURNAL = "journal.log"
STUDY = "sweep"
SILENT_MINUTES = 15.0
"""A trial of another machine that has shown no sign of life for so long is given out again."""
WARMUP = 30
"""Percent of a training before which it is not pruned."""

optuna.logging.set_verbosity(optuna.logging.ERROR)


def distribution(domain: Range | Choices) -> BaseDistribution:
    """Returns Optuna's form of the values of an option."""
    if isinstance(domain, Choices):
        return CategoricalDistribution([encode(value) for value in domain.values])
    if domain.whole:
        step = 1 if domain.step is None else int(domain.step)
        return IntDistribution(int(domain.low), int(domain.high), log=domain.log, step=step)
    return FloatDistribution(float(domain.low), float(domain.high), log=domain.log, step=domain.step)


def encode(value: Any) -> Any:
    """Returns a value that Optuna can store: lists and mappings become JSON."""
    return value if value is None or isinstance(value, bool | int | float | str) else json.dumps(value)


def decode(space: Space, params: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the values of a trial as the configuration has them."""
    values = {}
    for key, value in params.items():
        domain = space[key]
        if isinstance(domain, Choices):
            value = next(choice for choice in domain.values if encode(choice) == value)
        values[key] = value
    return values


def _tpe(space: Space, seed: int) -> BaseSampler:
    return TPESampler(seed=seed)


def _random(space: Space, seed: int) -> BaseSampler:
    return RandomSampler(seed=seed)


def _grid(space: Space, seed: int) -> BaseSampler:
    ranges = [key for key, domain in space.items() if isinstance(domain, Range)]
    if ranges:
        raise ConfigError(f"--sampler grid takes lists alone, and {ranges[0]} is a range; name its values")
    return GridSampler(
        {key: [encode(value) for value in domain.ends()] for key, domain in space.items()}, seed
    )


SAMPLERS: Registry[Any] = Registry("sampler")
SAMPLERS.register("tpe")(_tpe)
SAMPLERS.register("random")(_random)
SAMPLERS.register("grid")(_grid)


def _median() -> BasePruner:
    return MedianPruner(n_startup_trials=5, n_warmup_steps=WARMUP)


PRUNERS: Registry[Any] = Registry("pruner")
PRUNERS.register("median")(_median)
PRUNERS.register("none")(NopPruner)


@dataclass(frozen=True)
class Place:
    """A sweep on disk.

    Attributes:
        folder: Its folder.
        settings: What it is.
        space: What it searches.
    """

    folder: Path
    settings: Settings
    space: Space

    def study(self) -> optuna.Study:
        """Opens the trials."""
        backend = JournalFileBackend(str(self.folder / JOURNAL))
        return optuna.create_study(
            storage=JournalStorage(backend),
            study_name=STUDY,
            direction="maximize" if self.settings.higher_is_better else "minimize",
            pruner=PRUNERS[self.settings.pruner](),
            load_if_exists=True,
        )

    def lock(self) -> FileLock:
        """The lock under which trials are given out and the settings change."""
        return FileLock(self.folder / ".sweep.lock")

    def ask(self, study: optuna.Study) -> optuna.Trial | None:
        """Returns the next trial; None when all have been given out.

        The random numbers of a trial depend on the seed and its number alone, so that a sweep that was stopped goes on
        as if it had not been.
        """
        with self.lock():
            release(study, self.folder)
            number = sum(counted(study))
            if number >= self.settings.trials:
                return None
            key = number if self.settings.sampler != "grid" else 0
            study.sampler = SAMPLERS[self.settings.sampler](
                self.space, derive_seed(self.settings.seed, "trial", key) % 2**32
            )
            trial = study.ask({key: distribution(domain) for key, domain in self.space.items()})
            study.sampler = (
                RandomSampler()
            )  # that of the grid would end a loop of Optuna's, which is not used here
            trial.set_user_attr("process", process_identity())
            touch(self.folder, trial.number)
            return trial


def interrupted(study: optuna.Study) -> set[int]:
    """Returns the numbers of the trials that are made again as another one."""
    trials = study.get_trials(deepcopy=False)
    return {trial.user_attrs["of"] for trial in trials if "of" in trial.user_attrs}


def counted(study: optuna.Study) -> list[bool]:
    """Whether each trial is one of the number that was asked for: begun, and not made again as another one."""
    again = interrupted(study)
    trials = study.get_trials(deepcopy=False)
    return [trial.state != TrialState.WAITING and trial.number not in again for trial in trials]


def give_back(study: optuna.Study, trial: FrozenTrial | optuna.Trial) -> None:
    """Ends a trial that was interrupted, and puts its values first in the queue, with what it has trained."""
    if trial.number not in interrupted(study):
        run = {"run": trial.user_attrs["run"]} if "run" in trial.user_attrs else {}
        study.enqueue_trial(dict(trial.params), user_attrs={"of": trial.number} | run)
    study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)


def release(study: optuna.Study, folder: Path) -> None:
    """Gives back the trials whose process died."""
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if is_dead(trial, folder):
            give_back(study, trial)


def is_dead(trial: FrozenTrial, folder: Path) -> bool:
    """Whether the process of a running trial is gone: surely on this machine, by its silence on another."""
    identity = trial.user_attrs.get("process")
    if identity is None:  # between the birth of a trial and its name there is the lock
        return True
    if identity["host"] == process_identity()["host"]:
        return is_stale(Record(id="", task="", **identity))
    path = _sign(folder, trial.number)
    return not path.exists() or time.time() - path.stat().st_mtime > 60 * SILENT_MINUTES


def touch(folder: Path, number: int) -> None:
    """Gives a sign of life of a trial."""
    path = _sign(folder, number)
    path.parent.mkdir(exist_ok=True)
    path.touch()


def _sign(folder: Path, number: int) -> Path:
    return folder / ".alive" / str(number)


def load_place(folder: Path) -> Place:
    """Returns the sweep in a folder."""
    settings = read_settings(folder)
    assert settings is not None
    return Place(folder, settings, parse_space(settings.space))


def write_settings(folder: Path, settings: Settings) -> None:
    """Writes ``sweep.yaml``."""
    write_atomic(folder / STATE, yaml.safe_dump(asdict(settings), sort_keys=False))
