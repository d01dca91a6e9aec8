"""What one failure must not cost: a finished training, the other runs, a password."""

from __future__ import annotations

import json
import math
import resource
import shutil
import sqlite3
import sys

import pytest
import torch
from track_fakes import TASK, FakeTask, make_run

from core.cli import _resumed
from core.errors import ConfigError, DataError, PackageError, TrackingError
from core.task import Packaged
from core.track import folder as folders
from core.track import store
from core.track.__main__ import main
from core.track.environment import environment_tags
from core.track.package import load_package, save_package
from core.track.registry import list_versions, register
from core.track.run import Run
from core.track.sync import sync


@pytest.mark.parametrize("error", [DataError("no column x"), KeyError("x"), RuntimeError("size mismatch")])
def test_a_model_that_cannot_be_logged_costs_one_line(tmp_path, tracking, monkeypatch, error):
    lines, calls = [], []

    def fail(*_):
        calls.append(1)
        raise error

    run, package = make_run(tmp_path / "runs", tracking, say=lines.append)
    run.log_metrics({f"test/{number}": 9.0 for number in range(120)}, 0)  # MLflow looks at 100 at a time
    other, _ = make_run(tmp_path / "runs", tracking)
    shutil.rmtree(other.package_folder)
    other.finish()
    with monkeypatch.context() as patch:
        patch.setattr(FakeTask, "serve", fail)
        outcome = register(run, package, TASK, metric="mape", value=9.0, digest="d" * 64)
        run.finish()
        assert outcome == f"not registered yet: `python -m core.track sync {run.folder}` does it later"
        assert len(calls) == 1
        assert len(lines) == 1
        assert lines[0].startswith("warning: could not register the model")
        assert "\n" not in lines[0]
        assert folders.read_record(run.folder).status == "FINISHED"

        record = folders.read_record(other.folder)
        record.sync["complete"] = False
        folders.write_record(other.folder, record)
        assert {entry.folder: entry.ok for entry in sync(tmp_path / "runs")} == {
            run.folder: False,
            other.folder: True,
        }
    assert [entry.ok for entry in sync(tmp_path / "runs")] == [True]
    assert list_versions("skipway-fake")[0].tags["run"] == run.id


def test_a_model_that_cannot_be_logged_at_the_end_costs_one_line(tmp_path, tracking, monkeypatch):
    lines = []

    def fail(*_):
        raise KeyError("x")

    run, _ = make_run(tmp_path / "runs", tracking, say=lines.append)
    monkeypatch.setattr(FakeTask, "example", fail)
    run.finish()
    assert [line.startswith("warning: could not upload the run") for line in lines] == [True]
    assert folders.read_record(run.folder).status == "FINISHED"


def test_one_damaged_record_does_not_stop_the_others(tmp_path, monkeypatch, capsys):
    endings = iter(("000001", "000002", "000003"))
    monkeypatch.setattr(folders, "datetime", FixedTime)
    monkeypatch.setattr(folders.secrets, "token_hex", lambda size: next(endings))
    root = tmp_path / "runs"
    first, second, damaged = (make_run(root, None)[0] for _ in range(3))
    (damaged.folder / "run.json").write_text("{")
    warning = f"warning: {damaged.folder / 'run.json'} cannot be read: "

    assert folders.list_runs(root) == [first.folder, second.folder, damaged.folder]
    assert Run.open(root, "last", None).folder == second.folder
    assert capsys.readouterr().err.startswith(warning)
    assert Run.open(root, first.id, None).folder == first.folder
    with pytest.raises(TrackingError, match="cannot be read"):
        Run.open(root, damaged.id, None)
    for command in (["runs"], ["stale"], ["stale", "--mark"]):
        assert main([*command, str(root)]) == 0
        seen = capsys.readouterr()
        assert seen.err.startswith(warning)
        assert seen.err.count("\n") == 1
        if command == ["runs"]:
            assert first.id in seen.out
            assert second.id in seen.out
    outcomes = {entry.folder: entry for entry in sync(root)}
    assert not outcomes[damaged.folder].ok
    assert outcomes[first.folder].text == outcomes[second.folder].text == "still running"


