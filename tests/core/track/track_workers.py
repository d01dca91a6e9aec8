"""What the processes of the concurrency tests do. A server process imports this once and forks them."""

from __future__ import annotations

import os
import warnings

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import mlflow.pyfunc
    import mlflow.store.tracking.sqlalchemy_store  # noqa: F401

from track_fakes import TASK, make_run

from core.track.registry import register
from core.track.store import ensure_database, sqlite_uri


def train(folder, number, barrier, answers):
    """Trains once on a database that may be missing: value and losses tell who wrote them."""
    lines = []
    barrier.wait()
    run, package = make_run(folder / "runs", sqlite_uri(folder / "mlflow.db"), say=lines.append)
    for step in range(20):
        run.log_metrics({"loss": step + float(number)}, step)
        if step % 5 == 0:
            run.flush()
    outcome = register(run, package, TASK, metric="mape", value=10.0 - number, digest="d" * 64)
    run.finish()
    answers.put((number, outcome, lines))


def migrate(path):
    """Creates a database."""
    ensure_database(path)


def train_on_server(login, folder, uri, value, barrier, answers):
    """Trains once on a server as one of its users."""
    os.environ["MLFLOW_TRACKING_USERNAME"], os.environ["MLFLOW_TRACKING_PASSWORD"] = login
    lines = []
    barrier.wait()
    run, package = make_run(folder / login[0], uri, factor=value, say=lines.append)
    run.log_params({"value": value})
    run.save_config(f"value: {value}\n")
    for step in range(20):
        run.log_metrics({"loss": step + value, "system/load": 0.5}, step)
        if step % 5 == 0:
            run.flush()
    outcome = register(run, package, TASK, metric="mape", value=value, digest="d" * 64)
    run.finish()
    answers.put((value, outcome, lines))
