"""The whole of a training through the real command, and every configuration that is shipped."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from commands import run_command, run_folder
from PIL import Image

from core.cli import _parse, main
from core.data.images.files import read_picture
from tasks.denoising.build import build_model
from tasks.denoising.config import MODELS
from tasks.denoising.noise import check
from tasks.denoising.task import TASK

ROOT = Path(__file__).parents[3]
CONFIGS = sorted((ROOT / "tasks" / "denoising" / "configs").glob("*.yaml"))
TINY = [
    "--model.layers=3",
    "--model.width=4",
    "--data.patch=12",
    "--data.patches=8",
    "--train.steps=2",
    "--train.batch_size=4",
    "--train.log_every=1",
    "--train.device=cpu",
    "--train.tune_allocator=false",
    "--tracking=none",
]


def picture(seed, height=40, width=36, channels=1):
    rows, columns = np.mgrid[:height, :width]
    waves = [np.sin(rows / (3 + seed + c)) + np.cos(columns / 5) for c in range(channels)]
    return (63 * (np.stack(waves, axis=2) + 2)).astype(np.uint8).squeeze()


def photos(folder, count=2, **options):
    folder.mkdir(parents=True)
    for i in range(count):
        Image.fromarray(picture(i, **options)).save(folder / f"{i}.png")
    return folder


run = partial(run_command, TASK)
the_run = partial(run_folder, TASK)


# ---------------------------------------------------------------- configurations


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_configuration_is_valid_and_its_model_builds(path):
    config, _ = _parse(TASK, "train", ["--config", str(path)])
    check(config.data)
    content = yaml.safe_load(path.read_text())
    assert (config.model.name, type(config.model)) == (content["model"]["name"], MODELS[config.model.name])
    model = build_model(config.model, config.data.channels or 1)
    assert (model.channels, model.scale) == (config.data.channels or 1, 1)
    assert model.halo > 1
    assert config.train.steps or config.train.epochs
    first = path.read_text().splitlines()
    assert first[0].startswith("# ") and any("python -m tasks.denoising.train" in line for line in first)


def test_the_default_configuration_takes_a_folder_of_ones_own(work):
    """With the images' own channels, and not scikit-image's photographs."""
    photos(work / "mine", 3, channels=3)
    config, _ = _parse(TASK, "train", ["--data.path=mine"])
    data = TASK.load(config)
    assert (data.name, data.size, data.channels) == ("mine", 3, 3)


def test_the_default_configuration_needs_no_data_of_ones_own():
    config, _ = _parse(TASK, "train", [])
    data = TASK.load(config)
    assert (data.name, data.channels) == ("photographs", 1)


# ---------------------------------------------------------------- one training, looked at from all sides


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The working directory of a finished run of the default configuration on two small gray images."""
    root = tmp_path_factory.mktemp("trained")
    argv = [f"--data.path={photos(root / 'photos')}", f"--output={root / 'runs'}", *TINY]
    assert main(TASK, "train", [*argv, "--data.test_sigma=[15, 25]"]) == 0
    return root


def test_a_run_folder_is_complete(trained):
    folder = the_run(trained)
    assert json.loads((folder / "run.json").read_text())["status"] == "FINISHED"
    names = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert names >= {
        "config.yaml",
        "run.json",
        "metrics.jsonl",
        "samples.csv",
        "report.html",
        "package/config.json",
        "package/weights.safetensors",
        "package/metadata.json",
        "figures/test_sigma_15.png",
        "figures/test_sigma_25.png",
        "figures/psnr_by_noise_level.png",
    }
    rows = pd.read_csv(folder / "samples.csv")
    assert rows["condition"].tolist() == ["sigma 15", "sigma 25"]
    metrics = json.loads((folder / "run.json").read_text())["metrics"]
    assert metrics["test/psnr"] == pytest.approx(rows["psnr"].mean())
    assert metrics["test/test sigma 25/psnr"] == pytest.approx(rows["psnr"][1])
    for name in ("baseline/nlm/psnr", "baseline/noisy/ssim", "loss", "psnr"):
        assert np.isfinite(metrics[name])


