"""The whole of a training through the real command, and every configuration that is shipped."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from commands import run_command, run_folder
from PIL import Image

from core.backbones import create_backbone
from core.cli import _parse, main
from core.errors import ConfigError
from core.track.package import load_package
from tasks.segmentation.config import MODELS
from tasks.segmentation.data.synthetic import write_cells, write_organs
from tasks.segmentation.models.build import build_network
from tasks.segmentation.planning.plan import Intensities, Plan
from tasks.segmentation.task import TASK

ROOT = Path(__file__).parents[3]
CONFIGS = sorted((ROOT / "tasks" / "segmentation" / "configs").glob("*.yaml"))
TINY = [
    "--train.steps=3",
    "--train.batch_size=2",
    "--train.batches_per_epoch=3",
    "--train.validate_every=2",
    "--train.validation_batches=1",
    "--train.log_every=1",
    "--train.device=cpu",
    "--train.tune_allocator=false",
    "--tracking=none",
]
SMALL = ["--model.base_width=4", "--model.blocks=[1, 1, 1, 1, 1, 1]"]


def plan(dims):
    """Three stages for one channel."""
    return Plan(
        configuration="2d" if dims == 2 else "3d_fullres",
        preset="cpu",
        transpose=(0, 1, 2),
        spacing=(1.0,) * dims,
        patch_size=(32,) * dims,
        batch_size=2,
        median_shape=(16.0,) * dims,
        normalisation=("zscore",),
        masked_normalisation=(False,),
        intensities=(Intensities(0, 1, 0, 1),),
        strides=((1,) * dims, (2,) * dims, (2,) * dims),
        kernels=((3,) * dims,) * 3,
        widths=(4, 8, 16),
        blocks=(1, 1, 1),
        decoder_convs=(1, 1),
        residual=True,
        batch_dice=False,
    )


run = partial(run_command, TASK)
the_run = partial(run_folder, TASK)


@pytest.fixture(scope="module")
def cells(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cells")
    write_cells(folder, cases=8, size=48)
    return folder


@pytest.fixture(scope="module")
def organs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("organs")
    write_organs(folder, cases=7, shape=(12, 24, 20))
    return folder


@pytest.fixture(scope="module")
def trained(organs, tmp_path_factory):
    """The folder of a finished run on volumes."""
    root = tmp_path_factory.mktemp("trained")
    argv = [f"--data.path={organs}", f"--output={root / 'runs'}", *TINY, *SMALL]
    assert main(TASK, "train", argv) == 0
    return root


# ---------------------------------------------------------------- configurations


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_configuration_is_valid_and_its_model_builds(path):
    config, _ = _parse(TASK, "train", ["--config", str(path)])
    content = yaml.safe_load(path.read_text())
    if "model" in content:
        assert (config.model.name, type(config.model)) == (
            content["model"]["name"],
            MODELS[config.model.name],
        )
    dims = 2 if config.plan.configuration == "2d" or (config.plan.patch_size or [0] * 3)[2:] == [] else 3
    config.model.base_width = 4 if hasattr(config.model, "base_width") else None
    network = build_network(config.model, plan(dims), 1, 2).eval()
    with torch.inference_mode():
        assert network(torch.zeros(1, 1, *(32,) * dims)).shape == (1, 2, *(32,) * dims)
    assert config.train.steps or config.train.epochs
    first = path.read_text().splitlines()
    assert first[0].startswith("# ") and any("python -m tasks.segmentation" in line for line in first)


# ---------------------------------------------------------------- one training, looked at from all sides


def test_a_run_is_complete_and_beside_its_baseline(trained):
    folder = the_run(trained)
    record = json.loads((folder / "run.json").read_text())
    assert record["status"] == "FINISHED"
    assert {"test/dice", "test/head/dice", "test/tail/hd95", "baseline/prior/dice"} <= set(record["metrics"])
    assert "val_pseudo_dice_ema" in (folder / "metrics.jsonl").read_text()
    assert (folder / "report.html").is_file()
    pictures = {path.stem for path in (folder / "figures").glob("*.png")}
    assert {"worst_cases", "dice"} <= pictures
    samples = pd.read_csv(folder / "samples.csv")
    assert {"case", "class", "dice", "iou", "hd95", "surface_dice"} <= set(samples)


def test_the_package_holds_plan_labels_and_reasons(trained):
    package = load_package(the_run(trained) / "package")
    assert package.metadata["classes"] == ["head", "tail"]
    stored = Plan.from_dict(package.config["plan"])
    assert stored.configuration == "3d_fullres" and stored.dims == 3 and stored.why
    assert package.config["channels"] == ["MRI"] and package.config["folds"] == ["model"]


def test_evaluate_gives_the_numbers_of_the_training(trained, work, capsys):
    folder = the_run(trained)
    code, out, err = run("evaluate", ["--model", folder, "--tracking=none"], capsys)
    assert code == 0, err
    scores = json.loads((work / "evaluation" / "metrics.json").read_text())["metrics"]
    record = json.loads((folder / "run.json").read_text())["metrics"]
    for name, value in scores["model"].items():
        assert record[f"test/{name}"] == pytest.approx(value, nan_ok=True), name
    assert "other data" not in out


def test_predict_keeps_geometry_and_skips_what_is_broken(trained, organs, work, capsys):
    import nibabel

    source = work / "in"
    source.mkdir()
    first = sorted((organs / "imagesTr").iterdir())[0]
    (source / first.name).write_bytes(first.read_bytes())
    (source / "broken_0000.nii.gz").write_bytes(first.read_bytes()[:100])
    argv = ["--model", the_run(trained), "--input", source, "--output", "out", "--overlay", "--tracking=none"]
    code, _, err = run("predict", argv, capsys)
    assert code == 1 and "broken" in err and len(err.strip().splitlines()) == 1
    name = first.name.replace("_0000.nii.gz", ".nii.gz")
    result, image = nibabel.load(work / "out" / name), nibabel.load(first)
    assert result.shape == image.shape and np.allclose(result.affine, image.affine)
    assert set(np.unique(np.asarray(result.dataobj))) <= {0, 1, 2}
    assert [p for p in (work / "out").iterdir() if p.suffix == ".png"]


def test_a_served_model_takes_files_as_base64(trained):
    predictor = TASK.predictor(load_package(the_run(trained) / "package"))
    frame, params = TASK.example(predictor)
    answer = TASK.serve(predictor, frame, params)
    assert len(answer) == len(frame) and "labels" in answer


@pytest.mark.parametrize("format", ["pt2", "onnx"])
def test_an_exported_program_takes_patches(trained, work, capsys, format):
    if format == "onnx":
        pytest.importorskip("onnxruntime")
    argv = ["--model", the_run(trained), "--format", format, "--output", work, "--tracking=none"]
    code, out, err = run("export", argv, capsys)
    assert code == 0, err
    assert "same output checked" in " ".join(out.split())


# ---------------------------------------------------------------- options


def test_objects_are_told_apart(cells, work, capsys):
    code, _, err = run("train", ["--data.path", cells, "--data.instances=yes", *TINY, *SMALL], capsys)
    assert code == 0, err
    record = json.loads((the_run(work) / "run.json").read_text())["metrics"]
    assert {"test/dice", "test/instance_f1", "test/auc", "baseline/threshold/dice"} <= set(record)
    image = sorted((cells / "images").iterdir())[0]
    code, _, err = run("predict", ["--model", the_run(work), "--input", image, "--tracking=none"], capsys)
    assert code == 0, err
    (result,) = cells.glob("images/*_seg.png")
    with Image.open(result) as found, Image.open(image) as given:
        assert found.size == given.size
    result.unlink()


@pytest.mark.parametrize(
    "model",
    [
        ["--model=r2unet", "--model.base_width=2", "--model.rule=orthogonal"],
        [
            "--model=smp",
            "--model.rule=scaled",
            "--model.options={encoder_depth: 3, decoder_channels: [8, 8, 4]}",
        ],
    ],
    ids=lambda words: words[0].removeprefix("--model="),
)
def test_other_networks_in_the_same_pipeline(cells, work, capsys, model):
    argv = ["--data.path", cells, *TINY, *model, "--augment.kind=flips", "--plan.patch_size=[32, 32]"]
    code, _, err = run("train", argv, capsys)
    assert code == 0, err


def test_a_model_is_rebuilt_without_the_file_of_its_first_weights(cells, work, capsys):
    encoder = create_backbone("resnet18", num_classes=2)
    torch.save(encoder.state_dict(), work / "resnet18.pth")
    argv = ["--model=smp", "--model.encoder_weights=resnet18.pth", "--plan.patch_size=[32, 32]"]
    code, _, err = run("train", ["--data.path", cells, *TINY, *argv], capsys)
    assert code == 0, err
    (work / "resnet18.pth").unlink()
    package = load_package(the_run(work) / "package")
    assert package.config["model"]["encoder_weights"] is None
    TASK.predictor(package)


def test_few_cases_are_trained_on_without_validation(organs, work, capsys):
    few = work / "few"
    for folder in ("imagesTr", "labelsTr"):
        (few / folder).mkdir(parents=True)
        for path in sorted((organs / folder).iterdir())[:3]:
            (few / folder / path.name).write_bytes(path.read_bytes())
    code, out, err = run("train", ["--data.path", few, *TINY, *SMALL], capsys)
    assert code == 0 and "none watched" in out, err
    code, _, err = run("train", ["--data.path", few, *TINY, *SMALL, "--train.patience=2"], capsys)
    assert code == 2 and "--train.patience" in err and len(err.strip().splitlines()) == 1


def test_folds_hold_each_case_out_once_and_a_cascade_reads_them(organs, work, capsys):
    low = ["--plan.configuration=3d_lowres", "--plan.spacing=[4, 2.4, 2.4]", "--data.folds=2"]
    code, _, err = run("train", [f"--data.path={organs}", *low, *TINY, *SMALL, "--output=low"], capsys)
    assert code == 0, err
    (folder,) = (work / "low" / "segmentation").iterdir()
    rows = pd.read_csv(folder / "samples.csv")
    assert rows.groupby("class").case.nunique().eq(7).all() and not rows.duplicated(["case", "class"]).any()
    fine = ["--plan.configuration=3d_cascade_fullres", f"--plan.previous={folder}"]
    code, _, err = run("train", [f"--data.path={organs}", *fine, *TINY, *SMALL], capsys)
    assert code == 0, err
    package = load_package(the_run(work) / "package")
    assert package.config["plan"]["previous_classes"] == 2
    assert package.config["previous"]["plan"]["configuration"] == "3d_lowres"
    assert list(package.config["previous"]["learned_from"]) == ["fold_0", "fold_1"]
    code, _, err = run("evaluate", ["--model", the_run(work), "--tracking=none"], capsys)
    assert code == 0, err


def test_pretraining_gives_a_start_and_no_segmentation(organs, trained, work, capsys):
    argv = [f"--data.path={organs}", *TINY, *SMALL, "--model.deep_supervision=false", "--objective=masked"]
    code, _, err = run("train", [*argv, "--masked.block=4"], capsys)
    assert code == 0, err
    folder = the_run(work)
    record = json.loads((folder / "run.json").read_text())["metrics"]
    assert {"test/explained", "baseline/nearest/explained"} <= set(record)
    with pytest.raises(ConfigError, match="fine-tune it"):
        TASK.predictor(load_package(folder / "package"))
    argv = [
        f"--data.path={organs}",
        *TINY,
        *SMALL,
        f"--train.start_from={folder}",
        "--train.schedule=sawtooth",
    ]
    code, out, err = run("train", [*argv, "--output=fine", "--data.label_share=0.5"], capsys)
    assert code == 0 and "starts from" in out, err


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--data.path=nowhere"], "nowhere"),
        (["--model.rule=ad"], "add"),
        (["--plan.configuration=3d_cascade_fullres"], "--plan.previous"),
        (["--plan.patch_size=[8]"], "patch_size"),
        (["--model=unet", "--model.norm=instance", "--plan.patch_size=[16, 16, 16]"], "instance norm"),
        (["--data.folds=99"], "folds"),
        (["--data.fold=3"], "fold"),
        (["--model=unet", "--model.rule=orthogonal"], "unet"),
        (["--train.foreground=2"], "foreground"),
        (["--scoring.step=0"], "--scoring.step 0.0"),
        (["--augment.probability=-1"], "--augment.probability -1.0"),
        (["--masked.block=900", "--objective=masked", "--model.deep_supervision=false"], "block"),
    ],
)
def test_wrong_options_are_one_line(organs, work, capsys, argv, words):
    code, _, err = run("train", [f"--data.path={organs}", *TINY, *argv], capsys)
    assert code in (1, 2) and len(err.strip().splitlines()) == 1 and words in err, err
    assert not (work / "runs").exists()


def test_a_stopped_run_resumes_to_the_same_result(organs, work, capsys, monkeypatch, stop_after):
    """SIGTERM between two validations: the average of the pseudo-Dice goes on where it was."""
    monkeypatch.setattr(TASK, "figures", lambda *given: iter(()))  # they take most of the time
    argv = [f"--data.path={organs}", *TINY, *SMALL, "--train.steps=5"]
    assert run("train", [*argv, "--output=whole"], capsys)[0] == 0
    with stop_after(3):
        code, _, err = run("train", [*argv, "--output=stopped"], capsys)
    assert code == 130 and "after step 3" in err
    code, _, err = run("train", ["--resume=last", "--output=stopped"], capsys)
    assert code == 0, err
    folders = [next((work / name / "segmentation").iterdir()) for name in ("whole", "stopped")]
    first, second = (load_package(folder / "package").tensors() for folder in folders)
    assert all(torch.equal(first[name], second[name]) for name in first)
    averages = [
        [
            json.loads(line)["values"].get("val_pseudo_dice_ema")
            for line in (folder / "metrics.jsonl").read_text().splitlines()
        ]
        for folder in folders
    ]
    assert [v for v in averages[0] if v][-1] == [v for v in averages[1] if v][-1]
