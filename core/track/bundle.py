"""A run's model made ready to be handed on: the package with its origin, and without the folders of this machine."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

from core.errors import PackageError
from core.task import Packaged
from core.track.folder import Record, read_record
from core.track.package import RESERVED, load_package, save_package

_FOLDERS = re.compile(r"(?:(?:sqlite|file):/*|(?<![\w:./]))/(?:[^/\s,\]'\"]+/)+")
"""The folders in front of a name, in an absolute path."""


def bundle(run: Path, target: Path) -> Path:
    """Writes the package of a finished run with ``provenance`` in its metadata; returns its folder.

    Provenance is the commit, the command line, the seed, versions, and the scores of the model and its baselines.
    Of absolute paths only the last name stays, in the command and in the data's configuration.

    Args:
        run: Folder of the run.
        target: Folder of the new package; an older one in its place is replaced.

    Raises:
        PackageError: The run has not finished, or was made with changes that no commit holds.
    """
    record = read_record(run)
    if record.status != "FINISHED":
        raise PackageError(f"run {run} is {record.status}, not FINISHED; finish it with --resume {run}")
    if record.tags.get("git.dirty") != "false":
        raise PackageError(f"run {run} was made with changes that are in no commit: nobody could repeat it")
    package = load_package(run / "package")
    metadata = {key: value for key, value in package.metadata.items() if key not in RESERVED}
    metadata = _without_folders(metadata) | {"provenance": provenance(record)}
    return save_package(target, Packaged(package.config, package.tensors(), metadata), package.task)


def provenance(record: Record) -> dict[str, Any]:
    """Returns how a run's model can be made again, and how good it was."""
    tags = record.tags
    _, *words = shlex.split(tags.get("command", "train"))
    scores = {
        name: value for name, value in record.metrics.items() if name.split("/")[0] in ("test", "baseline")
    }
    return {
        "command": _without_folders(shlex.join(["python", "-m", f"tasks.{record.task}.train", *words])),
        "commit": tags.get("git.commit"),
        "seed": tags.get("seed"),
        "torch": tags.get("version.torch"),
        "scores": scores,
    }


def _without_folders(value: Any) -> Any:
    if isinstance(value, str):
        return _FOLDERS.sub("", value)
    if isinstance(value, dict):
        return {key: _without_folders(part) for key, part in value.items()}
    return [_without_folders(part) for part in value] if isinstance(value, list) else value