def test_evaluate_gives_the_numbers_of_the_training(trained, work, capsys):
    folder = the_run(trained)
    code, out, _ = run("evaluate", [f"--model={folder}", "--tracking=none", "--output=scores"], capsys)
    assert code == 0
    assert "as in training: " in out and "data.path " in out
    assert "this is other data" not in out
    metrics = json.loads((folder / "run.json").read_text())["metrics"]
    scored = json.loads((work / "scores" / "metrics.json").read_text())["metrics"]
    for method, prefix in (("model", "test"), ("nlm", "baseline/nlm"), ("noisy", "baseline/noisy")):
        assert set(scored[method]) == {"psnr", "ssim"} | {
            f"test sigma {level}/{name}" for level in (15, 25) for name in ("psnr", "ssim")
        }
        for name, value in scored[method].items():
            assert value == pytest.approx(metrics[f"{prefix}/{name}"], rel=1e-9)
    assert (work / "scores" / "samples.csv").read_bytes() == (folder / "samples.csv").read_bytes()
    assert "PSNR by protocol" not in out


def test_evaluate_takes_over_the_channels_that_training_found(trained, work, capsys):
    """The training images are gray; colour ones are turned gray for the model."""
    photos(work / "Colour", 1, channels=3)
    argv = [f"--model={the_run(trained)}", "--tracking=none", f"--data.test_path=[{work / 'Colour'}]"]
    assert run("evaluate", [*argv, "--output=scores"], capsys)[0] == 0
    stored = json.loads((the_run(trained) / "package" / "metadata.json").read_text())
    assert stored["data"]["config"]["channels"] == 1


def test_evaluate_on_other_images_and_by_other_protocols(trained, work, capsys):
    photos(work / "Set1", 1, height=33)
    argv = [f"--model={the_run(trained)}", "--tracking=none", f"--data.test_path=[{work / 'Set1'}]"]
    code, out, _ = run("evaluate", [*argv, "--output=scores", "--all-protocols"], capsys)
    assert code == 0
    assert "Set1: 1 samples" in out and "this is other data" in out
    lines = out[out.index("PSNR by protocol") :].splitlines()
    scored = json.loads((work / "scores" / "metrics.json").read_text())["metrics"]["model"]
    assert float(lines[1].split()[2]) == pytest.approx(scored["psnr"], abs=1e-3)
    assert any("another seed of the noise" in line for line in lines)


def test_predict_with_the_run_folder(trained, work, capsys):
    photos(work / "in", 2, height=30)
    (work / "in" / "2.png").write_bytes(b"")
    argv = [f"--model={the_run(trained)}", "--tracking=none", "--tune=false"]
    code, out, err = run("predict", [*argv, "--input=in", "--output=out", "--sigma=60"], capsys)
    assert code == 1
    assert err.count("\n") == 1
    assert err.startswith("error: in/2.png: the file is empty")
    assert sorted(path.name for path in (work / "out").iterdir()) == ["0.png", "1.png"]
    for name in ("0.png", "1.png"):
        assert read_picture(work / "out" / name).pixels.shape == (30, 36, 1)
        assert (
            f"{name}: 36x30, 1 channel(s), uint8, noise level 60.0 of 255 (given); this model is for 25"
            in out
        )
    code, out, err = run("predict", [*argv, "--input=in", "--output=other", "--strict"], capsys)
    assert (code, err.count("\n")) == (1, 1)
    assert "(estimated)" in out


def test_predict_is_the_network_on_the_image(trained, work, capsys):
    import torch

    from core.track.package import load_package

    Image.fromarray(picture(3)).save(work / "a.png")
    folder = the_run(trained)
    argv = [f"--model={folder}", "--tracking=none", "--input=a.png", "--output=b.png", "--tune"]
    assert run("predict", argv, capsys)[0] == 0
    model = TASK.modules(load_package(folder / "package"))["model"]
    with torch.no_grad():
        expected = (
            255 * model(torch.from_numpy(picture(3) / 255).float()[None, None])[0, 0].clip(0, 1).numpy()
        )
    assert np.abs(np.asarray(Image.open(work / "b.png")) - expected).max() < 0.51


def test_colour_through_a_gray_model_is_one_line(trained, work, capsys):
    Image.fromarray(picture(0, channels=3)).save(work / "a.png")
    argv = [f"--model={the_run(trained)}", "--tracking=none", "--input=a.png", "--output=b.png"]
    code, _, err = run("predict", [*argv, "--tune=false"], capsys)
    assert (code, err.count("\n")) == (1, 1)
    assert err.startswith(
        "error: a.png: the image is colour (3 channels) and the model is for gray (1 channel)"
    )


