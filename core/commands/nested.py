"""What ``compare`` and ``sweep`` share: many trainings in one folder, nested runs of one parent run."""

from __future__ import annotations

import gc
import traceback
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from core.commands import train
from core.config import dump_config, flatten, to_dict
from core.errors import ConfigError, Interrupted, SkipwayError, TrackingError
from core.task import Task
from core.track.folder import read_record, write_atomic
from core.track.run import Nested, Run
from core.track.store import public_uri

CONFIG = "config.yaml"
FREE = ("output", "tracking", "register", "promote")
"""Options that may change when the trainings of a folder go on."""


def trials_bar(console: Console) -> Progress:
    """Returns the progress bar of many trainings."""
    columns = (
        TextColumn("[bold]{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=console)


def without_password(config: Any) -> Any:
    """Returns the configuration without the password that a tracking address may hold."""
    return replace(config, tracking=config.tracking and public_uri(config.tracking))


def check_folder(folder: Path | None, known: bool, what: str) -> None:
    """Raises ``ConfigError`` if a folder holds something else.

    Args:
        folder: What ``--output`` or ``--resume`` names; None for a new folder.
        known: Whether it holds one of these already.
        what: ``comparison`` or ``sweep``.
    """
    if folder is None:
        return
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"--output {folder} is a file; name a folder")
    visible = folder.is_dir() and any(not path.name.startswith(".") for path in folder.iterdir())
    if visible and not known:
        raise ConfigError(f"--output {folder} holds something else than a {what}; name a new folder")


def same_config(folder: Path, config: Any, free: Collection[str] = FREE) -> None:
    """Raises ``ConfigError`` unless the trainings of the folder were made with this configuration."""
    before = flatten(yaml.safe_load((folder / CONFIG).read_text(encoding="utf-8")))
    now = flatten(yaml.safe_load(dump_config(config)))
    for key in [key for key in before | now if key not in free]:
        if before.get(key) != now.get(key):
            raise ConfigError(
                f"{folder} was made with {key} {before.get(key)}, not {now.get(key)}: its trainings would not "
                "compare; give another --output"
            )


def check_digest(folder: Path, known: Collection[str], data: Any) -> None:
    """Raises ``ConfigError`` if the data is not what the folder was made with.

    Args:
        folder: Folder of the trainings.
        known: Digests of the data that they were made with.
        data: A :class:`core.task.Dataset`.
    """
    if any(digest != data.digest for digest in known):
        raise ConfigError(
            f"{data.name} is not the data that {folder} was made with (its digest differs); give another --output"
        )


def start_parent(parent: Run, folder: Path, config: Any, data: Any, params: dict[str, Any]) -> None:
    """Saves the configuration in the folder, and starts the parent run.

    Args:
        parent: The run.
        folder: Folder of the trainings.
        config: What all of them share.
        data: A :class:`core.task.Dataset`.
        params: Logged beside the configuration.
    """
    public = without_password(config)
    if not (folder / CONFIG).exists():
        write_atomic(folder / CONFIG, dump_config(public))
    parent.save_config(dump_config(public))
    parent.start()
    parent.log_params(flatten(to_dict(public)) | params)
    parent.log_dataset(data.name, data.size, data.digest, "training and test")


def parent_tags(run: str, mlflow_run_id: str | None) -> dict[str, str]:
    """Returns the tags that put a run below its parent."""
    return {"skipway.parent": run} | ({"mlflow.parentRunId": mlflow_run_id} if mlflow_run_id else {})


def resumable(folder: Path, task: Task, run: str) -> str | None:
    """Returns the folder of a training that was interrupted; None if there is nothing of it, or it has ended since."""
    half = folder / task.name / run
    if not run or not half.is_dir() or read_record(half).status == "FINISHED":
        return None
    return str(half)


def train_nested(
    task: Task, config: Any, resume: str | None, nested: Nested, finish: Callable[[], str]
) -> str:
    """Makes one training; its failure is a result, and a defect costs none of the others.

    Args:
        task: The task.
        config: Its configuration, whose ``output`` is the folder of all trainings.
        resume: Folder of the run to go on with.
        nested: What the run has to do with the parent.
        finish: Takes the results of the training; returns why they are no results, empty if they are.

    Returns:
        Why it failed; empty if it did not.

    Raises:
        Interrupted: The training was stopped and can go on.
        TrackingError: The store cannot be used, which no other training could either.
    """
    try:
        train.run(task, config, resume, nested)
        return finish()
    except (Interrupted, KeyboardInterrupt, TrackingError):
        raise
    except SkipwayError as error:
        return str(error)
    except Exception as error:
        errors = Path(config.output) / "errors"
        errors.mkdir(exist_ok=True)
        (errors / f"{nested.name}.txt").write_text(traceback.format_exc(), encoding="utf-8")
        return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
    finally:
        gc.collect()  # models and optimisers refer to themselves in circles
