"""Where MLflow keeps its records: addresses, first use of a local database, and its lock.

MLflow creates the tables of a missing SQLite file in place. Processes that start together then ruin the file
for good, and so does a kill in the middle. Here the tables are made in a temporary file under a lock and
renamed.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import logging
import os
import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from core.errors import TrackingError

LOCK_SECONDS = 300.0
"""How long a process waits for another one that holds the database's lock."""
TRIES = 5
"""Of a call that others make at the same time."""

_DEFAULTS = {
    # A pickle in a model runs code when it is loaded; MLflow still allows that by default.
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    # MLflow retries for about four minutes; a server that is down must cost seconds, the folder keeps
    # everything.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_JITTER": "0.2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "15",
    # Training data and its names are often private: no usage reports.
    "MLFLOW_DISABLE_TELEMETRY": "true",
    # One progress bar a training is enough.
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    # Failures are told in one line by the caller.
    "MLFLOW_LOGGING_LEVEL": "CRITICAL",
}


def resolve_uri(flag: str | None) -> str | None:
    """Returns the tracking address to use, or None for no tracking.

    An explicit flag wins over ``MLFLOW_TRACKING_URI``, which wins over the default, ``mlflow.db`` in the
    working directory. SQLite addresses come back absolute, so that a later change of directory does not open
    another file.

    Args:
        flag: ``none``, an address such as ``http://host:5000`` or ``sqlite:///runs.db``, the path of a
            ``.db`` file, or None when the flag was not given.

    Raises:
        TrackingError: for a folder of files, a store that MLflow has given up.
    """
    text = flag or os.environ.get("MLFLOW_TRACKING_URI") or "mlflow.db"
    if text.lower() == "none":
        return None
    if text.startswith("sqlite:///"):
        return sqlite_uri(Path(text.removeprefix("sqlite:///")))
    if text.startswith("file:") or ("://" not in text and not text.startswith("databricks")):
        if text.startswith("file:") or not text.endswith((".db", ".sqlite", ".sqlite3")):
            raise TrackingError(
                f"--tracking {text!r}: MLflow keeps no runs in a folder of files any more; "
                "give sqlite:///FILE.db, http://HOST:PORT or none"
            )
        return sqlite_uri(Path(text))
    return text


def sqlite_uri(path: Path) -> str:
    """Returns the absolute SQLite address of a database file, with forward slashes on every system."""
    return "sqlite:///" + Path(os.path.abspath(path)).as_posix()


def sqlite_path(uri: str) -> Path | None:
    """Returns the database file of an SQLite address, or None for any other address."""
    return Path(uri.removeprefix("sqlite:///")) if uri.startswith("sqlite:///") else None


def public_uri(uri: str) -> str:
    """Returns the address without the user name and password that it may hold."""
    try:
        parts = urlsplit(uri)
    except ValueError:
        return uri
    if "@" not in parts.netloc:
        return uri
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def artifact_root(uri: str) -> Path | None:
    """Returns the folder of artifacts beside a local database, or None where the server decides."""
    path = sqlite_path(uri)
    return path.parent / "mlruns" if path else None


def exclusive(uri: str) -> AbstractContextManager[object]:
    """Returns a context in which no other process of ours writes to a local database; nothing for a server.

    SQLite answers "database is locked" when two writers upgrade from reading at the same time.
    """
    path = sqlite_path(uri)
    if path is None:
        return contextlib.nullcontext()
    return _locked(path)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    from filelock import FileLock, Timeout

    try:
        with FileLock(path.with_name(path.name + ".lock"), timeout=LOCK_SECONDS):
            yield
    except Timeout:
        raise TrackingError(
            f"{path} has been locked by another process for {LOCK_SECONDS:.0f} s; is one of them hanging?"
        ) from None
    except OSError as error:
        if Path(error.filename or "").name != path.name + ".lock":
            raise
        raise TrackingError(
            f"cannot write beside {path}: {error.strerror}; give another --tracking"
        ) from None


def require_mlflow() -> str:
    """Returns MLflow's version.

    A folder named ``mlflow`` in the working directory makes ``import mlflow`` succeed without the library, so
    the installed distribution is asked instead.

    Raises:
        TrackingError: if it is not installed.
    """
    for name in ("mlflow", "mlflow-skinny"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            return importlib.metadata.version(name)
    raise TrackingError("mlflow is not installed: pip install mlflow, or use --tracking none")


def prepare(uri: str) -> None:
    """Makes ``uri`` the tracking and registry store of this process; creates a missing local database.

    Sets defaults for MLflow's environment variables where the user has not: pickles refused, few and short
    HTTP retries, no telemetry. A server is not contacted.

    Raises:
        TrackingError: MLflow is missing, or the database is damaged, of another version or not writable.
    """
    require_mlflow()
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)
    if path := sqlite_path(uri):
        ensure_database(path)

    import mlflow

    # urllib3 prints a line for each retry, and alembic one for each table.
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)
    logging.getLogger("mlflow").setLevel(os.environ["MLFLOW_LOGGING_LEVEL"])
    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)


