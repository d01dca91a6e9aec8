"""Copies a run folder to MLflow. The live run, its end and a later ``sync`` are the same steps.

``Record.sync`` remembers what has arrived: ``offset`` bytes of ``metrics.jsonl``, digests of ``params`` and
``tags``, the number of ``datasets``, ``artifacts`` with size and time, the logged ``model`` with the package
it came from, the ``version`` in the registry, and ``complete``. A step that was sent twice changes nothing on
the server.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import SkipwayError
from core.task import Task
from core.track import registry, store
from core.track.folder import METRICS, RECORD, SYSTEM_PREFIX, Record, parse_metrics, write_record
from core.track.package import METADATA, load_package
from core.track.promotion import Policy, Score

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric

# Limits of MLflow's batch calls, https://mlflow.org/docs/latest/rest-api.html
METRICS_PER_CALL, PAIRS_PER_CALL = 1000, 100
PARAM_LENGTH, TAG_LENGTH = 6000, 5000

_PACKAGE = "package"


def experiment_name(task: str) -> str:
    """Returns the experiment of a task."""
    return f"skipway/{task}"


def clean_key(key: str) -> str:
    """Replaces the characters that MLflow does not allow in names of params, tags and metrics."""
    return re.sub(r"[^\w\-./ :]", "_", key, flags=re.ASCII)[:250]


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _slices(items: list[Any], size: int) -> Iterable[list[Any]]:
    return (items[start : start + size] for start in range(0, len(items), size))


class Mirror:
    """The MLflow copy of one run folder. Methods raise what :func:`core.track.store.failures` lists.

    Args:
        folder: Run folder.
        record: Its record; ``mlflow_run_id`` and ``sync`` are kept up to date in it and on disk.
        uri: Address of the store.
    """

    def __init__(self, folder: Path, record: Record, uri: str) -> None:
        self.folder, self.record, self.uri = folder, record, uri
        if record.tracking != store.public_uri(uri):  # another store has none of it yet
            record.tracking, record.mlflow_run_id, record.sync = store.public_uri(uri), None, {}
        self._client: MlflowClient | None = None

    @property
    def client(self) -> MlflowClient:
        """Client of the store; the store is prepared at first use."""
        if self._client is None:
            store.prepare(self.uri)
            from mlflow import MlflowClient

            self._client = MlflowClient(tracking_uri=self.uri, registry_uri=self.uri)
        return self._client

    def _save(self, **arrived: Any) -> None:
        self.record.sync.update(arrived)
        write_record(self.folder, self.record)

    # ---------------------------------------------------------------- while the run goes on

    def push(self) -> None:
        """Sends what the folder has and the store has not: run, tags, params, data sets, metrics."""
        client = self.client
        with store.exclusive(self.uri):
            run_id = self._ensure_run()
            self._push_params(client, run_id)
            self._push_tags(client, run_id)
            self._push_datasets(client, run_id)
            self._push_metrics(client, run_id)

    def _ensure_run(self) -> str:
        from mlflow.exceptions import MlflowException

        if self.record.mlflow_run_id is not None:
            if self.record.sync.get("opened"):
                return self.record.mlflow_run_id
            try:
                self.client.update_run(
                    self.record.mlflow_run_id, status=self.record.status, name=self.record.id
                )
            except MlflowException as error:
                if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                    raise
                self.record.sync = {}  # somebody deleted it on the server: everything goes there again
            else:
                self._save(opened=True)
                return self.record.mlflow_run_id
        experiment = self._experiment()
        # The answer to an earlier try may be what got lost.
        mine = f"tags.`skipway.run` = '{self.record.id}'"
        found = self.client.search_runs([experiment], mine) if self.record.sync.get("asked") else []
        self._save(asked=True)
        run = (
            found[0]
            if found
            else self.client.create_run(
                experiment,
                start_time=int(self.record.started * 1000),
                tags={"skipway.run": self.record.id},
                run_name=self.record.id,
            )
        )
        self.record.mlflow_run_id = run.info.run_id
        self._save(opened=True)
        return run.info.run_id

    def _experiment(self) -> str:
        from mlflow.exceptions import MlflowException

        name = experiment_name(self.record.task)
        found = self.client.get_experiment_by_name(name)
        if found is None:
            root = store.artifact_root(self.uri)
            # The default location would be relative to the working directory of whoever writes.
            location = (root / name.replace("/", "-")).as_uri() if root else None
            try:
                return self.client.create_experiment(name, artifact_location=location)
            except MlflowException as error:  # on a server another run may have made it just now
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
                found = self.client.get_experiment_by_name(name)
                assert found is not None
        return found.experiment_id

    def _push_params(self, client: MlflowClient, run_id: str) -> None:
        from mlflow.entities import Param, RunTag

        digest = _digest(self.record.params)
        if self.record.sync.get("params") == digest or not self.record.params:
            return
        wanted = {clean_key(key): str(value)[:PARAM_LENGTH] for key, value in self.record.params.items()}
        present = client.get_run(run_id).data.params
        new = [Param(key, value) for key, value in wanted.items() if key not in present]
        # MLflow lets no param change, but a resumed run may have other settings.
        changed = [
            RunTag(clean_key(f"resumed.{key}"), value[:TAG_LENGTH])
            for key, value in wanted.items()
            if present.get(key, value) != value
        ]
        for params in _slices(new, PAIRS_PER_CALL):
            client.log_batch(run_id, params=params)
        for tags in _slices(changed, PAIRS_PER_CALL):
            client.log_batch(run_id, tags=tags)
        self._save(params=digest)

    def _push_tags(self, client: MlflowClient, run_id: str) -> None:
        from mlflow.entities import RunTag

        digest = _digest(self.record.tags)
        if self.record.sync.get("tags") == digest:
            return
        tags = [RunTag(clean_key(key), str(value)[:TAG_LENGTH]) for key, value in self.record.tags.items()]
        for part in _slices(tags, PAIRS_PER_CALL):
            client.log_batch(run_id, tags=part)
        self._save(tags=digest)

    def _push_datasets(self, client: MlflowClient, run_id: str) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        done = self.record.sync.get("datasets", 0)
        inputs = [
            DatasetInput(
                # The store keeps 36 characters of a digest; the whole one is in the profile.
                Dataset(
                    name=entry["name"][:500],
                    digest=entry["digest"][:32],
                    source_type="local",
                    source=json.dumps({"uri": entry["name"]}),
                    profile=json.dumps({"size": entry["size"], "sha256": entry["digest"]}),
                ),
                [InputTag("mlflow.data.context", entry["context"])],
            )
            for entry in self.record.datasets[done:]
        ]
        if inputs:
            store.repeated(lambda: client.log_inputs(run_id, inputs))
            self._save(datasets=done + len(inputs))

    def _push_metrics(self, client: MlflowClient, run_id: str) -> None:
        offset = self.record.sync.get("offset", 0)
        metrics, end = self._read_metrics(offset)
        for part in _slices(metrics, METRICS_PER_CALL):
            client.log_batch(run_id, metrics=part)
        if end > offset:
            self._save(offset=end)

    def _read_metrics(self, offset: int) -> tuple[list[Metric], int]:
        """Returns the metrics from a byte of the file on, and the byte after the last complete line."""
        from mlflow.entities import Metric

        path = self.folder / METRICS
        if not path.exists():
            return [], offset
        with open(path, "rb") as file:
            file.seek(offset)
            content = file.read()
        content = content[: content.rfind(b"\n") + 1]
        metrics = [
            Metric(clean_key(key), value, int(moment * 1000), step)
            for step, moment, values in parse_metrics(content.decode())
            for key, value in values.items()
        ]
        return metrics, offset + len(content)

    # ---------------------------------------------------------------- at the end, and in sync

    def complete(self, task: Task | None = None) -> None:
        """Sends the rest: artifacts, package, registration and the final status.

        Args:
            task: Task of the run; loaded by name if needed and not given.
        """
        self.push()
        self.push_artifacts()
        if (self.folder / _PACKAGE / METADATA).exists():
            self.push_model(task)
            self.push_version()
        self.push_status()
        self._save(complete=self.record.status != "RUNNING")

    def push_artifacts(self) -> None:
        """Sends files that are new or changed. The package goes as a model, params and metrics as such."""
        known: dict[str, str] = self.record.sync.get("artifacts", {})
        assert self.record.mlflow_run_id is not None
        for path in sorted(self.folder.rglob("*")):
            relative = path.relative_to(self.folder)
            hidden = any(part.startswith(".") for part in relative.parts) or path.suffix == ".tmp"
            apart = relative.parts[0] in (_PACKAGE, RECORD, METRICS) or path.name.startswith("prev")
            if hidden or apart or not path.is_file():
                continue
            stat = path.stat()
            stamp = f"{stat.st_size}:{stat.st_mtime_ns}"
            if known.get(relative.as_posix()) != stamp:
                place = relative.parent.as_posix()
                self.client.log_artifact(
                    self.record.mlflow_run_id, str(path), None if place == "." else place
                )
                known[relative.as_posix()] = stamp
                self._save(artifacts=known)

    def push_model(self, task: Task | None = None) -> None:
        """Logs ``package/`` as a pyfunc unless a model of the same weights and configuration is there already."""
        from core.task import task_of
        from core.track.pyfunc import log_package

        package = load_package(self.folder / _PACKAGE)
        # Not of all metadata: a run that is resumed after this writes the same model at another time.
        digest = _digest(package.metadata["sha256"])
        if self.record.sync.get("package") == digest:
            return
        assert self.record.mlflow_run_id is not None
        # Results have step 0; the step of the machine's load is a time.
        scores = [
            metric
            for metric in self._read_metrics(0)[0]
            if metric.step == 0 and not metric.key.startswith(SYSTEM_PREFIX)
        ]
        with store.exclusive(self.uri):
            model = log_package(
                self.client,
                package,
                task or task_of(package),
                self.record.mlflow_run_id,
                digest=digest,
                scores=scores[:METRICS_PER_CALL],
            )
        self._save(package=digest, model=model, version=None)

    def push_version(self) -> str | None:
        """Registers the logged model if that was asked for; returns the version."""
        request = self.record.registration
        if request is None or self.record.sync.get("version"):
            return self.record.sync.get("version")
        score = Score(**request["score"])
        assert self.record.mlflow_run_id is not None
        tags = {**registry.score_tags(score), "run": self.record.id, "task": self.record.task}
        version = registry.create_version(
            request["name"], self.record.sync["model"], self.record.mlflow_run_id, tags
        )
        self._save(version=version)
        return version

    def push_status(self) -> None:
        """Sends the run's status and, if it is over, its end."""
        assert self.record.mlflow_run_id is not None
        if self.record.status == "RUNNING":
            self.client.update_run(self.record.mlflow_run_id, status="RUNNING")
        else:
            end = int((self.record.ended or time.time()) * 1000)
            self.client.set_terminated(self.record.mlflow_run_id, self.record.status, end)

    def late_promotion(self, task: Task) -> str | None:
        """Decides about a version that was registered late, from recorded scores; returns the sentence."""
        version, request = self.record.sync.get("version"), self.record.registration
        if version is None or request is None:
            return None
        try:
            return registry.promote_if_better(task, version, None, Policy(**request["policy"])).reason
        except SkipwayError as error:
            return f"not promoted: {error}"
