"""A run's model made ready to be handed on: the package with its origin, and without the folders of this machine."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from core.errors import PackageError
from core.task import Packaged, task_of
from core.track.card import write_card
from core.track.folder import read_record
from core.track.package import RESERVED, load_package, save_package
from core.track.provenance import PROVENANCE, TRAINING, provenance

_FOLDERS = re.compile(r"(?:(?:sqlite|file):/*|(?<![\w:./]))/(?:[^/\s,\]'\"]+/)+")
"""The folders in front of a name, in an absolute path."""


def bundle(run: Path, target: Path) -> Path:
    """Writes the package of a finished run with ``provenance`` in its metadata; returns its folder.

    Provenance is the commit, the command line, the seed, versions, and the scores of the model and its baselines, see
    :func:`core.track.provenance.provenance`. Of absolute paths only the last name stays, in the command and in the
    data's configuration. The model card is written again.

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
    training = metadata.pop(TRAINING, None) or provenance(record)
    metadata = _without_folders(metadata | {PROVENANCE: training})
    handed_on = load_package(
        save_package(target, Packaged(package.config, package.tensors(), metadata), package.task)
    )
    write_card(handed_on, task_of(handed_on), handed_on.folder)
    return handed_on.folder


def _without_folders(value: Any) -> Any:
    if isinstance(value, str):
        return _FOLDERS.sub("", value)
    if isinstance(value, dict):
        return {key: _without_folders(part) for key, part in value.items()}
    return [_without_folders(part) for part in value] if isinstance(value, list) else value