def current() -> str:
    """Returns the address that :func:`prepare` has set."""
    import mlflow

    return mlflow.get_tracking_uri()


def ensure_database(path: Path) -> None:
    """Creates a missing SQLite store completely or not at all; checks an existing one.

    Safe for processes that start at the same moment and against a kill at any moment.

    Raises:
        TrackingError: see :func:`prepare`.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TrackingError(f"cannot create the folder of {path}: {error.strerror}") from None
    if not _has_content(path):
        with _locked(path):
            if not _has_content(path):  # another process may have made it while we waited
                _create(path)
    _check(path)


def _has_content(path: Path) -> bool:
    return path.exists() and path.stat().st_size > 0


def _create(path: Path) -> None:
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    _remove_temporary(path)  # of a process that was killed here
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    level = logging.getLogger("alembic").level
    logging.getLogger("alembic").setLevel(logging.ERROR)
    try:
        # The constructor makes the tables and the default experiment.
        store = SqlAlchemyStore(sqlite_uri(temporary), (path.parent / "mlruns").as_uri())
        store.engine.dispose()
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except failures() as error:  # such as a full disk
        _remove_temporary(path)
        raise TrackingError(f"cannot create {path}: {brief(error)}") from None
    finally:
        logging.getLogger("alembic").setLevel(level)


def _remove_temporary(path: Path) -> None:
    for leftover in path.parent.glob(f".{path.name}.*.tmp*"):
        leftover.unlink(missing_ok=True)


def _check(path: Path) -> None:
    # MLflow would try to repair what it does not know, or wait for minutes on a file that is no database.
    from mlflow.store.db import utils

    try:
        # Not read-only: what a process that was killed has left half written is rolled back by the first who reads.
        with contextlib.closing(
            sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True, timeout=60)
        ) as database:
            tables = {
                row[0] for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            }
            has_version = "alembic_version" in tables
            versions = (
                [row[0] for row in database.execute("SELECT * FROM alembic_version")] if has_version else []
            )
    except sqlite3.DatabaseError as error:
        raise TrackingError(
            f"{path} is not a usable SQLite database ({error}); move it away or give another --tracking"
        ) from None
    expected = utils._get_latest_schema_revision()
    if versions != [expected] or not {"experiments", "runs", "model_versions"} <= tables:
        found = ", ".join(versions) or "none"
        raise TrackingError(
            f"{path} has schema {found}, but mlflow {require_mlflow()} needs {expected}: back it up and run "
            f"`mlflow db upgrade {sqlite_uri(path)}`, or move it away"
        )


def repeated(call: Callable[[], object]) -> None:
    """Makes a call to a store whose repetition changes nothing, again where the database of a server refuses it.

    A server looks for a row and then inserts or updates it. If somebody else inserts or deletes that row in between,
    its database refuses (BAD_REQUEST), and the next try finds what the other one has left.
    """
    from mlflow.exceptions import MlflowException

    for left in reversed(range(TRIES)):
        try:
            call()
        except MlflowException as error:
            if not left or error.error_code != "BAD_REQUEST":
                raise
        else:
            return


def failures() -> tuple[type[Exception], ...]:
    """Returns the exceptions by which a store says that it refuses or cannot be reached."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    # OSError covers refused connections, timeouts (requests' exceptions are OSErrors) and full disks.
    return (MlflowException, SQLAlchemyError, OSError, TrackingError)


def brief(error: BaseException) -> str:
    """Returns the first line of an error, at most 160 characters."""
    # requests wraps a refused connection in several layers of its own words.
    if any(words in str(error) for words in ("Max retries exceeded", "Connection refused", "timed out")):
        return "the server does not answer"
    if refused := re.search(r"failed with error code (40[13]) != 200\. Response body: '(.*)", str(error)):
        user = os.environ.get("MLFLOW_TRACKING_USERNAME") or "nobody"
        if refused[1] == "401":
            return f"the server refuses the login of {user}: see MLFLOW_TRACKING_USERNAME and _PASSWORD"
        if "Host header" in refused[2]:
            return "the server refuses this name of it: its --allowed-hosts must list the name, with port"
        return f"the server does not let {user} do this: its administrator can grant EDIT"
    lines = str(error).strip().splitlines()
    text = lines[0] if lines else type(error).__name__
    return text if len(text) <= 160 else text[:157] + "..."
