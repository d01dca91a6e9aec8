"""The folder of one run, ``<output>/<task>/<run id>/``, the complete record that everything else mirrors.

========================  ==========================================================================
``config.yaml``           resolved configuration; re-runs the run
``run.json``              :class:`Record`
``metrics.jsonl``         one line a log call: ``step``, ``time`` in Unix seconds, ``values``
``figures/``              PNG files
``report.html``           the report, and ``report.json``, from which it can be written again
``checkpoints/``          training state
``package/``              the model, see :mod:`core.track.package`
``README.md``             the model card, see :mod:`core.track.card`
========================  ==========================================================================
"""

from __future__ import annotations

import json
import math
import os
import secrets
import shutil
import socket
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from core.errors import TrackingError
from core.files import load_json, naming
from core.registry import nearest

RECORD = "run.json"
METRICS = "metrics.jsonl"
SYSTEM_PREFIX = "system/"


@dataclass
class Record:
    """Content of ``run.json``.

    Attributes:
        status: ``RUNNING``, ``FINISHED``, ``FAILED`` or ``KILLED``.
        started: Unix time in seconds; ``ended`` is None while the run is going.
        params: Flat configuration.
        datasets: ``name``, ``size``, ``digest`` and ``context`` of each.
        metrics: Last value of each metric.
        pid: Process, with ``host`` and ``process_started``, that tell whether the run is alive.
        tracking: Address of the mirror without credentials, None for ``--tracking none``.
        mlflow_run_id: Run of the mirror.
        registration: What to register; kept so that a run without a server can be registered later.
        sync: What the mirror has already got, see :mod:`core.track.mirror`.
    """

    id: str
    task: str
    status: str = "RUNNING"
    started: float = 0.0
    ended: float | None = None
    params: dict[str, Any] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    datasets: list[dict[str, Any]] = field(default_factory=list)
    metrics: dict[str, Any] = field(default_factory=dict)
    pid: int = 0
    host: str = ""
    process_started: float = 0.0
    tracking: str | None = None
    mlflow_run_id: str | None = None
    registration: dict[str, Any] | None = None
    sync: dict[str, Any] = field(default_factory=dict)


