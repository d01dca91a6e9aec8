"""What a package says of itself, and the card that is made of it."""

from __future__ import annotations

import json

import pandas as pd
import pytest
import torch
import yaml
from track_fakes import TASK, FakeTask, make_run

from core.task import Evaluation, Packaged
from core.track import registry
from core.track.__main__ import main
from core.track.bundle import bundle
from core.track.card import card_of, completed, describe
from core.track.folder import Record
from core.track.package import load_package, save_package
from core.track.provenance import command_of, count_parameters, provenance, results_of, scores_of
from core.track.schema import request_body, schema_of, shortened, text_of

RESULTS = {
    "model": Evaluation({"Yearly/mape": 12.0, "mape": 8.0, "mae": 3.25}),
    "naive": Evaluation({"Yearly/mape": 10.0, "mape": 16.0, "mae": 4.0}),
    "theta": Evaluation({"Yearly/mape": 11.0, "mape": 10.0}),
}
SCHEMA = {
    "input": {"x": "double"},
    "params": {"shift": {"type": "double", "default": 0.0}},
    "output": {"y": "double"},
    "example": {
        "dataframe_split": {"columns": ["x"], "data": [[1.0], [2.0]]},
        "params": {"shift": 0.0},
    },
}


@pytest.fixture
def made(tmp_path):
    """A run and its package, described."""
    run, package = make_run(tmp_path / "runs", None)
    run.record.tags |= {
        "git.commit": "c0ffee",
        "git.dirty": "true",
        "command": "/a/tasks/fake/train.py --lr 1",
    }
    package = describe(package, TASK, TASK.predictor(package), run, "mape", RESULTS, ["one | two"])
    run.finish()
    return run, package


def front_of(card):
    _, front, text = card.split("---\n", 2)
    return yaml.safe_load(front), text


def test_the_package_knows_origin_scores_and_schema_and_is_still_whole(made):
    run, described = made
    package = load_package(run.package_folder)
    assert package.metadata == described.metadata
    assert torch.equal(package.tensors()["factor"], torch.tensor([2.0]))
    training = package.metadata["training"]
    assert training["scores"]["test/mape"] == 8.0 and training["scores"]["baseline/theta/mape"] == 10.0
    assert (training["metric"], training["commit"], training["dirty"]) == ("mape", "c0ffee", True)
    assert training["seed"] == "3" and training["run"] == run.id and training["notes"] == ["one | two"]
    assert training["command"] == "python -m tasks.fake.train --lr 1"
    assert training["versions"]["torch"] == torch.__version__.split("+")[0]
    assert package.metadata["schema"] == SCHEMA


def test_the_card_lies_in_the_run_and_in_the_package(made):
    run, package = made
    text = (run.folder / "README.md").read_text()
    assert text == (run.package_folder / "README.md").read_text() == card_of(package, TASK)


def test_the_front_matter_holds_what_a_hub_reads(made):
    front, _ = front_of(card_of(made[1], TASK))
    assert front == {"library_name": "skipway", "tags": ["skipway", "fake"], "metrics": ["mape"]}
    metadata = made[1].metadata | {"data": {"name": "sales", "size": 1200, "digest": "ab12"}}
    package = completed(type(made[1])(made[1].folder, "fake", {"model": {"name": "net"}}, metadata), TASK)
    front, text = front_of(card_of(package, TASK))
    assert front["tags"] == ["skipway", "fake", "net"]
    (entry,) = front["model-index"]
    assert entry["name"] == "skipway-fake"
    assert entry["results"] == [
        {
            "task": {"type": "fake"},
            "dataset": {"type": "sales", "name": "sales"},
            "metrics": [{"type": "mape", "value": 8.0}],
        }
    ]
    for line in ("| samples | 1,200 |", "| SHA-256 of content and split | `ab12` |", "| model | `net` |"):
        assert line in text
    assert "on sales; on other data its scores are unknown" in text


def test_scores_stand_beside_every_baseline_and_losses_are_said(made):
    _, text = front_of(card_of(made[1], TASK))
    assert "| metric | factor | naive | theta | against the best baseline |" in text
    assert "| Yearly/mape | 12 | 10 | 11 | -20.0 % (naive) |" in text
    assert "| mape | 8 | 16 | 10 | +20.0 % (theta) |" in text
    assert "| mae | 3.25 | 4 |  |" in text
    limits = text.split("## Limits")[1]
    assert "**Yearly/mape: the baseline naive is better: -20.0 %.**" in limits
    assert "- mape" not in limits and "**mape" not in limits
    assert "nobody can repeat it exactly" in limits and "- one | two" in limits


def test_the_use_is_written_out(made):
    _, text = front_of(card_of(made[1], TASK))
    assert "| parameter | `shift` | double | `0.0` |" in text
    assert "model.predict(frame, params={'shift': 0.0})" in text
    body = text.split("```json\n")[1].split("```")[0]
    assert json.loads(body) == request_body(*TASK.example(None))


def test_what_its_models_are_not_for_is_said_by_the_task(made):
    class Careful(FakeTask):
        limits = ("Not for ships.",)

    assert "- Not for ships." in card_of(made[1], Careful())


def test_a_package_that_says_nothing_has_a_card_without_gaps(tmp_path):
    packaged = Packaged({}, {"factor": torch.tensor([2.0])})
    package = load_package(save_package(tmp_path / "package", packaged, "fake"))
    _, text = front_of(card_of(package, TASK))
    assert "## Training" not in text and "## Results" not in text and "## Limits" not in text
    assert "None" not in text
    assert "## Input and output" in card_of(completed(package, TASK), TASK)


