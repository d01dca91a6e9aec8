"""One training run: a folder on disk that is always complete, and its mirror in MLflow."""

from __future__ import annotations

import os
import shutil
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from core.track import folder as folders
from core.track import store
from core.track.environment import environment_tags
from core.track.folder import Record
from core.track.promotion import Policy, Score
from core.track.system import SystemSampler

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from core.task import Task

Status = Literal["FINISHED", "FAILED", "KILLED"]

FLUSH_SECONDS = 2.0
"""Shortest time between two sends of metrics."""


def _say(line: str) -> None:
    print(line, file=sys.stderr)


@dataclass(frozen=True)
class Nested:
    """A training that is one of several under a parent run; it says nothing on the console by itself.

    Attributes:
        name: Word in front of the run's id.
        params: Logged beside its configuration.
        tags: Tags such as ``mlflow.parentRunId``.
        opened: Called with the run as soon as it exists.
        advance: Called with the optimiser steps made and to make, over all parts.
        validated: Called after a validation with the name of the part (empty where there is one), the value that
            early stopping watches, all that was measured, and the share of all optimiser steps that was made.
        validations: How often a part is validated where its configuration does not say; 0 for not. A part that has
            nothing to validate on keeps some of its training data out.
        tested: Whether the trained model is packaged, tested, reported and registered.
    """

    name: str
    params: dict[str, Any]
    tags: dict[str, str]
    opened: Callable[[Run], None]
    advance: Callable[[int, int], None]
    validated: Callable[[str, float, dict[str, float], float], None] | None = None
    validations: int = 0
    tested: bool = True


