from __future__ import annotations

import contextlib
import inspect
import json
import math
import os
import sqlite3

import psutil
import pytest
from matplotlib.figure import Figure
from track_fakes import TASK, make_run

from core.errors import TrackingError
from core.track import folder as folders
from core.track import store
from core.track.registry import list_versions, register
from core.track.resolve import fetch
from core.track.run import NullRun, Run
from core.track.sync import sync

DEAD = "http://127.0.0.1:9"  # the discard port: refused at once
DIGEST = "ab" * 32


@pytest.fixture
def quick(monkeypatch):
    """No waiting between retries."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")


def mlflow_run(run_id):
    import mlflow

    return mlflow.MlflowClient().get_run(run_id)


def history(run_id, key):
    import mlflow

    return [(point.step, point.value) for point in mlflow.MlflowClient().get_metric_history(run_id, key)]


def fill(run, package=None):
    run.log_params({"model.blocks": 4, "train.lr": 1e-3})
    run.log_dataset("toy", 12, DIGEST, "test")
    for step in range(3):
        run.log_metrics({"loss": 1.0 / (step + 1), "odd (name)": step}, step)
    run.save_config("seed: 3\n")
    figure = Figure()
    figure.subplots().plot([1, 2])
    run.save_figure("curves", figure)
    (run.folder / "report.html").write_text("<p>report</p>")
    if package is not None:
        return register(run, package, TASK, metric="mape", value=9.0, digest=DIGEST, baseline=("naive", 10.0))
    return None


def test_folder_and_store_hold_the_same(tmp_path, tracking):
    run, package = make_run(tmp_path / "runs", tracking)
    outcome = fill(run, package)
    run.finish()
    assert outcome == "skipway-fake version 1, promoted: the first champion, mape 9"

    record = folders.read_record(run.folder)
    assert (record.status, record.params["model.blocks"]) == ("FINISHED", 4)
    assert record.metrics == {"loss": pytest.approx(1 / 3), "odd (name)": 2.0}
    assert folders.read_metrics(run.folder)["loss"] == [(0, 1.0), (1, 0.5), (2, pytest.approx(1 / 3))]
    assert {path.name for path in run.folder.iterdir()} == {
        "config.yaml",
        "run.json",
        "metrics.jsonl",
        "figures",
        "report.html",
        "package",
    }

    import mlflow

    copy = mlflow_run(run.mlflow_run_id)
    assert copy.info.run_name == run.id
    assert copy.info.status == "FINISHED"
    assert copy.data.params == {"model.blocks": "4", "train.lr": "0.001"}
    assert history(run.mlflow_run_id, "loss") == [(0, 1.0), (1, 0.5), (2, pytest.approx(1 / 3))]
    assert history(run.mlflow_run_id, "odd _name_") == [(0, 0.0), (1, 1.0), (2, 2.0)]
    assert copy.data.tags["seed"] == "3"
    assert copy.data.tags["version.mlflow"] == mlflow.__version__
    dataset = copy.inputs.dataset_inputs[0].dataset
    assert (dataset.name, dataset.digest) == ("toy", DIGEST[:32])
    assert json.loads(dataset.profile) == {"size": 12, "sha256": DIGEST}
    assert mlflow.get_experiment(copy.info.experiment_id).name == "skipway/fake"
    names = {entry.path for entry in mlflow.artifacts.list_artifacts(run_id=run.mlflow_run_id)}
    assert names == {"config.yaml", "figures", "report.html"}
    root = store.artifact_root(tracking)
    assert copy.info.artifact_uri.startswith(root.as_uri())
    assert (root / "skipway-fake").is_dir()


def test_tracking_none_writes_the_folder_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lines = []
    run, package = make_run(tmp_path / "runs", None, say=lines.append)
    assert "tracking is none" in fill(run, package)
    run.finish("KILLED")
    run.finish("FINISHED")
    assert lines == []
    assert folders.read_record(run.folder).status == "KILLED"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["runs"]


def test_a_dead_server_costs_one_line_and_sync_repairs_it(tmp_path, tracking, quick):
    lines = []
    run, package = make_run(tmp_path / "runs", DEAD, say=lines.append)
    assert "not registered yet" in fill(run, package)
    run.finish()
    assert len(lines) == 1
    assert "\n" not in lines[0]
    assert f"python -m core.track sync {run.folder}" in lines[0]

    outcomes = list(sync(tmp_path / "runs", tracking))
    assert [outcome.ok for outcome in outcomes] == [True]
    assert "skipway-fake version 1 promoted" in outcomes[0].text
    record = folders.read_record(run.folder)
    assert record.sync["complete"]
    assert record.tracking == tracking
    assert history(record.mlflow_run_id, "loss") == folders.read_metrics(run.folder)["loss"]
    copy = mlflow_run(record.mlflow_run_id)
    assert copy.info.status == "FINISHED"
    assert copy.info.start_time == int(record.started * 1000)
    assert copy.info.end_time == int(record.ended * 1000)
    assert copy.inputs.dataset_inputs[0].dataset.name == "toy"
    [version] = list_versions("skipway-fake")
    assert version.aliases == ["champion"]
    assert version.tags["run"] == run.id
    # A second time there is nothing left to do.
    assert list(sync(tmp_path / "runs", tracking)) == []
    assert len(list_versions("skipway-fake")) == 1


def test_a_server_that_dies_in_the_middle(tmp_path, tracking, monkeypatch):
    lines = []
    run, _ = make_run(tmp_path / "runs", tracking, say=lines.append)
    run.log_metrics({"loss": 1.0}, 0)
    run.flush()

    def refuse(*_, **__):
        raise OSError("connection refused")

    from mlflow import MlflowClient

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "log_batch", refuse)
        run.log_metrics({"loss": 0.5}, 1)
        run.flush()
        run.log_metrics({"loss": 0.25}, 2)
        run.flush()
    run.finish()
    assert len(lines) == 1
    assert "connection refused" in lines[0]
    assert history(run.mlflow_run_id, "loss") == [(0, 1.0)]
    before = run.mlflow_run_id
    assert all(outcome.ok for outcome in sync(run.folder))
    record = folders.read_record(run.folder)
    assert record.mlflow_run_id == before
    assert history(before, "loss") == [(0, 1.0), (1, 0.5), (2, 0.25)]


def test_sync_of_a_server_that_is_still_down_fails_in_one_line(tmp_path, quick):
    run, _ = make_run(tmp_path / "runs", DEAD, say=lambda line: None)
    run.finish()
    [outcome] = sync(tmp_path / "runs")
    assert not outcome.ok
    assert "\n" not in outcome.text
    assert "127.0.0.1:9" in outcome.text


def test_a_run_deleted_on_the_server_is_uploaded_again(tmp_path, tracking):
    run, _ = make_run(tmp_path / "runs", tracking)
    run.log_metrics({"loss": 2.0}, 0)
    run.finish()
    with contextlib.closing(sqlite3.connect(store.sqlite_path(tracking))) as database:
        for table in ("metrics", "latest_metrics", "params", "tags", "runs"):
            database.execute(f"DELETE FROM {table} WHERE run_uuid = ?", (run.mlflow_run_id,))
        database.commit()
    record = folders.read_record(run.folder)
    record.sync["complete"] = False
    folders.write_record(run.folder, record)
    assert all(outcome.ok for outcome in sync(run.folder))
    again = folders.read_record(run.folder)
    assert again.mlflow_run_id != run.mlflow_run_id
    assert history(again.mlflow_run_id, "loss") == [(0, 2.0)]


def test_resume_keeps_the_run_and_tags_what_changed(tmp_path, tracking):
    first, _ = make_run(tmp_path / "runs", tracking)
    first.log_params({"train.lr": 0.1, "train.steps": 10})
    first.log_metrics({"loss": 3.0}, 0)
    first.log_metrics({"loss": 2.0}, 1)
    first.finish("KILLED")
    assert mlflow_run(first.mlflow_run_id).info.status == "KILLED"

    second = Run.open(tmp_path / "runs", "last", tracking)
    assert second.resumed
    assert second.id == first.id
    second.start(seed=3)
    assert mlflow_run(first.mlflow_run_id).info.status == "RUNNING"
    second.log_params({"train.lr": 0.2, "train.steps": 10, "train.ema": None})
    second.log_metrics({"loss": 1.9}, 1)
    second.log_metrics({"loss": 1.0}, 2)
    second.finish()
    assert second.mlflow_run_id == first.mlflow_run_id
    copy = mlflow_run(first.mlflow_run_id)
    assert copy.data.params == {"train.lr": "0.1", "train.steps": "10", "train.ema": "None"}
    assert copy.data.tags["resumed.train.lr"] == "0.2"
    assert "resumed.train.steps" not in copy.data.tags
    assert copy.info.status == "FINISHED"
    assert folders.read_metrics(second.folder)["loss"] == [(0, 3.0), (1, 1.9), (2, 1.0)]


@pytest.mark.parametrize("exported", ["absolute", "relative"])
def test_a_run_opened_by_mlflow_run_is_used(tmp_path, tracking, monkeypatch, exported):
    store.prepare(tracking)
    monkeypatch.chdir(store.sqlite_path(tracking).parent)

    import mlflow

    opened = mlflow.MlflowClient().create_run("0")
    mlflow.MlflowClient().log_param(opened.info.run_id, "seed", "7")  # as `mlflow run -P seed=7` does
    # MLflow exports its default as it stands, relative to the working directory.
    monkeypatch.setenv(
        "MLFLOW_TRACKING_URI", {"absolute": tracking, "relative": "sqlite:///mlflow.db"}[exported]
    )
    monkeypatch.setenv("MLFLOW_RUN_ID", opened.info.run_id)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", "0")
    run, package = make_run(tmp_path / "runs", tracking)
    run.log_params({"seed": 7, "train.lr": 0.1})
    fill(run, package)
    run.finish()
    assert run.mlflow_run_id == opened.info.run_id
    copy = mlflow_run(opened.info.run_id)
    assert copy.info.run_name == run.id
    assert copy.data.params["train.lr"] == "0.1"
    assert "resumed.seed" not in copy.data.tags
    assert list_versions("skipway-fake")[0].aliases == ["champion"]
    other, _ = make_run(tmp_path / "runs", tracking)
    assert other.mlflow_run_id != opened.info.run_id


def test_find_by_id_path_mlflow_id_and_last(tmp_path, tracking, monkeypatch):
    endings = iter(("00aaaa", "01bbbb"))  # ids of one second would be in no order
    monkeypatch.setattr(folders.secrets, "token_hex", lambda size: next(endings))
    root = tmp_path / "runs"
    first, _ = make_run(root, tracking)
    second, _ = make_run(root, None)
    for ident in (first.id, str(first.folder), first.mlflow_run_id):
        assert folders.find_run(root, ident) == first.folder
    assert folders.find_run(root, "last", "fake") == second.folder
    assert folders.find_run(root / "fake", "last") == second.folder
    with pytest.raises(TrackingError, match=f"Did you mean '{first.id}'"):
        folders.find_run(root, first.id[:-1])
    with pytest.raises(TrackingError, match="no run in"):
        folders.find_run(root, "last", "other")


def test_a_run_that_is_going_on_cannot_be_opened_and_a_stale_one_can_be_marked(tmp_path):
    run, _ = make_run(tmp_path / "runs", None)
    record = folders.read_record(run.folder)
    parent = psutil.Process(os.getppid())
    record.pid, record.process_started = parent.pid, parent.create_time()
    folders.write_record(run.folder, record)
    with pytest.raises(TrackingError, match=f"still running in process {parent.pid}"):
        Run.open(tmp_path / "runs", "last", None)
    assert folders.mark_stale(tmp_path / "runs") == []

    record.process_started -= 100.0  # the number now belongs to another process
    folders.write_record(run.folder, record)
    assert folders.is_stale(record)
    assert folders.mark_stale(tmp_path / "runs") == [run.folder]
    assert folders.read_record(run.folder).status == "KILLED"
    record.host = "elsewhere"
    assert not folders.is_stale(record)


def test_half_a_line_of_metrics_is_cut_off(tmp_path):
    run, _ = make_run(tmp_path / "runs", None)
    run.log_metrics({"loss": 1.0}, 0)
    run.finish("KILLED")
    with open(run.folder / "metrics.jsonl", "a") as file:
        file.write('{"step": 1, "val')
    assert folders.read_metrics(run.folder) == {"loss": [(0, 1.0)]}
    again = Run.open(tmp_path / "runs", "last", None)
    again.start()
    again.log_metrics({"loss": 0.5}, 1)
    assert folders.read_metrics(run.folder) == {"loss": [(0, 1.0), (1, 0.5)]}


def test_values_that_are_not_finite_survive(tmp_path, tracking):
    run, _ = make_run(tmp_path / "runs", tracking)
    run.log_metrics({"a": math.nan, "b": -math.inf}, 0)
    run.finish()
    curves = folders.read_metrics(run.folder)
    assert math.isnan(curves["a"][0][1])
    assert curves["b"] == [(0, -math.inf)]
    for line in (run.folder / "metrics.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=pytest.fail)
    assert math.isnan(history(run.mlflow_run_id, "a")[0][1])


def test_more_metrics_and_params_than_a_call_takes(tmp_path, tracking):
    run, _ = make_run(tmp_path / "runs", tracking)
    run.log_params({f"p{index}": index for index in range(101)} | {"long": "x" * 9000})
    lines = [folders.metrics_line({"loss": index}, index, 1e9 + index) for index in range(1001)]
    (run.folder / "metrics.jsonl").write_text("".join(lines))
    run.finish()
    assert len(mlflow_run(run.mlflow_run_id).data.params) == 102
    assert history(run.mlflow_run_id, "loss") == [(index, float(index)) for index in range(1001)]


def test_a_damaged_record_is_one_line(tmp_path):
    run, _ = make_run(tmp_path / "runs", None)
    (run.folder / "run.json").write_text("{")
    with pytest.raises(TrackingError, match="cannot be read") as caught:
        Run.open(tmp_path / "runs", str(run.folder), None)
    assert "\n" not in str(caught.value)


def test_a_damaged_database_stops_the_run_before_the_training(tmp_path, tracking):
    store.sqlite_path(tracking).write_text("no database" * 500)
    with pytest.raises(TrackingError, match="not a usable SQLite"):
        make_run(tmp_path / "runs", tracking)


def test_system_metrics_are_in_the_folder_and_apart_from_curves(tmp_path):
    run = Run.create("fake", tmp_path, None)
    run.start(system_metrics=0.01)
    while "system/cpu_utilization_percentage" not in folders.read_metrics(run.folder, system=True):
        pass
    run.finish()
    assert folders.read_metrics(run.folder) == {}


def test_null_run_is_called_like_a_run_and_writes_nothing(tmp_path):
    for name, value in vars(NullRun).items():
        if inspect.isfunction(value) and not name.startswith("_"):
            assert inspect.signature(value) == inspect.signature(getattr(Run, name)), name
    run = NullRun(tmp_path)
    assert run.checkpoints == tmp_path / "checkpoints"
    run.log_metrics({"a": 1.0}, 0)
    run.finish()
    assert list(tmp_path.iterdir()) == []


def test_fetch_finds_packages_everywhere(tmp_path, tracking):
    run, package = make_run(tmp_path / "runs", tracking, factor=3.0)
    fill(run, package)
    run.finish()
    digest = (package.folder / "metadata.json").read_bytes()
    where = [
        str(run.folder),
        str(package.folder),
        "models:/skipway-fake@champion",
        "models:/skipway-fake/1",
        f"runs:/{run.mlflow_run_id}",
        f"runs:/{run.mlflow_run_id}/model",
        f"models:/{run.record.sync['model']}",
    ]
    for place in where:
        assert (fetch(place, tracking) / "metadata.json").read_bytes() == digest, place