def test_what_is_handed_on_has_a_card_without_folders(made, tmp_path):
    run, _ = made
    run.record.tags["git.dirty"] = "false"
    package = load_package(run.package_folder)
    package.metadata["training"] |= {"command": "python -m tasks.fake.train --data.path /home/ann/x.csv"}
    (run.package_folder / "metadata.json").write_text(json.dumps(package.metadata))
    (run.folder / "run.json").write_text(
        (run.folder / "run.json").read_text().replace('"git.dirty": "true"', '"git.dirty": "false"')
    )
    target = bundle(run.folder, tmp_path / "handed")
    text = (target / "README.md").read_text()
    assert "--data.path x.csv" in text and "/home" not in text
    metadata = load_package(target).metadata
    assert metadata["provenance"]["scores"]["test/mape"] == 8.0
    assert "training" not in metadata and metadata["schema"] == SCHEMA


def test_commands_print_the_card_and_the_body(made, tracking, capsys):
    run, package = made
    assert main(["card", str(run.folder)]) == 0
    assert capsys.readouterr().out == card_of(package, TASK)
    assert main(["example", str(run.package_folder)]) == 0
    assert json.loads(capsys.readouterr().out) == request_body(*TASK.example(None))
    assert main(["card", "models:/skipway-fake@champion", "--tracking", tracking]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_a_run_of_an_earlier_version_has_its_scores_from_its_record(tmp_path, capsys):
    run, _ = make_run(tmp_path / "runs", None)
    run.log_metrics(scores_of(RESULTS), step=0)
    run.finish()
    assert main(["card", str(run.folder)]) == 0
    assert "| mape | 8 | 16 | 10 |" in capsys.readouterr().out


def test_a_registered_model_carries_card_and_schema(tmp_path, tracking):
    import mlflow

    run, package = make_run(tmp_path / "runs", tracking)
    package = describe(package, TASK, TASK.predictor(package), run, "mape", RESULTS, [])
    registry.register(run, package, TASK, metric="mape", value=8.0, digest="d")
    run.finish()
    mlflow.set_tracking_uri(tracking)
    folder = mlflow.artifacts.download_artifacts("models:/skipway-fake@champion")
    package = load_package(f"{folder}/artifacts/package")
    assert package.metadata["schema"] == SCHEMA
    assert (package.folder / "README.md").read_text() == card_of(package, TASK)
    assert "README.md" in [file.path for file in mlflow.MlflowClient().list_artifacts(run.mlflow_run_id)]


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("/a/tasks/ecg/train.py --lr 1", "python -m tasks.ecg.train --lr 1"),
        ("/a/tasks/compare.py --seeds 3", "python -m tasks.compare --seeds 3"),
        ("/tasks/b/tasks/__main__.py train", "python -m tasks train"),
        ("train.py", "python -m tasks.fake.train"),
        ("/usr/bin/skipway x 'a b'", "skipway x 'a b'"),
    ],
)
def test_a_command_is_given_as_it_is_typed(typed, expected):
    assert command_of(Record(id="r", task="fake", tags={"command": typed})) == expected


def test_outside_a_checkout_nothing_is_said_of_the_commit():
    known = provenance(Record(id="r", task="fake", metrics={"test/a": 1.0, "loss": 2.0}))
    assert known["commit"] is None and known["dirty"] is None and known["scores"] == {"test/a": 1.0}


def test_scores_come_back_by_method():
    assert results_of(scores_of(RESULTS)) == {name: result.metrics for name, result in RESULTS.items()}
    assert results_of({"baseline/nlm/set 5/psnr": 29, "test/psnr": "nan"})["nlm"] == {"set 5/psnr": 29.0}


def test_parameters_are_counted_once_each(made):
    shared = torch.nn.Linear(3, 2)

    class Networks(FakeTask):
        def modules(self, package):
            return {"a": torch.nn.Sequential(shared, shared), "b": torch.nn.BatchNorm1d(5)}

    class Predictor:
        def __init__(self):
            self.network, self.classes = torch.nn.Sequential(shared, shared), ["x"]

    assert count_parameters(Networks(), made[1], None) == 3 * 2 + 2 + 2 * 5
    assert count_parameters(TASK, made[1], Predictor()) == 3 * 2 + 2
    assert count_parameters(TASK, made[1], TASK.predictor(made[1])) is None


def test_types_are_named_as_mlflow_names_them():
    kinds = {"t": "string", "n": "long", "f": "double", "b": "boolean", "d": "datetime"}
    frame = pd.DataFrame({"t": ["a"], "n": [1], "f": [1.5], "b": [True], "d": pd.to_datetime(["2020-01-01"])})

    class Answers(FakeTask):
        def example(self, predictor):
            return frame.drop(columns="d"), {"n": 1, "s": "", "b": False}

        def serve(self, predictor, given, params):
            return frame

    schema = schema_of(Answers(), None)
    assert schema["output"] == kinds
    assert {name: entry["type"] for name, entry in schema["params"].items()} == {
        "n": "long",
        "s": "string",
        "b": "boolean",
    }


def test_long_texts_and_lists_are_cut_and_names_are_not():
    body = {
        "dataframe_split": {"columns": list("abcdef"), "data": [["x" * 60, 1.0]] * 5},
        "params": {"hop": 0.1},
    }
    cut = shortened(body)
    assert cut["dataframe_split"]["columns"] == list("abcdef")
    assert cut["dataframe_split"]["data"] == [["x" * 48 + "...", 1.0]] * 3 + ["..."]
    assert json.loads(text_of(body)) == body
    del body["params"]
    assert json.loads(text_of(body)) == body
