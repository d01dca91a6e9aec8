"""Checkpoints that were damaged between a kill and the training that goes on from them."""

from __future__ import annotations

import io
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random

from core.train.checkpoint import LAST, PREVIOUS
from tests.faults.process import one_line
from tests.faults.scenario import Options, Outcome
from tests.faults.training import Facts, Training, World

TASK = "forecasting"
SPRUNG = "sprung"
"""File that a pickle makes when it is run."""


class Bomb:
    """Runs a command when it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (SPRUNG,)


def truncated(content: bytes, random: Random) -> bytes:
    """Any part of its end is lost."""
    return content[: random.randrange(1, len(content))]


def flipped(content: bytes, random: Random) -> bytes:
    """One bit anywhere is another one."""
    changed = bytearray(content)
    changed[random.randrange(len(content))] ^= 1 << random.randrange(8)
    return bytes(changed)


def overwritten(content: bytes, random: Random) -> bytes:
    """A block of 4 KiB is zeros, as after a power cut."""
    start = random.randrange(max(1, len(content) - 4096))
    return content[:start] + bytes(min(4096, len(content) - start)) + content[start + 4096 :]


def emptied(content: bytes, random: Random) -> bytes:
    """Nothing is left."""
    return b""


def replaced(content: bytes, random: Random) -> bytes:
    """A file of torch with something else in it."""
    import torch

    file = io.BytesIO()
    torch.save({"weights": torch.zeros(3)}, file)
    return file.getvalue()


def bomb(content: bytes, random: Random) -> bytes:
    """A pickle that runs a command, in torch's format or plain."""
    import torch

    file = io.BytesIO()
    torch.save({"step": Bomb()}, file)
    return random.choice([file.getvalue(), pickle.dumps({"step": Bomb()})])


Damage = Callable[[bytes, Random], bytes]
DAMAGES: dict[str, tuple[Damage, int]] = {
    "cut off": (truncated, 4),
    "one bit flipped": (flipped, 8),
    "a block of zeros": (overwritten, 4),
    "empty": (emptied, 1),
    "another file of torch": (replaced, 1),
    "a pickle that runs a command": (bomb, 2),
}
"""Each damage with how often it is tried, as its place is drawn."""


def run(options: Options) -> list[Outcome]:
    """Damages the newest checkpoint, then both."""
    killed, facts = prepare(options.folder / "checkpoints", World.make(options.folder / "world"))
    outcomes = []
    for name, (damage, times) in DAMAGES.items():
        random = Random(f"{options.seed} {name}")
        failures = []
        for number in range(times):
            folder = options.folder / "checkpoints" / f"{damage.__name__}{number}"
            failures += recover(copy_of(killed, folder), damage, random, facts)
        figures = "the one before is taken, equal results"
        outcomes.append(Outcome(f"checkpoint: {name}", times, times - len(failures), figures, failures))
    failures = refuse(copy_of(killed, options.folder / "checkpoints" / "both"), Random(options.seed))
    return [*outcomes, Outcome("checkpoint: both cut off", 1, int(not failures), "one line", failures)]


def prepare(folder: Path, world: World) -> tuple[Training, Facts]:
    """Returns a training that was killed with two checkpoints, and what an uninterrupted one ends with."""
    whole = Training.new(TASK, folder / "whole", world, tracking="none")
    said = whole.run()
    assert said.code == 0, said.error
    killed = Training.new(TASK, folder / "killed", world, tracking="none")
    started = killed.start()
    # The former one is renamed first, and for a moment there is no other.
    assert started.wait_until(lambda: list(killed.folder.rglob(PREVIOUS)) and killed.checkpoints)
    started.kill()
    assert killed.record["status"] == "RUNNING"
    assert killed.checkpoints
    return killed, whole.facts


def copy_of(training: Training, folder: Path) -> Training:
    """Returns the same in another folder."""
    shutil.copytree(training.folder, folder, symlinks=True)
    return Training(training.task, folder, tracking="none")


def recover(training: Training, damage: Damage, random: Random, facts: Facts) -> list[str]:
    """Damages the newest checkpoint and goes on; returns what is wrong, at most one line."""
    path = training.checkpoints[0] / LAST
    path.write_bytes(damage(path.read_bytes(), random))
    said = training.run("--resume", "last")
    wrong = training.differences(facts, said)
    lines = said.error.splitlines()
    harmless = not lines and damage in (flipped, overwritten)  # it fell between the tensors
    if not harmless and (len(lines) != 1 or not lines[0].startswith(f"warning: {path} ")):
        wrong.append(f"not one warning about {path.name}: {said.error.strip()!r}")
    if (training.folder / SPRUNG).exists():
        wrong.append("the command was run")
    return [f"{training.folder}: {'; '.join(wrong)}"] if wrong else []


def refuse(training: Training, random: Random) -> list[str]:
    """Damages both checkpoints and goes on; returns what is wrong with what is said."""
    folder = training.checkpoints[0]
    for name in (LAST, PREVIOUS):
        (folder / name).write_bytes(truncated((folder / name).read_bytes(), random))
    return one_line(training.run("--resume", "last"), str(folder), "delete that folder")
