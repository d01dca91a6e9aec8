"""Disks that are full at any moment of a training, and folders that cannot be written to."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.faults.disk import PAGE, Disk, may_mount, read_only, small_disk
from tests.faults.kills import PHASES, Whole, phase_of, train_whole
from tests.faults.process import Said, one_line
from tests.faults.scenario import Options, Outcome
from tests.faults.server import MOMENTS
from tests.faults.store import read_store
from tests.faults.training import Training, World

TASK = "forecasting"
WIDE = ("--model.width=128",)
"""Makes checkpoint and package the most of what is written, so that they are hit."""
ROOM = 256 << 20
"""Bytes of a disk on which everything fits."""
NO_SPACE = "No space left on device"


def run(options: Options) -> list[Outcome]:
    """Trains on disks of growing sizes, from one on which nothing fits, and in folders that are read-only."""
    if not may_mount():
        return [Outcome("small disks and read-only folders", 0, 0, "needs root, to mount them", [])]
    world = World.make(options.folder / "world")
    folder = options.folder / "disks"
    whole = train_whole(TASK, folder / "whole", world, WIDE)
    return [
        _sweep("the disk of the runs is full", options, _output_on, world, whole),
        _sweep("the disk of the database and its artifacts is full", options, _store_on, world, whole),
        filled_later(folder / "later", world, whole),
        read_only_data(folder, world, whole),
        read_only_output(folder, world),
    ]


Fill = Callable[[Path, Disk, World, Whole], tuple[str, list[str]]]
"""Trains in a folder, with a part of what it writes on a disk; returns what was hit and what is wrong."""


def _sweep(name: str, options: Options, fill: Fill, world: World, whole: Whole) -> Outcome:
    """Fills a disk at evenly spaced numbers of bytes, up to what a whole training needs."""
    root = options.folder / "disks" / fill.__name__
    with small_disk(root / "disk", ROOM) as disk:
        fill(root / "room", disk, world, whole)
        needed = disk.used
    shutil.rmtree(root)

    def attempt(number: int) -> tuple[str, list[str]]:
        folder = root / str(number)
        size = needed * (number + 1) // (options.kills + 1) // PAGE * PAGE
        with small_disk(folder / "disk", size) as disk:
            hit, wrong = fill(folder / "work", disk, world, whole)
        if not wrong:
            shutil.rmtree(folder)
        return hit, [f"{folder}, {size} bytes, {hit}: {line}" for line in wrong]

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        done = list(pool.map(attempt, range(options.kills)))
    hits = Counter(hit for hit, _ in done)
    figures = f"of {needed / 1e6:.1f} MB: {', '.join(f'{hits[h]} {h}' for h in (*PHASES, *ENDED) if hits[h])}"
    failures = [line for _, wrong in done for line in wrong]
    return Outcome(name, options.kills, sum(not wrong for _, wrong in done), figures, failures)


ENDED = ("at its start", "not whole in the store", "not hit")


def _output_on(folder: Path, disk: Disk, world: World, whole: Whole) -> tuple[str, list[str]]:
    """A full disk ends the training in one line; after space was made it goes on to the same end."""
    training = Training.new(TASK, folder, world, options=WIDE, output=str(disk.folder / "runs"))
    said = training.run()
    if said.code == 0 and not said.error:
        return "not hit", training.differences(whole.facts, said)
    hit = phase_of(training)
    wrong = one_line(said, NO_SPACE, str(disk.folder)) if said.code else _one_warning(said)
    disk.resize(ROOM)
    if not wrong:
        wrong = training.differences(whole.facts, training.go_on().wait())
    if not wrong:
        wrong = read_store(folder / "mlflow.db").differences(whole.held)
    return hit, wrong


def filled_later(folder: Path, world: World, whole: Whole) -> Outcome:
    """Another program takes all room once there is a checkpoint, the package or the report."""
    hits, failures = [], []
    for number, (moment, reached) in enumerate(MOMENTS.items()):
        with small_disk(folder / str(number) / "disk", ROOM) as disk:
            place = folder / str(number) / "work"
            training = Training.new(TASK, place, world, options=WIDE, output=str(disk.folder / "runs"))
            started = training.start()
            started.wait_until(lambda training=training, reached=reached: reached(training))
            disk.fill()
            said = started.wait()
            hits.append(phase_of(training) if said.code else f"not hit {moment}")
            wrong = one_line(said, NO_SPACE, str(disk.folder)) if said.code else []
            disk.resize(ROOM)
            wrong = wrong or training.differences(whole.facts, training.go_on().wait())
            wrong = wrong or read_store(place / "mlflow.db").differences(whole.held)
            failures += [f"{moment}, {place}: {'; '.join(wrong)}"] if wrong else []
    passed = len(MOMENTS) - len(failures)
    return Outcome(
        "another program fills the disk of the runs", len(MOMENTS), passed, ", ".join(hits), failures
    )


def _store_on(folder: Path, disk: Disk, world: World, whole: Whole) -> tuple[str, list[str]]:
    """A full disk of the store costs a training one line; after space was made ``sync`` uploads the rest."""
    path = disk.folder / "mlflow.db"
    training = Training.new(TASK, folder, world, options=WIDE, tracking=f"sqlite:///{path}")
    said = training.run()
    if said.code == 0 and not said.error:
        return "not hit", read_store(path).differences(whole.held)
    began = bool(training.runs)
    wrong = _one_warning(said) if began else one_line(said, str(disk.folder))
    disk.resize(ROOM)
    if not wrong:
        wrong = training.differences(whole.facts, training.go_on().wait())
    if not wrong:
        wrong = read_store(path).differences(whole.held)
    return "not whole in the store" if began else "at its start", wrong


def _one_warning(said: Said) -> list[str]:
    lines = said.error.splitlines()
    if said.code == 0 and len(lines) == 1 and lines[0].startswith("warning: "):
        return []
    return [f"exit code {said.code}, {len(lines)} lines: {said.error.strip()[-300:]}"]


def read_only_data(folder: Path, world: World, whole: Whole) -> Outcome:
    """Data that cannot be written to is enough for a training."""
    shutil.copytree(world.data, folder / "data")
    failures = []
    with read_only(folder / "data"):
        training = Training.new(TASK, folder / "reads", World(folder / "data", world.store), options=WIDE)
        failures = training.differences(whole.facts, training.run())
    return Outcome("the data is read-only", 1, int(not failures), "equal results", failures)


def read_only_output(folder: Path, world: World) -> Outcome:
    """An output folder that cannot be written to is told before anything is trained."""
    places = {"runs": {}, "store": {"tracking": f"sqlite:///{folder / 'store' / 'mlflow.db'}"}}
    failures = []
    for place, settings in places.items():
        (folder / place).mkdir()
        training = Training.new(
            TASK, folder / f"{place}-work", world, output=str(folder / "runs"), **settings
        )
        with read_only(folder / place):
            said = training.run()
        wrong = one_line(said, str(folder / place)) or (["it was begun"] if training.runs else [])
        failures += [f"{place}: {line}" for line in wrong]
    return Outcome(
        "the folder of the runs or of the database is read-only",
        2,
        2 - len(failures),
        "one line, nothing trained",
        failures,
    )
