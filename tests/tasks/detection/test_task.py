"""The whole of a training through the real command, and every configuration that is shipped."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from commands import run_command, run_folder

from core.cli import _parse, main
from core.track.package import load_package
from tasks.detection.build import first_weights
from tasks.detection.config import MODELS
from tasks.detection.data.synthetic import write_overlays
from tasks.detection.models.build import build_network
from tasks.detection.task import TASK

ROOT = Path(__file__).parents[3]
CONFIGS = sorted((ROOT / "tasks" / "detection" / "configs").glob("*.yaml"))
TINY = [
    "--image_size=64",
    "--model.size=nano",
    "--train.epochs=2",
    "--train.batch_size=4",
    "--train.warmup_steps=1",
    "--train.log_every=1",
    "--train.device=cpu",
    "--train.tune_allocator=false",
    "--scoring.bootstrap=10",
    "--tracking=none",
]

run = partial(run_command, TASK)
the_run = partial(run_folder, TASK)


@pytest.fixture(scope="module")
def overlays(tmp_path_factory):
    folder = tmp_path_factory.mktemp("overlays")
    write_overlays(folder, counts={"train": 8, "test": 4}, size=96)
    return folder


@pytest.fixture(scope="module")
def trained(overlays, tmp_path_factory):
    """The folder of a finished run."""
    root = tmp_path_factory.mktemp("trained")
    assert main(TASK, "train", [f"--data.path={overlays}", f"--output={root / 'runs'}", *TINY]) == 0
    return root


# ---------------------------------------------------------------- configurations


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_configuration_is_valid_and_its_model_builds(path):
    config, _ = _parse(TASK, "train", ["--config", str(path)])
    content = yaml.safe_load(path.read_text())
    name = content["model"]["name"]
    assert (config.model.name, type(config.model)) == (name, MODELS[name])
    with torch.device("meta"):
        network = build_network(config.model, 2)
    assert sum(p.numel() for p in network.parameters()) > 1e6
    first = path.read_text().splitlines()
    assert first[0].startswith("# ") and any("-m tasks.detection.train" in line for line in first)


# ---------------------------------------------------------------- one training, looked at from all sides


def test_a_run_is_complete_and_beside_its_baselines(trained):
    folder = the_run(trained)
    record = json.loads((folder / "run.json").read_text())
    assert record["status"] == "FINISHED"
    assert {"test/map", "test/map50", "test/text/map50", "baseline/regions/map"} <= set(record["metrics"])
    assert (folder / "report.html").is_file()
    assert {path.suffix for path in (folder / "figures").iterdir()} == {".png"}
    assert len(list((folder / "figures").iterdir())) >= 4
    assert len(pd.read_csv(folder / "samples.csv")) == 4


def test_the_package_says_what_it_finds(trained):
    package = load_package(the_run(trained) / "package")
    assert package.config["classes"] == ["text", "disc", "square", "triangle"]
    assert package.config["image_size"] == 64
    assert package.metadata["classes"] == package.config["classes"]


def test_evaluation_gives_the_numbers_of_the_training(trained, overlays, work, capsys):
    folder = the_run(trained)
    code, _, error = run(
        "evaluate", ["--model", folder / "package", "--output", "scores", "--tracking=none"], capsys
    )
    assert (code, error) == (0, "")
    scores = json.loads((work / "scores" / "metrics.json").read_text())["metrics"]["model"]
    record = json.loads((folder / "run.json").read_text())["metrics"]
    assert scores["map"] == pytest.approx(record["test/map"], abs=1e-12)
    assert scores["map50"] == pytest.approx(record["test/map50"], abs=1e-12)


def test_a_folder_is_searched_and_a_broken_file_told(trained, overlays, work, capsys):
    inputs = work / "photos"
    inputs.mkdir()
    for path in sorted((overlays / "test").glob("*.jpg"))[:2]:
        (inputs / path.name).write_bytes(path.read_bytes())
    (inputs / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 nothing")
    argv = ["--model", the_run(trained) / "package", "--input", inputs, "--score=0.0", "--tracking=none"]
    code, _, error = run("predict", argv, capsys)
    assert code == 1
    assert error.count("error:") == 1 and "broken.jpg" in error
    (found,) = (work / "photos_detections").rglob("*.json")
    content = json.loads(found.read_text())
    assert len(content["images"]) == 2
    assert [category["name"] for category in content["categories"]] == ["text", "disc", "square", "triangle"]
    assert content["annotations"] and {"image_id", "category_id", "bbox", "score"} <= set(
        content["annotations"][0]
    )


def test_a_stopped_training_goes_on_to_the_same_weights(overlays, tmp_path, capsys, stop_after):
    """With mosaics, whose partners are the images that were drawn before."""
    argv = [f"--data.path={overlays}", "--augment.cache=4", *TINY]
    assert run("train", [*argv, f"--output={tmp_path / 'whole'}"], capsys)[0] == 0
    with stop_after(2):
        assert run("train", [*argv, f"--output={tmp_path / 'parts'}"], capsys)[0] == 130
    assert run("train", ["--resume=last", f"--output={tmp_path / 'parts'}"], capsys)[0] == 0
    packages = [
        load_package(next((tmp_path / name / "detection").iterdir()) / "package").tensors()
        for name in ("whole", "parts")
    ]
    assert all(torch.equal(tensor, packages[1][name]) for name, tensor in packages[0].items())


def test_another_backbone_and_another_rule_train_with_frozen_weights(overlays, tmp_path, capsys):
    argv = [f"--data.path={overlays}", f"--output={tmp_path / 'runs'}", *TINY, "--train.epochs=1"]
    options = ["--model.backbone=resnet18", "--model.rule=orthogonal", "--train.freeze=[backbone.layer1]"]
    code, _, error = run("train", [*argv, *options, "--scoring.baselines=[prior]"], capsys)
    assert (code, error) == (0, "")


def test_masks_are_learned_and_found(overlays, tmp_path, capsys):
    argv = [f"--data.path={overlays}", f"--output={tmp_path / 'runs'}", *TINY, "--train.epochs=1"]
    code, _, error = run("train", ["--model=rtmdet_ins", *argv, "--scoring.baselines=[prior]"], capsys)
    assert (code, error) == (0, "")
    record = json.loads((the_run(tmp_path) / "run.json").read_text())
    assert "test/segm_map" in record["metrics"]


def test_ssdlite_goes_through_the_same_loop(overlays, tmp_path, capsys):
    argv = [f"--data.path={overlays}", f"--output={tmp_path / 'runs'}", "--model=ssdlite"]
    argv += [word for word in TINY if not word.startswith("--model")]
    code, _, error = run("train", [*argv, "--train.epochs=1", "--scoring.baselines=[prior]"], capsys)
    assert (code, error) == (0, "")


def test_classes_are_taken_over_by_their_names(trained):
    package = load_package(the_run(trained) / "package")
    own, names = package.tensors(), package.config["classes"]
    turned = first_weights(package, names[::-1])
    assert set(turned) == set(own)
    for name, tensor in own.items():
        expected = tensor.flip(0) if ".rtm_cls." in name else tensor
        assert torch.equal(turned[name], expected)
    others = first_weights(package, [*names[:3], "star"])
    assert {name for name in own if name not in others} == {name for name in own if ".rtm_cls." in name}


def test_fine_tuning_and_a_teacher(trained, overlays, tmp_path, capsys):
    package = the_run(trained) / "package"
    argv = [f"--data.path={overlays}", f"--output={tmp_path / 'runs'}", "--scoring.baselines=[prior]", *TINY]
    code, said, error = run("train", [*argv, f"--train.start_from={package}", "--train.steps=3"], capsys)
    assert (code, error) == (0, "")
    assert "476 of 476 tensors" in " ".join(said.split())
    code, _, error = run("train", [*argv, f"--train.teacher={package}"], capsys)
    assert code == 2 and "cannot learn from a teacher" in error


def test_steps_of_the_part_and_objects_too_small_for_the_size_are_told(overlays, tmp_path, capsys):
    argv = [f"--data.path={overlays}", f"--output={tmp_path / 'runs'}", "--scoring.baselines=[prior]", *TINY]
    argv = [word for word in argv if "image_size" not in word]
    code, said, _ = run("train", [*argv, "--train.steps={model: 3}", "--image_size=64"], capsys)
    assert code == 0
    data = TASK.load(_parse(TASK, "train", argv)[0])
    sides = (data.train.boxes[:, 2:] - data.train.boxes[:, :2]).min(1) * 64 / 96
    share = f"{100 * (sides < 8).mean():.0f} % of the objects are under 8 pixels"
    assert (share in " ".join(said.split())) == ((sides < 8).mean() >= 0.05)


# ---------------------------------------------------------------- what users get wrong


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--image_size=100"], "--image_size 100 must be a multiple of 32"),
        (["--augment.scale=[2, 1]"], "--augment.scale"),
        (["--augment.hsv=[5]"], "--augment.hsv"),
        (["--augment.mosaic=2"], "--augment.mosaic 2.0 must lie between 0 and 1"),
        (["--augment.cache=2"], "--augment.cache 2 must be 4 or more"),
        (["--scoring.iou=1.5"], "--scoring.iou 1.5 must lie between 0 and 1"),
        (["--model.size=huge"], "--model.size"),
        (["--model.backbone=resnet81"], "resnet"),
        (["--train.patience=3"], "--train.patience 3 needs --train.validate_every"),
        (["--train.patience=3", "--train.validate_every=2"], "--data.validation_share above 0"),
        (
            ["--train.warmup_steps=9"],
            "--train.warmup_steps 9 is no shorter than the training of 4 steps; use 0",
        ),
        (["--scoring.overlap=0.95"], "--scoring.overlap 0.95 must lie from 0 to 0.9"),
        (["--data.classes=[txt]"], "text"),
        (["--train.freeze=[backbon]"], "backbone"),
        (["--train.batch_size=64"], "64"),
    ],
)
def test_a_wrong_option_is_one_line(options, said, overlays, work, capsys):
    code, _, error = run("train", [f"--data.path={overlays}", *TINY, *options], capsys)
    assert code in (1, 2)
    assert said in error and len(error.strip().splitlines()) == 1
    assert not (work / "runs").exists()


def test_ssdlite_needs_two_images(overlays, work, capsys):
    argv = [f"--data.path={overlays}", "--model=ssdlite", *[w for w in TINY if not w.startswith("--model")]]
    code, _, error = run("train", [*argv, "--train.batch_size=1"], capsys)
    assert code == 2 and "the norms of ssdlite need 2 images" in error


def test_boxes_alone_teach_no_masks(overlays, work, capsys):
    folder = work / "boxes"
    for part in ("train", "test"):
        (folder / part).mkdir(parents=True)
        for path in (overlays / part).iterdir():
            (folder / part / path.name).write_bytes(path.read_bytes())
        file = folder / part / "_annotations.coco.json"
        content = json.loads(file.read_text())
        for annotation in content["annotations"]:
            annotation["segmentation"] = []
        file.write_text(json.dumps(content))
    code, _, error = run("train", [f"--data.path={folder}", "--model=rtmdet_ins", *TINY], capsys)
    assert code == 2 and "learns masks, and the data has boxes alone" in error