class Run:
    """A run, made by :meth:`create` or :meth:`open`.

    Everything is written to the folder first. If the store fails, one warning is said and no more is sent;
    ``python -m core.track sync`` sends the rest later.

    Attributes:
        folder: The run folder.
        record: Content of ``run.json``.
        resumed: Whether the run existed before.
        keep_checkpoints: Whether training state outlives a run that has finished.
    """

    def __init__(self, folder: Path, record: Record, uri: str | None, say: Callable[[str], None]) -> None:
        self.folder, self.record, self._uri, self._say = folder, record, uri, say
        self.resumed, self.keep_checkpoints = False, True
        self._mirror: Any = None
        self._lock = threading.RLock()  # the system sampler writes from its own thread
        self._sampler: SystemSampler | None = None
        self._sent = 0.0

    @classmethod
    def create(
        cls,
        task: str,
        root: Path,
        uri: str | None,
        say: Callable[[str], None] = _say,
        *,
        name: str = "",
        tags: dict[str, str] | None = None,
    ) -> Run:
        """Makes the folder of a new run.

        Args:
            task: Name of the task.
            root: Output folder; the run lies in ``root/task/<id>``.
            uri: Address of the store from :func:`core.track.store.resolve_uri`; None for the folder only.
            say: Prints the warning line.
            name: Word in front of the run's id, for runs that are one of several.
            tags: Tags beside those of the environment.
        """
        folder = folders.create_folder(Path(root), task)
        if name:
            folder = folder.rename(folder.with_name(f"{name}-{folder.name}"))
        record = Record(id=folder.name, task=task, started=time.time(), tags=tags or {})
        run = cls(folder, record, uri, say)
        run._save()
        return run

    @classmethod
    def open(
        cls,
        root: Path,
        ident: str,
        uri: str | None,
        task: str | None = None,
        say: Callable[[str], None] = _say,
    ) -> Run:
        """Opens a run to go on with it; the MLflow run stays the same if ``uri`` does.

        Args:
            root: Output folder.
            ident: Folder name, path, MLflow run id, or ``last``.
            uri: Address of the store.
            task: Restricts ``last`` and ids to one task.
            say: Prints the warning line.

        Raises:
            TrackingError: there is no such run, it is damaged, or it is still running.
        """
        from core.errors import TrackingError

        folder = folders.find_run(Path(root), ident, task)
        record = folders.read_record(folder)
        mine = folders.process_identity()
        alive = record.pid != 0 and record.status == "RUNNING" and record.host == mine["host"]
        if alive and record.pid != mine["pid"] and not folders.is_stale(record):
            raise TrackingError(
                f"run {record.id} is still running in process {record.pid}; wait or end it first"
            )
        run = cls(folder, record, uri, say)
        run.resumed = True
        return run

    # ---------------------------------------------------------------- places

    @property
    def id(self) -> str:
        """Name of the folder."""
        return self.record.id

    @property
    def mlflow_run_id(self) -> str | None:
        """Run of the mirror, None while there is none."""
        return self.record.mlflow_run_id

    @property
    def why_offline(self) -> str:
        """Words on why the mirror takes no part."""
        if self._uri is None:
            return f"tracking is none; `python -m core.track sync {self.folder} --tracking URI` does it"
        return f"`python -m core.track sync {self.folder}` does it later"

    @property
    def package_folder(self) -> Path:
        """Where the model package goes."""
        return self.folder / "package"

    @property
    def checkpoints(self) -> Path:
        """Where training state goes."""
        return self.folder / "checkpoints"

    # ---------------------------------------------------------------- life

    def start(self, seed: int | None = None, system_metrics: float = 0.0) -> None:
        """Marks the run as running, with the environment in its tags, and opens the mirror.

        Args:
            seed: Seed of the training.
            system_metrics: Seconds between readings of the machine's load; 0 for none.

        Raises:
            TrackingError: a local database is damaged or of another version, before anything was trained.
        """
        with self._lock:
            folders.mend_metrics(self.folder)
            folders.remove_leftovers(self.folder)
            for key, value in folders.process_identity().items():
                setattr(self.record, key, value)
            self.record.status, self.record.ended = "RUNNING", None
            self.record.sync.update(complete=False, opened=False)
            self.record.tags |= {"skipway.run": self.id, "skipway.task": self.record.task}
            before = self.record.tags if self.resumed else {}
            self.record.tags |= environment_tags(seed)
            # The command that began the run can repeat it, the one that resumed it cannot; a change that was in no
            # commit then stays in the result.
            self.record.tags |= {
                k: v for k, v in before.items() if k == "command" or (k, v) == ("git.dirty", "true")
            }
            self._save()
            if self._uri is not None:
                if not self.resumed:
                    self._adopt()
                store.prepare(self._uri)
                from core.track.mirror import Mirror

                self._mirror = Mirror(self.folder, self.record, self._uri)
                self._save()  # the mirror may have changed the address
                self._attempt("open the run", self._mirror.push)
        if system_metrics > 0:
            self._sampler = SystemSampler(self._append, self.record.started, system_metrics)

    def finish(self, status: Status = "FINISHED") -> None:
        """Ends the run and sends everything that the store has not got; a second call changes nothing."""
        if self._sampler is not None:
            self._sampler.stop()
            self._sampler = None
        with self._lock:
            if self.record.ended is not None:
                return
            self.record.status, self.record.ended = status, time.time()
            curves = folders.read_metrics(self.folder)
            self.record.metrics = {key: curve[-1][1] for key, curve in curves.items()}
            self._save()
            if status == "FINISHED" and not self.keep_checkpoints:
                shutil.rmtree(self.checkpoints, ignore_errors=True)
            if self._mirror is not None:
                self._attempt("upload the run", self._mirror.complete)

    # ---------------------------------------------------------------- content

    def log_params(self, params: dict[str, Any]) -> None:
        """Adds flat parameters. One that a resumed run changed also becomes the tag ``resumed.<key>``."""
        with self._lock:
            for key, value in params.items():
                if key in self.record.params and str(self.record.params[key]) != str(value):
                    self.record.tags[f"resumed.{key}"] = str(value)
                self.record.params[key] = value
            self._save()
            self._push()

    def log_dataset(self, name: str, size: int, digest: str, context: str = "train") -> None:
        """Adds a data set with its size in samples and content digest; the same one is kept once."""
        entry = {"name": name, "size": size, "digest": digest, "context": context}
        with self._lock:
            if entry not in self.record.datasets:
                self.record.datasets.append(entry)
                self._save()
                self._push()

    def log_metrics(self, values: dict[str, float], step: int) -> None:
        """Appends a line to ``metrics.jsonl``; the mirror gets it within seconds or at the end."""
        self._append(values, step)
        if time.monotonic() - self._sent >= FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Sends metrics that wait."""
        with self._lock:
            self._push()

    def save_config(self, text: str) -> Path:
        """Writes ``config.yaml``; that of an earlier start is kept with a number."""
        path = self.folder / "config.yaml"
        if path.exists() and path.read_text(encoding="utf-8") != text:
            number = sum(1 for _ in self.folder.glob("config.*.yaml")) + 1
            path.rename(self.folder / f"config.{number}.yaml")
        folders.write_atomic(path, text)
        return path

    def save_figure(self, name: str, figure: Figure) -> Path:
        """Writes a figure to ``figures/<name>.png``; ``name`` may hold slashes."""
        path = self.folder / "figures" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=120)
        return path

    def register(self, task: Task, score: Score, policy: Policy) -> str | None:
        """Creates a version of ``package/``, now or in a later ``sync``; None if not now."""
        with self._lock:
            self.record.registration = {
                "name": task.registered_name,
                "score": asdict(score),
                "policy": asdict(policy),
            }
            self.record.sync["version"] = None  # a resumed run registers its new result
            self._save()
            if self._mirror is None:
                return None
            mirror = self._mirror

            def send() -> None:
                mirror.push()
                mirror.push_model(task)
                mirror.push_version()

            self._attempt("register the model", send)
            return self.record.sync.get("version")

    # ---------------------------------------------------------------- inside

    def _adopt(self) -> None:
        """Takes the MLflow run that ``mlflow run`` has opened for this process, instead of a second one."""
        uri = os.environ.get("MLFLOW_TRACKING_URI")
        if self._uri is None or uri is None or "MLFLOW_RUN_ID" not in os.environ:
            return
        # MLflow's own default is a relative address, `sqlite:///mlflow.db`.
        if store.resolve_uri(uri) == self._uri:
            self.record.tracking = store.public_uri(self._uri)
            self.record.mlflow_run_id = os.environ.pop("MLFLOW_RUN_ID")

    def _append(self, values: dict[str, float], step: int) -> None:
        line = folders.metrics_line(values, step, time.time())
        with self._lock:
            folders.append_metrics(self.folder, line)

    def _push(self) -> None:
        if self._mirror is not None:
            self._attempt("send metrics", self._mirror.push)
            self._sent = time.monotonic()

    def _attempt(self, what: str, action: Callable[[], None]) -> None:
        """Runs a step of the mirror; a failure ends the mirror for this run, with one line."""
        try:
            action()
        except (
            Exception
        ) as error:  # logging a model runs the task's code, and a finished training outlives it
            self._mirror = None
            self._say(
                f"warning: could not {what} at {store.public_uri(self._uri or '')} ({store.brief(error)}); "
                f"the run is complete on disk, upload it later: python -m core.track sync {self.folder}"
            )

    def _save(self) -> None:
        folders.write_record(self.folder, self.record)


class NullRun:
    """Stands in for a :class:`Run` on the other ranks of a distributed training: every call does nothing.

    Args:
        folder: Folder of the real run.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def checkpoints(self) -> Path:
        """Where training state goes."""
        return self.folder / "checkpoints"

    def finish(self, status: Status = "FINISHED") -> None:
        """Does nothing."""

    def log_metrics(self, values: dict[str, float], step: int) -> None:
        """Does nothing."""