def write_atomic(path: Path, text: str) -> None:
    """Writes a text file so that a reader, or a kill, sees the old content or the new one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with naming(path), open(temporary, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)  # it is there only if something went wrong


def finite(value: Any) -> Any:
    """Returns JSON content with the numbers that JSON lacks as the strings ``nan``, ``inf`` and ``-inf``."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(float(value))
    if isinstance(value, dict):
        return {key: finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [finite(entry) for entry in value]
    return value


def create_folder(root: Path, task: str) -> Path:
    """Makes ``root/task/<run id>`` and returns it; ids are unique among processes that start together."""
    while True:
        name = f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"
        folder = root.absolute() / task / name
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError as error:
            raise TrackingError(f"cannot create the run folder {folder}: {error.strerror}") from None
        return folder


def read_record(folder: Path) -> Record:
    """Reads ``run.json``.

    Raises:
        TrackingError: it is missing or damaged.
    """
    path = folder / RECORD
    try:
        content = load_json(path.read_text(encoding="utf-8"))
        known = {entry.name for entry in fields(Record)}
        return Record(**{key: value for key, value in content.items() if key in known})
    except FileNotFoundError:
        raise TrackingError(f"{folder} is not a run folder: it has no {RECORD}") from None
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise TrackingError(f"{path} cannot be read: {error}") from None


def write_record(folder: Path, record: Record) -> None:
    """Writes ``run.json`` atomically, as strict JSON."""
    text = json.dumps(finite(asdict(record)), indent=2, default=str, allow_nan=False)
    write_atomic(folder / RECORD, text + "\n")


def metrics_line(values: dict[str, float], step: int, moment: float) -> str:
    """Returns one line of ``metrics.jsonl``; values that are not finite become strings, for strict JSON."""
    clean = finite({key: float(value) for key, value in values.items()})
    return json.dumps({"step": int(step), "time": round(moment, 3), "values": clean}, allow_nan=False) + "\n"


def append_metrics(folder: Path, line: str) -> None:
    """Appends a line to ``metrics.jsonl``, the whole of it or nothing: half a line would spoil the next one.

    Raises:
        OSError: It cannot be written, as on a full disk.
    """
    path = folder / METRICS
    with naming(path), open(path, "ab", buffering=0) as file:
        end, rest = file.tell(), line.encode()
        try:
            while rest:
                rest = rest[file.write(rest) :]
        except OSError:
            file.truncate(end)
            raise


def parse_metrics(text: str) -> Iterator[tuple[int, float, dict[str, float]]]:
    """Yields step, Unix time in seconds and values of each complete line."""
    for line in text.splitlines(keepends=True):
        if line.endswith("\n") and line.strip():
            entry = load_json(line)
            yield entry["step"], entry["time"], {key: float(value) for key, value in entry["values"].items()}


def mend_metrics(folder: Path) -> None:
    """Cuts off the half line that a kill may have left at the end of ``metrics.jsonl``."""
    path = folder / METRICS
    if not path.exists():
        return
    content = path.read_bytes()
    complete = content[: content.rfind(b"\n") + 1]
    if complete != content:
        with open(path, "r+b") as file:
            file.truncate(len(complete))


def remove_leftovers(folder: Path) -> None:
    """Removes the temporary files and folders that killed processes have left in a run folder."""
    for pattern in (".*.tmp", "package/.*.tmp", ".*.old", "checkpoints/*/.*.tmp"):
        for path in folder.glob(pattern):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def read_metrics(folder: Path, system: bool = False) -> dict[str, list[tuple[int, float]]]:
    """Reads the curves of a run: metric name to ``(step, value)`` in the order of steps.

    A resumed run logs some steps a second time; the later value counts.

    Args:
        folder: Run folder.
        system: Also return the machine's load, ``system/...``, whose steps are seconds since the start.
    """
    path = folder / METRICS
    curves: dict[str, dict[int, float]] = {}
    for step, _, values in parse_metrics(path.read_text(encoding="utf-8") if path.exists() else ""):
        for key, value in values.items():
            if system or not key.startswith(SYSTEM_PREFIX):
                curves.setdefault(key, {})[step] = value
    return {key: sorted(curve.items()) for key, curve in curves.items()}


def list_runs(root: Path, task: str | None = None) -> list[Path]:
    """Returns the run folders under an output folder (or a task's, or one run's), the oldest first.

    Records are not read, so a damaged one hides no other run.
    """
    if (root / RECORD).exists():
        return [root]
    found = {*root.glob(f"{task or '*'}/*/{RECORD}"), *(() if task else root.glob(f"*/{RECORD}"))}
    return sorted((path.parent for path in found), key=lambda folder: folder.name)  # starts with the time


def read_runs(folders: Iterable[Path]) -> Iterator[tuple[Path, Record]]:
    """Yields each run folder with its record; a damaged one costs a line on stderr and is left out."""
    for folder in folders:
        try:
            yield folder, read_record(folder)
        except TrackingError as error:
            print(f"warning: {error}; the run is left out", file=sys.stderr)


def find_run(root: Path, ident: str, task: str | None = None) -> Path:
    """Finds a run folder by its id, a path, its MLflow run id, or ``last``.

    Raises:
        TrackingError: there is none; names the nearest id.
    """
    path = Path(ident)
    if (path / RECORD).exists():
        return path.absolute()
    runs = list_runs(root, task)
    where = root / task if task else root
    if ident == "last":
        for folder, _ in read_runs(reversed(runs)):
            return folder
        raise TrackingError(f"there is no run in {where} to resume")
    for folder in runs:
        if ident == folder.name:
            return folder
    for folder, record in read_runs(runs):
        if ident == record.mlflow_run_id:
            return folder
    raise TrackingError(f"there is no run {ident!r} in {where}.{nearest(ident, [run.name for run in runs])}")


def process_identity() -> dict[str, Any]:
    """Returns ``pid``, ``host`` and ``process_started`` of this process."""
    import psutil

    pid = os.getpid()
    return {
        "pid": pid,
        "host": socket.gethostname(),
        "process_started": psutil.Process(pid).create_time(),
    }


def is_stale(record: Record) -> bool:
    """Tells whether a run says RUNNING while its process on this machine is gone."""
    if record.status != "RUNNING" or record.host != socket.gethostname():
        return False
    import psutil

    try:
        # A number is used again after a while; the start time tells the two processes apart.
        return abs(psutil.Process(record.pid).create_time() - record.process_started) > 1.0
    except psutil.NoSuchProcess:
        return True


def mark_stale(root: Path) -> list[Path]:
    """Sets the stale runs under ``root`` to KILLED and returns them."""
    marked = []
    for folder, record in read_runs(list_runs(root)):
        if is_stale(record):
            record.status, record.ended = "KILLED", time.time()
            record.sync["complete"] = False  # the mirror still says RUNNING
            write_record(folder, record)
            marked.append(folder)
    return marked
