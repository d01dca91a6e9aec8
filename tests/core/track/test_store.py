from __future__ import annotations

import contextlib
import importlib.metadata
import multiprocessing
import os
import signal
import sqlite3
import time
from pathlib import Path

import pytest
import track_workers

from core.errors import TrackingError
from core.track import store
from core.track.registry import list_versions

ROOT = Path(__file__).resolve().parents[3]
ENVIRONMENT = {
    **os.environ,
    "OMP_NUM_THREADS": "1",
    "PYTHONPATH": f"{ROOT}{os.pathsep}{Path(__file__).parent}",
}


def test_flag_wins_over_environment_wins_over_default(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    default = f"sqlite:///{tmp_path.as_posix()}/mlflow.db"
    assert store.resolve_uri(None) == default
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://server:5000")
    assert store.resolve_uri(None) == "http://server:5000"
    assert store.resolve_uri("sqlite:///mlflow.db") == default
    assert store.resolve_uri("sub/x.db") == f"sqlite:///{tmp_path.as_posix()}/sub/x.db"
    assert store.resolve_uri("none") is None
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "none")
    assert store.resolve_uri(None) is None
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    assert store.resolve_uri(None) == default


@pytest.mark.parametrize("flag", ["mlruns", "file:///data/mlruns", "./runs"])
def test_folders_of_files_are_refused(flag):
    with pytest.raises(TrackingError, match="no runs in a folder of files"):
        store.resolve_uri(flag)


def test_passwords_are_left_out():
    assert store.public_uri("https://me:secret@host:5000/x") == "https://host:5000/x"
    assert store.public_uri("http://host:5000") == "http://host:5000"


def test_pickles_are_off_unless_the_user_says_otherwise(tracking, monkeypatch):
    store.prepare(tracking)
    assert os.environ["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] == "false"
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "true")
    store.prepare(tracking)
    assert os.environ["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] == "true"


def test_a_missing_library_is_not_hidden_by_the_folder(monkeypatch):
    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    with pytest.raises(TrackingError, match="pip install mlflow"):
        store.prepare("http://127.0.0.1:9")


@pytest.mark.parametrize("damage", ["text", "half", "foreign", "older"])
def test_a_damaged_database_is_one_line(tracking, damage):
    path = store.sqlite_path(tracking)
    if damage == "text":
        path.write_text("no database\n" * 400)
    elif damage == "foreign":
        path.unlink()
        with sqlite3.connect(path) as database:
            database.execute("CREATE TABLE mine (x)")
        database.close()
    else:
        with sqlite3.connect(path) as database:
            half, older = "DROP TABLE runs", "UPDATE alembic_version SET version_num = '451aebb31d03'"
            database.execute(half if damage == "half" else older)
        database.close()
    before = path.read_bytes()
    with pytest.raises(TrackingError) as caught:
        store.prepare(tracking)
    assert "\n" not in str(caught.value)
    assert "move it away" in str(caught.value)
    assert path.read_bytes() == before


def test_an_unwritable_place_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(TrackingError, match="cannot create the folder"):
        store.prepare(store.sqlite_uri(tmp_path / "file" / "mlflow.db"))


@pytest.fixture
def processes(monkeypatch):
    """Starts real processes that need not import everything again."""
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{Path(__file__).parent}")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["track_workers"])
    return context


def test_kill_during_the_first_use_leaves_no_broken_database(tmp_path, processes):
    path = tmp_path / "mlflow.db"
    process = processes.Process(target=track_workers.migrate, args=(path,))
    process.start()
    while not any(file.stat().st_size for file in tmp_path.glob(".mlflow.db.*.tmp")):
        assert process.is_alive(), "the process ended before its temporary file was seen"
        time.sleep(0.005)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert not path.exists()
    assert list(tmp_path.glob(".mlflow.db.*.tmp"))
    store.prepare(store.sqlite_uri(path))

    import mlflow

    assert [entry.name for entry in mlflow.search_experiments()] == ["Default"]
    assert not list(tmp_path.glob(".mlflow.db.*"))


def test_eight_processes_that_start_together_on_a_missing_database_lose_nothing(tmp_path, processes):
    barrier, answers = processes.Barrier(8), processes.Queue()
    workers = [
        processes.Process(target=track_workers.train, args=(tmp_path, number, barrier, answers))
        for number in range(8)
    ]
    for worker in workers:
        worker.start()
    results = sorted(answers.get(timeout=300) for _ in workers)
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0] * 8
    assert [lines for _, _, lines in results] == [[]] * 8
    store.prepare(store.sqlite_uri(tmp_path / "mlflow.db"))

    import mlflow

    runs = mlflow.search_runs(search_all_experiments=True, output_format="list")
    assert len(runs) == 8 == len(list((tmp_path / "runs" / "fake").iterdir()))
    assert {run.info.status for run in runs} == {"FINISHED"}
    client = mlflow.MlflowClient()
    curves = [[point.value for point in client.get_metric_history(run.info.run_id, "loss")] for run in runs]
    assert sorted(curves) == [[step + number for step in range(20)] for number in range(8)]
    assert len(mlflow.search_experiments()) == 2
    versions = list_versions("skipway-fake")
    assert sorted(int(row.version) for row in versions) == list(range(1, 9))
    assert sorted(float(row.tags["value"]) for row in versions) == [3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0]
    # All on the same data: whatever the order was, the best one is the champion at the end.
    assert [float(row.tags["value"]) for row in versions if "champion" in row.aliases] == [3.0]


def test_a_kill_in_the_middle_of_a_write_is_rolled_back(tracking, run_python):
    """A journal is left that has to be played back, for which the database is written."""
    path = store.sqlite_path(tracking)
    run_python(
        f"""
        import os, sqlite3
        database = sqlite3.connect({str(path)!r})
        database.execute("PRAGMA cache_size = 1")
        database.execute("CREATE TABLE half (x)")
        database.executemany("INSERT INTO half VALUES (?)", [("x" * 4000,) for _ in range(200)])
        os._exit(0)
        """.replace("\n        ", "\n")
    )
    assert path.with_name(f"{path.name}-journal").stat().st_size > 0
    store.ensure_database(path)
    with contextlib.closing(sqlite3.connect(path)) as database:
        assert database.execute("SELECT count(*) FROM half").fetchone() == (0,)
