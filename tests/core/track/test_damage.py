"""What one failure must not cost: a finished training, the other runs, a password."""

from __future__ import annotations

import json
import math
import shutil
import sys

import pytest
from track_fakes import TASK, FakeTask, make_run

from core.errors import DataError, TrackingError
from core.track import folder as folders
from core.track.__main__ import main
from core.track.environment import environment_tags
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
