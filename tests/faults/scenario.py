"""What a scenario of failures is given and what it answers with."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Options:
    """How much to try.

    Attributes:
        kills: moments at which a training is killed.
        inputs: broken files made from each good one.
        seed: seed of everything drawn.
        folder: an existing folder for everything a scenario writes.
    """

    kills: int = 20
    inputs: int = 200
    seed: int = 0
    folder: Path = field(default_factory=Path.cwd)


@dataclass
class Outcome:
    """What was tried and what came of it.

    Attributes:
        name: the failure, in a few words.
        tried: how many times it was caused.
        passed: how many of these ended as they have to.
        figures: the figures to print, on one line.
        failures: one line for each that did not.
    """

    name: str
    tried: int
    passed: int
    figures: str
    failures: list[str]
