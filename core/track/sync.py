"""Uploads run folders whose mirror is incomplete."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from core.errors import SkipwayError, TrackingError
from core.track import folder as folders
from core.track import store
from core.track.mirror import Mirror
from core.track.package import load_package


@dataclass(frozen=True)
class Outcome:
    """What became of one folder.

    Attributes:
        folder: Run folder.
        ok: False if it could not be uploaded.
        text: One sentence.
    """

    folder: Path
    ok: bool
    text: str


def sync(root: Path, uri: str | None = None) -> Iterator[Outcome]:
    """Uploads the runs under a folder that their store has not got whole, one after the other.

    Runs that are going on, and runs made with ``--tracking none``, are left out; the latter are taken if
    ``uri`` is given and ``root`` is the run's own folder.

    Args:
        root: Output folder, a task's folder or one run's.
        uri: Store to upload to; None for the one that each run was made for.

    Raises:
        TrackingError: there is no run at ``root``.
    """
    runs = folders.list_runs(root)
    if not runs:
        raise TrackingError(
            f"there is no run in {root}; give the output folder of a training or one run's folder"
        )
    for folder in runs:
        try:
            outcome = _sync_run(folder, uri, alone=folder == root)
        except SkipwayError as error:
            outcome = Outcome(folder, False, str(error))
        if outcome is not None:
            yield outcome


def _sync_run(folder: Path, uri: str | None, alone: bool) -> Outcome | None:
    record = folders.read_record(folder)
    if record.status == "RUNNING":
        hint = "its process is gone: mark it with `python -m core.track stale --mark`"
        return (
            Outcome(folder, False, hint)
            if folders.is_stale(record)
            else Outcome(folder, True, "still running")
        )
    target = uri or _recorded(record.tracking)
    if target is None or (record.tracking is None and not alone):
        return Outcome(folder, False, "was made with --tracking none; give --tracking URI") if alone else None
    if record.sync.get("complete") and record.tracking == store.public_uri(target):
        return Outcome(folder, True, "is complete already") if alone else None
    folders.remove_leftovers(folder)
    record.sync["opened"] = False  # the run may have been deleted on the server since
    mirror = Mirror(folder, record, target)
    registered = record.sync.get("version")
    store.prepare(target)
    try:
        mirror.complete()
        folders.write_record(folder, record)
    except Exception as error:  # logging a model runs the task's code, which must not stop the other runs
        return Outcome(folder, False, f"{store.public_uri(target)}: {store.brief(error)}")
    text = f"uploaded to {store.public_uri(target)} as {record.mlflow_run_id}"
    if record.sync.get("version") and record.registration and record.sync["version"] != registered:
        from core.task import task_of

        text += f"; {record.registration['name']} version {record.sync['version']}"
        text += f" {mirror.late_promotion(task_of(load_package(folder / 'package')))}"
    return Outcome(folder, True, text)


def _recorded(tracking: str | None) -> str | None:
    """Returns the recorded address; one with a password comes from the environment, never from the folder."""
    if tracking is None:
        return None
    configured = store.resolve_uri(None)
    return configured if configured and store.public_uri(configured) == tracking else tracking
