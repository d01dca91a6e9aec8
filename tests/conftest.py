"""Fixtures that several parts share."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def pytest_configure(config):
    # MLflow 3.17 uses a loader that SQLAlchemy 2.1 deprecates; the warning comes when MLflow is imported.
    config.addinivalue_line("filterwarnings", "ignore:The ``noload`` loader strategy:DeprecationWarning")


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch):
    """Keeps the developer's MLflow settings out of the tests, and the tests' settings out of each other."""
    for name in [name for name in os.environ if name.startswith("MLFLOW_")]:
        monkeypatch.delenv(name)
    yield
    for name in [name for name in os.environ if name.startswith("MLFLOW_")]:
        del os.environ[name]


@pytest.fixture(scope="session")
def _migrated(tmp_path_factory):
    """A database with all tables; making them takes seconds."""
    from core.track.store import ensure_database

    path = tmp_path_factory.mktemp("migrated") / "mlflow.db"
    ensure_database(path)
    return path


@pytest.fixture
def tracking(_migrated, tmp_path):
    """Address of an empty SQLite store of this test."""
    from core.track.store import sqlite_uri

    path = tmp_path / "store" / "mlflow.db"
    path.parent.mkdir()
    shutil.copy(_migrated, path)
    return sqlite_uri(path)


@pytest.fixture
def run_python(tmp_path):
    """Runs code in a fresh process, in an empty folder, and returns what it prints."""

    def run(code):
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.fixture
def stop_after():
    """A context in which the process gets SIGTERM once a training has made a number of steps."""

    @contextmanager
    def stopping(step):
        from core.commands import train

        original = train.Observer

        def observer(advance, log, validated):
            def count(done, total):
                advance(done, total)
                if done == step:
                    os.kill(os.getpid(), signal.SIGTERM)

            return original(count, log, validated)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(train, "Observer", observer)
            yield

    return stopping