def test_export_writes_a_program(trained, work, capsys):
    argv = [f"--model={the_run(trained)}", "--tracking=none", "--format=pt2", "--output=programs"]
    code, out, _ = run("export", argv, capsys)
    assert code == 0
    assert "same output checked" in out
    assert [path.name for path in (work / "programs").iterdir()] == ["denoising.pt2"]


def test_a_finished_run_is_not_resumed(trained, work, capsys):
    code, _, err = run("train", [f"--resume={the_run(trained)}"], capsys)
    assert code == 2
    assert err.count("\n") == 1
    assert "is finished; --config" in err


def test_a_stopped_run_resumes_to_the_same_result(work, capsys, monkeypatch, stop_after):
    """SIGTERM in the second of three steps, in the middle of an epoch of patches and noise."""
    monkeypatch.setattr(TASK, "figures", lambda *given: iter(()))  # they take most of the time
    argv = [
        f"--data.path={photos(work / 'photos')}",
        "--data.kinds=[clipped, super_resolution, jpeg]",
        *TINY,
    ]
    argv = [
        *argv,
        "--train.steps=3",
        "--data.scales=[2]",
        "--data.test_quality=[10]",
        "--scoring.baselines=[noisy]",
    ]
    assert run("train", [*argv, "--output=whole"], capsys)[0] == 0
    with stop_after(1):
        code, _, err = run("train", [*argv, "--output=stopped"], capsys)
    assert code == 130 and "after step 1 of 3" in err
    assert run("train", ["--output=stopped", "--resume=last"], capsys)[0] == 0
    (whole,), (stopped,) = ((work / name / "denoising").iterdir() for name in ("whole", "stopped"))
    for name in ("samples.csv", "package/weights.safetensors"):
        assert (stopped / name).read_bytes() == (whole / name).read_bytes()


# ---------------------------------------------------------------- other data


def test_a_model_of_pairs(work, capsys):
    for name in ("noisy", "clean"):
        photos(work / "pairs" / name, 3)
    code, _, _ = run("train", ["--data.path=pairs", "--train.loss=l1", *TINY], capsys)
    assert code == 0
    folder = the_run(work)
    assert pd.read_csv(folder / "samples.csv")["condition"].tolist() == ["real"]
    assert json.loads((folder / "package" / "metadata.json").read_text())["degradation"] == {
        "kinds": ["real"]
    }
    assert not (folder / "figures" / "psnr_by_noise_level.png").exists()


@pytest.mark.parametrize(
    ("flags", "code", "expected"),
    [
        (["--data.path=missing"], 1, "missing: there is no such file or folder"),
        (["--data.path=empty"], 1, "empty: no images in this folder"),
        (["--data.path=one"], 1, "one group alone cannot be split"),
        (["--data.path=photos", "--data.patch=41"], 1, "less than a patch of 41; lower --data.patch"),
        (["--data.test_path=[photos]"], 2, "training needs images to learn from: give --data.path FOLDER"),
        (["--data.path=photos", "--data.kinds=[gausian]"], 2, "--data.kinds"),
        (["--data.path=photos", "--data.sigma=[9, 5]"], 2, "is not a range"),
        (["--data.path=photos", "--data.name=photographs"], 2, "--data.name photographs takes no path"),
        (["--data.path=photos", "--scoring.baselines=[bm3d]"], 2, "pip install bm3d"),
        (["--data.path=photos", "--train.loss=l3"], 2, "--train.loss"),
        (["--data.path=photos", "--model.layers=2"], 2, "--model.layers 2 is too few for DnCNN"),
        (["--data.path=photos", "--model.variant=kia"], 2, "Did you mean 'kair'?"),
        (["--data.path=photos", "--train.batch_size=99"], 1, "--train.batch_size"),
        (["--data.path=photos", "--model=dncn"], 2, "Did you mean 'dncnn'?"),
    ],
)
def test_a_start_that_fails_is_one_line_and_leaves_nothing(flags, code, expected, work, capsys, monkeypatch):
    from tasks.denoising import scoring

    monkeypatch.setattr(scoring, "find_spec", lambda name: None)
    photos(work / "photos")
    photos(work / "one", 1)
    (work / "empty").mkdir()
    given = [flag.split("=")[0] for flag in flags]
    argv = [word for word in TINY if word.split("=")[0] not in given]
    if flags[-1].startswith("--model="):
        argv = [word for word in argv if not word.startswith("--model")]
    result, _, err = run("train", [*argv, *flags], capsys)
    assert (result, err.count("\n")) == (code, 1), err
    assert expected in err and "error: " in err
    assert not (work / "runs").exists()
