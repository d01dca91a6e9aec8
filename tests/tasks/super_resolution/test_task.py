"""The task end to end through the command line, and its configurations."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from core.cli import main
from core.data.images.resize import imresize
from core.parser import parse
from core.track.package import load_package
from tasks.super_resolution.build import build_model
from tasks.super_resolution.config import MODELS, SuperResolutionConfig
from tasks.super_resolution.task import TASK

CONFIGS = Path(__file__).parents[3] / "tasks" / "super_resolution" / "configs"
COUNTS = {"rcan": 15_444_667, "carn": 1_591_963, "carn_m": 414_811}  # of the released networks


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with images and the run of a CARN-M of two scales that has seen two batches."""
    root = tmp_path_factory.mktemp("sr")
    (root / "images").mkdir()
    for i in range(4):
        small = np.random.default_rng(i).integers(0, 256, (6, 6, 3), np.uint8)
        cv2.imwrite(str(root / "images" / f"{i}.png"), imresize(small, (40, 44)))
    (root / "images" / "broken.png").write_bytes(b"no image")
    status = train(root, "--model", "carn_m", "--model.width", "8", "--data.scales", "[2, 3]")
    assert status == 0
    (run,) = (root / "runs" / "super_resolution").iterdir()
    return root, run


def train(root, *options):
    shared = ["--data.path", str(root / "images")]
    shared += ["--data.patch", "8", "--data.patches", "4", "--train.steps", "2", "--train.batch_size", "2"]
    shared += ["--output", str(root / "runs"), "--tracking", "none", "--register", "false"]
    return main(TASK, "train", [*shared, *options])


def use(command, run, *options):
    return main(TASK, command, ["--model", str(run), "--tracking", "none", *options])


def test_training_leaves_a_package_and_a_report(place):
    _, run = place
    assert (run / "report.html").is_file()
    package = load_package(run / "package")
    assert package.metadata["scales"] == [2, 3]
    assert package.metadata["patch"] == 8
    samples = pd.read_csv(run / "samples.csv")
    assert sorted(samples.condition.unique()) == ["x2", "x3"]


def test_evaluate_takes_the_scales_of_the_model(place, capsys):
    root, run = place
    where = root / "evaluation"
    options = ["--data.test_path", f"[{root / 'images'}]", "--all-protocols", "--output", str(where)]
    assert use("evaluate", run, *options) == 0
    scores = json.loads((where / "metrics.json").read_text())["metrics"]
    assert set(scores) == {"model", "bicubic"}
    assert {"images x2/psnr", "images x3/ssim", "psnr"} <= set(scores["model"])
    assert "small images by cv2_cubic" in capsys.readouterr().out


def test_predict_enlarges_and_keeps_type_alpha_and_gray(place, capsys):
    root, run = place
    source = root / "input"
    source.mkdir()
    rng = np.random.default_rng(0)
    shapes = {"colour": (9, 11, 3), "gray": (9, 11), "alpha": (9, 11, 4)}
    for name, shape in shapes.items():
        cv2.imwrite(str(source / f"{name}.png"), rng.integers(0, 256, shape, np.uint8))
    cv2.imwrite(str(source / "deep.png"), rng.integers(0, 65536, (9, 11, 3), np.uint16))
    (source / "broken.png").write_bytes(b"no image")
    options = ["--input", str(source), "--output", str(root / "large"), "--scale", "3", "--tune", "false"]
    assert use("predict", run, *options) == 1
    for name, shape in shapes.items():
        written = cv2.imread(str(root / "large" / f"{name}.png"), cv2.IMREAD_UNCHANGED)
        assert written.shape == (27, 33, *shape[2:])
        assert written.dtype == np.uint8
    assert cv2.imread(str(root / "large" / "deep.png"), cv2.IMREAD_UNCHANGED).dtype == np.uint16
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "broken.png" in line and "not an image" in line


@pytest.mark.parametrize(
    ("command", "options", "words"),
    [
        ("predict", ["--input", "{images}/0.png", "--output", "{out}", "--scale", "4"], "enlarges by 2, 3"),
        ("evaluate", ["--data.test_path", "[{images}]", "--data.scales", "[4]"], "does not enlarge by 4"),
        ("evaluate", ["--data.test_path", "[{out}/nothing]"], "no such file or folder"),
    ],
)
def test_wrong_uses_are_one_line(place, capsys, command, options, words):
    root, run = place
    filled = [option.format(images=root / "images", out=root / "out") for option in options]
    output = [] if command == "predict" else ["--output", str(root / "out")]
    assert use(command, run, *filled, *output) in (1, 2)
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert words in line


def test_the_result_goes_beside_the_input_and_names_the_scale():
    predictor = SimpleNamespace(scales=(2, 3))
    for scale, expected in ((None, "photo_x2.png"), (3, "photo_x3.png")):
        assert TASK.default_output(predictor, TASK.predict_class(input="photo.jpg", scale=scale)) == expected


def test_rcan_has_one_scale(place, capsys):
    root, _ = place
    assert train(root, "--data.scales", "[2, 3]") == 2
    assert "train one model for each" in capsys.readouterr().err


def test_serving_answers_at_the_scale_of_the_request(place):
    _, run = place
    predictor = TASK.predictor(load_package(run / "package"))
    frame, params = TASK.example(predictor)
    assert params == {"scale": 2}
    for scale in (2, 3):
        (answer,) = TASK.serve(predictor, frame, {"scale": scale})["image"]
        decoded = cv2.imdecode(np.frombuffer(base64.b64decode(answer), np.uint8), cv2.IMREAD_COLOR)
        assert decoded.shape == (32 * scale, 32 * scale, 3)


def test_export_writes_a_program_that_gives_the_models_output(place):
    root, run = place
    predictor = TASK.predictor(load_package(run / "package"))
    predictor.scales = (3,)  # one program is enough for a test
    (path,) = TASK.export(predictor, root, "pt2")
    x = torch.rand(1, 3, 10, 7)
    with torch.inference_mode():
        torch.testing.assert_close(torch.export.load(path).module()(x), predictor.network(x, 3))


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_configurations_are_read_and_their_networks_have_the_published_size(path):
    known = yaml.safe_load(path.read_text())
    config = parse(SuperResolutionConfig, ["--config", str(path)], prog="t", description="", models=MODELS)
    assert config.model.name == known["model"]["name"]
    assert config.train.steps == known["train"]["steps"]
    with torch.device("meta"):
        model = build_model(config.model, config.data.scales, config.data.channels)
    if path.stem in COUNTS:
        assert sum(p.numel() for p in model.parameters()) == COUNTS[path.stem]