class FixedTime(folders.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls(2026, 1, 2, 3, 4, 5, tzinfo=tz)


def test_the_record_is_strict_json(tmp_path):
    run, _ = make_run(tmp_path / "runs", None)
    run.log_params({"clip": math.inf, "range": [0.0, -math.inf], "lr": 0.1})
    run.log_metrics({"loss": math.nan}, 0)
    run.finish()
    content = json.loads((run.folder / "run.json").read_text(), parse_constant=pytest.fail)
    assert content["params"] == {"clip": "inf", "range": [0.0, "-inf"], "lr": 0.1}
    assert content["metrics"] == {"loss": "nan"}
    # A resumed run with the same settings has changed none of them.
    again = Run.open(tmp_path / "runs", run.id, None)
    again.log_params({"clip": math.inf, "lr": 0.1})
    assert not any(key.startswith("resumed.") for key in again.record.tags)


@pytest.fixture
def small_files():
    """Files of this process can be no larger than a number of bytes, as on a full disk."""
    former = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, former[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, former)


def test_a_line_of_metrics_is_written_whole_or_not_at_all(tmp_path, small_files):
    folders.append_metrics(tmp_path, folders.metrics_line({"loss": 1.0}, 1, 0.0))
    size = (tmp_path / folders.METRICS).stat().st_size
    small_files(size + 10)
    with pytest.raises(OSError, match="File too large"):
        folders.append_metrics(tmp_path, folders.metrics_line({"loss": 2.0}, 2, 0.0))
    assert (tmp_path / folders.METRICS).stat().st_size == size
    small_files(10_000)
    folders.append_metrics(tmp_path, folders.metrics_line({"loss": 3.0}, 3, 0.0))
    assert folders.read_metrics(tmp_path) == {"loss": [(1, 1.0), (3, 3.0)]}


def test_weights_that_find_no_room_are_one_line_and_leave_the_old_package(tmp_path, small_files):
    folder = save_package(tmp_path / "package", Packaged({}, {"w": torch.zeros(4)}, {}), "fake")
    small_files(10_000)
    with pytest.raises(PackageError, match=r"cannot write .*weights.safetensors.*File too large") as caught:
        save_package(folder, Packaged({}, {"w": torch.zeros(10_000)}, {}), "fake")
    assert "\n" not in str(caught.value)
    assert load_package(folder).tensors()["w"].shape == (4,)


def test_a_database_that_finds_no_room_is_one_line_and_leaves_nothing(tmp_path, monkeypatch):
    import mlflow.store.tracking.sqlalchemy_store as library
    from sqlalchemy.exc import OperationalError

    def fail(uri, place):
        store.sqlite_path(uri).write_bytes(b"half")
        raise OperationalError("INSERT", {}, sqlite3.OperationalError("database or disk is full"))

    monkeypatch.setattr(library, "SqlAlchemyStore", fail)
    with pytest.raises(TrackingError, match=r"cannot create .*mlflow.db: .*disk is full$"):
        store.ensure_database(tmp_path / "mlflow.db")
    assert [path.name for path in tmp_path.iterdir()] == ["mlflow.db.lock"]


def test_what_killed_processes_left_is_removed_when_a_run_goes_on(tmp_path):
    run, _ = make_run(tmp_path / "runs", None)
    (run.folder / "checkpoints" / "part").mkdir(parents=True)
    for name in (".run.json.1.tmp", "package/.metadata.json.1.tmp", "checkpoints/part/.last.pt.tmp"):
        (run.folder / name).write_text("half")
    for name in (".package.1.tmp", ".package.1.old"):
        shutil.copytree(run.package_folder, run.folder / name)
    again = Run.open(tmp_path / "runs", run.id, None)
    again.start()
    again.finish()
    assert not list(run.folder.rglob(".*"))
    assert load_package(run.package_folder).tensors()


def test_a_run_that_was_killed_before_it_began_cannot_go_on(tmp_path):
    run, _ = make_run(tmp_path / "runs", None)
    (run.folder / "config.yaml").unlink(missing_ok=True)
    with pytest.raises(ConfigError, match=r"has no config\.yaml; train without --resume") as caught:
        _resumed(TASK, ["--resume", "last", "--output", str(tmp_path / "runs")])
    assert str(run.folder) in str(caught.value)


def test_a_run_that_is_killed_after_its_registration_gets_no_second_version(tmp_path, tracking):
    run, package = make_run(tmp_path / "runs", tracking)
    score = {"metric": "mape", "value": 9.0, "digest": "d" * 64, "baseline": ("naive", 10.0)}
    assert "version 1, promoted" in register(run, package, TASK, **score)

    again = Run.open(tmp_path / "runs", run.id, tracking)
    again.start()
    later = {**package.metadata, "created": "later", "times": [1.0]}
    (package.folder / "metadata.json").write_text(json.dumps(later))
    assert "version 1, not promoted: it is the champion" in register(
        again, load_package(package.folder), TASK, **score
    )
    again.finish()
    assert [(row.version, row.aliases) for row in list_versions("skipway-fake")] == [("1", ["champion"])]


def test_no_password_of_the_command_line_is_kept(monkeypatch):
    words = [
        "train.py",
        "--tracking=http://u:secret@h:5000",
        "https://u:sec@ret@h/path",
        "--data.path=a@b/c",
        "--mail=me@example.org",
        "http://h:5000/x@y",
    ]
    monkeypatch.setattr(sys, "argv", words)
    assert environment_tags()["command"] == (
        "train.py --tracking=http://h:5000 https://h/path --data.path=a@b/c --mail=me@example.org http://h:5000/x@y"
    )
