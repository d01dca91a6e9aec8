"""Trainings that are killed with SIGKILL and resumed, as often as it takes."""

from __future__ import annotations

import math
import os
import shutil
import signal
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from random import Random

from tests.faults.process import Said
from tests.faults.scenario import Options, Outcome
from tests.faults.store import Held, read_store
from tests.faults.training import TASKS, Facts, Training, World

PHASES = (
    "before the run",
    "before a checkpoint",
    "training",
    "test and figures",
    "report",
    "registration",
    "upload",
    "after its end",
)
"""What a training may be at, in their order."""


@dataclass(frozen=True)
class Whole:
    """A training that nothing happened to.

    Attributes:
        facts: What it ended with.
        held: What its store holds.
        seconds: CPU time that it took, s.
        changes: Number of its changes of files.
    """

    facts: Facts
    held: Held
    seconds: float
    changes: int


def train_whole(task: str, folder: Path, world: World, options: tuple[str, ...] = ()) -> Whole:
    """Trains without a failure."""
    training = Training.new(task, folder, world, options=options)
    started, seconds = training.start(), 0.0

    def measure() -> bool:
        nonlocal seconds
        seconds = max(seconds, started.seconds)
        return False

    started.wait_until(measure)
    said = started.wait()
    assert said.code == 0, said.error
    changes = int(started.log.with_suffix(".changes").read_text())
    return Whole(training.facts, read_store(folder / "mlflow.db"), seconds, changes)


def phase_of(training: Training) -> str:
    """Returns what a training was at when it was killed, from what it left."""
    if not training.runs:
        return "before the run"
    record, last = training.record, training.last
    if record["status"] == "FINISHED":
        return "upload"
    if record["registration"] is not None:
        return "registration"
    if (last / "report.html").exists():
        return "report"
    if (last / "package" / "metadata.json").exists():
        return "test and figures"
    return "training" if training.checkpoints else "before a checkpoint"


@dataclass(frozen=True)
class Kill:
    """A kill.

    Attributes:
        seconds: CPU time of the process at which it comes, s; on a busy machine the time of the day says less.
        change: Which of the changes of files of the process it comes at, instead.
    """

    seconds: float = math.inf
    change: int | None = None

    def strike(self, training: Training) -> Said:
        """Lets a training go on, kills it, and returns how it ended."""
        started = training.go_on(kill_at=self.change)
        if started.wait_until(lambda: started.seconds >= self.seconds):
            return started.kill()
        return started.wait()


def kill_and_finish(training: Training, kills: Sequence[Kill], whole: Whole) -> tuple[list[str], list[str]]:
    """Kills a training, and each time that it is resumed, then lets it end.

    Args:
        training: A training that has not begun.
        kills: The kills, one after the other.
        whole: The same training without a failure.

    Returns:
        What it was at each time, and what is wrong at its end.
    """
    phases = []
    for kill in kills:
        said = kill.strike(training)
        if said.code not in (0, -signal.SIGKILL):
            return phases, [f"exit code {said.code} before the kill: {said.error.strip()}"]
        phases.append(phase_of(training) if said.code else "after its end")
    wrong = training.differences(whole.facts, training.go_on().wait())
    if not wrong:
        wrong = read_store(training.folder / "mlflow.db").differences(whole.held)
    return phases, wrong


def run(options: Options) -> list[Outcome]:
    """Kills trainings of three tasks at random times and at changes of files; a fourth of them twice."""
    world = World.make(options.folder / "world")
    outcomes = []
    for task in TASKS:
        folder = options.folder / "kills" / task
        whole = train_whole(task, folder / "whole", world)
        random = Random(f"{options.seed} {task}")
        times = [
            [Kill(seconds=random.uniform(0, whole.seconds)) for _ in range(2 if number % 4 == 3 else 1)]
            for number in range(options.kills)
        ]
        changes = [
            [Kill(change=1 + round(number * (whole.changes - 1) / max(1, options.kills - 1)))]
            for number in range(options.kills)
        ]
        outcomes.append(_strike(f"{task}: killed at a random time", times, folder / "times", world, whole))
        outcomes.append(
            _strike(f"{task}: killed at a change of files", changes, folder / "changes", world, whole)
        )
    return outcomes


def _strike(name: str, plans: list[list[Kill]], folder: Path, world: World, whole: Whole) -> Outcome:
    task = name.partition(":")[0]

    def attempt(number: int) -> tuple[list[str], list[str]]:
        training = Training.new(task, folder / str(number), world)
        phases, wrong = kill_and_finish(training, plans[number], whole)
        if not wrong:
            shutil.rmtree(training.folder)
        return phases, [f"{training.folder}, {plans[number]}, {phases}: {line}" for line in wrong]

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        done = list(pool.map(attempt, range(len(plans))))
    phases = Counter(phase for found, _ in done for phase in found)
    failures = [line for _, wrong in done for line in wrong]
    figures = (
        f"{phases.total()} kills: {', '.join(f'{phases[name]} {name}' for name in PHASES if phases[name])}"
    )
    return Outcome(name, len(plans), sum(not wrong for _, wrong in done), figures, failures)
