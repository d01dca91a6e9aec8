"""What a tracking database holds, read without MLflow."""

from __future__ import annotations

import contextlib
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.faults.training import is_measured


@dataclass(frozen=True)
class Held:
    """Content of a store.

    Attributes:
        statuses: Status of each run.
        points: Points of curves, ``(run, key, step, value)``, without times and loads of the machine.
        files: Artifacts, ``(run, name)``.
        versions: Registered versions, ``(model, version)``.
        aliases: Version of each alias, by ``(model, alias)``.
    """

    statuses: list[str]
    points: set[tuple[str, str, int, float]]
    files: set[tuple[str, str]]
    versions: list[tuple[str, int]]
    aliases: dict[tuple[str, str], int]

    def differences(self, expected: Held) -> list[str]:
        """Returns what differs from the store of an uninterrupted training, a line for each thing."""
        lines = [
            f"store: {name} {getattr(self, name)}, not {getattr(expected, name)}"
            for name in ("statuses", "versions", "aliases")
            if getattr(self, name) != getattr(expected, name)
        ]
        for name in ("points", "files"):
            here, there = ({entry[1:] for entry in getattr(held, name)} for held in (self, expected))
            if here != there:
                lines.append(f"store: {name} {sorted(there - here)[:2]} lost, {sorted(here - there)[:2]} new")
        return lines


def read_store(path: Path) -> Held:
    """Reads a database and the folder of artifacts beside it."""
    with contextlib.closing(sqlite3.connect(path)) as database:

        def ask(query: str) -> list[Any]:
            return database.execute(query).fetchall()

        names = dict(ask("SELECT run_uuid, name FROM runs WHERE lifecycle_stage = 'active'"))
        folders = [folder for ident in names for folder in path.parent.glob(f"mlruns/**/{ident}/artifacts")]
        return Held(
            sorted(status for (status,) in ask("SELECT status FROM runs WHERE lifecycle_stage = 'active'")),
            {
                (names[ident], key, step, value)
                for ident, key, step, value in ask("SELECT run_uuid, key, step, value FROM metrics")
                if not is_measured(key)
            },
            {
                (names[folder.parent.name], file.relative_to(folder).as_posix())
                for folder in folders
                for file in folder.rglob("*")
                # MLflow's own temporary file, which a kill leaves in the store.
                if file.is_file() and not file.name.startswith(".artifact.uploading")
            },
            sorted(ask("SELECT name, version FROM model_versions")),
            {
                (name, alias): version
                for name, alias, version in ask("SELECT name, alias, version FROM registered_model_aliases")
            },
        )
