"""One attack, and what attacks are made of."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tests.faults.inputs.attempt import Answer
from tests.faults.inputs.cases import Good

MARKER = "executed"
"""File that is written where a file of an attack is executed."""


class Harm:
    """What writes a file when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (MARKER, "w")


@dataclass
class Trial:
    """One attack.

    Attributes:
        group: What it belongs to.
        text: What it is, for the list of failures.
        task: The task whose command is attacked.
        command: The command.
        make: Writes the files into the folder of the trial, which holds what ``needs`` names, and returns the options.
        codes: Exit codes that are right.
        needs: Good folders that are copied first.
        look: Looks at what was left; returns what is wrong.
    """

    group: str
    text: str
    task: str
    command: str
    make: Callable[[Path, Good], list[str]]
    codes: tuple[int, ...] = (1, 2)
    needs: tuple[str, ...] = ()
    look: Callable[[Path, Answer], str | None] | None = None


def harm(path: Path) -> Path:
    """Writes a pickle that does harm."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps({"state_dict": Harm()}))
    return path


def torch_harm(path: Path) -> Path:
    """The same in an archive of ``torch.save``."""
    import torch

    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"state_dict": Harm()}, path)
    return path


def objects(path: Path, key: str = "signal") -> Path:
    """Arrays of objects, which NumPy keeps as a pickle."""
    values = np.array([Harm(), Harm()], dtype=object)
    if path.suffix == ".npz":
        np.savez(path, **{key: values, "rate": 100})
    else:
        np.save(path, values, allow_pickle=True)
    return path


def input_of(good: Good) -> list[str]:
    domain = good.domain
    return [f"--input=input/{good.first().name}", f"--output={domain.output}", *domain.predict]
