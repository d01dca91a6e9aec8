"""Every task's model, registered and asked through MLflow's own scoring app, in this process."""

from __future__ import annotations

import importlib.util
import re
import shutil
import warnings
from pathlib import Path

import pandas as pd
import pytest

from core.cli import _parse
from core.commands.load import bundled_folder
from core.errors import SkipwayError
from core.task import load_task
from core.track import registry
from core.track.card import card_of, completed
from core.track.package import load_package, save_package
from core.track.run import Run
from core.track.schema import request_body, schema_of
from core.track.store import sqlite_uri
from tasks.__main__ import task_names

HERE = Path(__file__).parent
SCORE = {"detection": {"score": 0.0}}
"""Parameters with which a network that has learned nothing answers something."""
WRONG = {
    "csi": ({}, "no .npy file"),
    "denoising": ({}, "the file is empty"),
    "detection": ({"max_detections": -1}, "max_detections"),
    "ecg": ({"pool": "median"}, "pool must be max or mean"),
    "forecasting": ({"horizon": 10**6}, "horizon must be at most"),
    "segmentation": ({}, "no known format"),
    "speech": ({"hop": 0.0}, "hop must be a finite time"),
    "super_resolution": ({"scale": 7}, "does not enlarge by 7"),
}
"""Parameters that are wrong, or none where an empty text is, and words of the answer."""


def helper(task, name):
    """A module of the tests of one task."""
    spec = importlib.util.spec_from_file_location(f"{task}_{name}", HERE / task / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def detection_options(folder):
    from tasks.detection.data.synthetic import write_overlays

    write_overlays(folder, counts={"train": 4, "test": 2}, size=96)
    return [f"--data.path={folder}", "--image_size=64", "--model.size=nano", "--train.batch_size=4"]


def ecg_options(folder):
    from tasks.ecg.data.synthetic import write_records

    write_records(folder, seed=5, records=24)
    known = helper("ecg", "record_folders")
    return [f"--data.path={folder}", *known.MADE, *known.TINY, *known.SMALL]


def csi_options(folder):
    known = helper("csi", "channel_files")
    return [f"--data.path={known.make_folder(folder)}", *known.TINY, *known.SMALL]


def forecasting_options(folder):
    return ["--data.groups=[Yearly]", "--model.lookbacks=[2]", "--model.width=8", "--model.blocks=1"]


def new_package(task, folder, options):
    """A package of networks as they start."""
    config, _ = _parse(task, "train", [*options, "--train.device=cpu"])
    data = task.load(config)
    parts = task.parts(config, data)
    packaged = task.package(config, data, {part.name: part.learner for part in parts})
    return load_package(save_package(folder, packaged, task.name))


@pytest.fixture(scope="module", params=task_names())
def served(request, tmp_path_factory, _migrated):
    """A task, the package and predictor of its model, the registered model and a client of the app that serves it."""
    root = tmp_path_factory.mktemp(request.param)
    uri = sqlite_uri(Path(shutil.copy(_migrated, root / "mlflow.db")))
    task = load_task(request.param)
    run = Run.create(task.name, root / "runs", uri)
    run.start()
    if task.bundled:
        shutil.copytree(bundled_folder(task, next(iter(task.bundled))), run.package_folder)
        package = load_package(run.package_folder)
    else:
        options = globals()[f"{task.name}_options"](root / "data")
        package = new_package(task, run.package_folder, options)
    said = registry.register(run, package, task, metric="m", value=1.0, digest="d", promote="always")
    assert "version 1, promoted" in said
    run.finish()
    import mlflow
    from fastapi.testclient import TestClient
    from mlflow.pyfunc import scoring_server

    mlflow.set_tracking_uri(uri)
    model = mlflow.pyfunc.load_model(f"models:/{task.registered_name}@champion")
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", category=DeprecationWarning
        )  # of the app's libraries among themselves
        client = TestClient(scoring_server.init(model))
    return task, package, task.predictor(package), model, client


def example(task, predictor):
    frame, params = task.example(predictor)
    return frame, params | SCORE.get(task.name, {})


def test_the_documented_body_is_answered_as_the_predictor_answers(served):
    task, _, predictor, model, client = served
    frame, params = example(task, predictor)
    answer = client.post("/invocations", json=request_body(frame, params))
    assert answer.status_code == 200, answer.text
    found, expected = pd.DataFrame(answer.json()["predictions"]), task.serve(predictor, frame, params)
    assert len(expected) and not expected.isin(["", "[]"]).all(axis=None)
    pd.testing.assert_frame_equal(found, expected, rtol=1e-12)
    pd.testing.assert_frame_equal(model.predict(frame, params=params or None), expected)


def test_the_schema_of_the_package_is_the_signature_of_the_registered_model(served):
    task, _, predictor, model, _ = served
    schema, signature = schema_of(task, predictor), model.metadata.signature
    for ours, theirs in ((schema["input"], signature.inputs), (schema["output"], signature.outputs)):
        assert ours == {column["name"]: column["type"] for column in theirs.to_dict()}
    known = signature.params.to_dict() if signature.params else []
    assert schema["params"] == {
        entry["name"]: {"type": entry["type"], "default": entry["default"]} for entry in known
    }


def test_what_the_task_refuses_is_one_line_of_status_400(served):
    task, _, predictor, _, client = served
    frame, params = task.example(predictor)
    wrong, words = WRONG[task.name]
    if not wrong:
        frame = frame[-1:].assign(**{frame.columns[0]: ""})
    with pytest.raises(SkipwayError) as refused:
        task.serve(predictor, frame, params | wrong)
    answer = client.post("/invocations", json=request_body(frame, params | wrong))
    assert answer.status_code == 400
    message = answer.json()["message"]
    assert message == str(refused.value) and words in message and "\n" not in message
    assert "stack_trace" not in answer.json()


@pytest.mark.parametrize("served", ["segmentation"], indirect=True)
def test_an_ending_that_content_does_not_show_reaches_a_served_segmenter(served):
    task, _, predictor, _, client = served
    frame = task.example(predictor)[0][["image"]][:1]
    assert client.post("/invocations", json=request_body(frame, {})).status_code == 200
    answer = client.post("/invocations", json=request_body(frame.assign(ending=".txt"), {}))
    assert answer.status_code == 400 and "row 0: unknown ending '.txt'" in answer.json()["message"]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"dataframe_split": {"columns": ["nothing"], "data": [["x"]]}}, "missing inputs"),
        ({"rows": []}, "dataframe_split"),
    ],
)
def test_what_mlflow_refuses_has_status_400(served, body, words):
    answer = served[-1].post("/invocations", json=body)
    assert answer.status_code == 400 and words in answer.json()["message"]


def test_a_body_that_is_no_json_has_status_400(served):
    answer = served[-1].post("/invocations", content=b"{", headers={"Content-Type": "application/json"})
    assert answer.status_code == 400 and "JSON" in answer.json()["message"]


def test_every_model_has_a_card(served):
    task, package, predictor, _, _ = served
    text = card_of(completed(package, task), task)
    count = re.search(r"\| parameters \| ([\d,]+) \|", text)
    assert count and int(count[1].replace(",", "")) > 100
    assert all(f"`{name}` | string" in text for name in task.example(predictor)[0].select_dtypes("object"))
    assert all(line in text for line in task.limits)
