"""The whole of a training through the real command, and every configuration that is shipped."""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from channel_files import (
    ANTENNAS,
    CHANNELS,
    HISTORY,
    HORIZON,
    QUICK,
    SMALL,
    SUBCARRIERS,
    TINY,
    histories,
    make_condition,
)
from commands import run_command, run_folder

from core.cli import _parse
from core.residual import list_rules
from core.track.package import load_package
from tasks.csi.config import MODELS
from tasks.csi.generate import main as generate
from tasks.csi.models.build import build_network
from tasks.csi.task import TASK

ROOT = Path(__file__).parents[3]
CONFIGS = sorted((ROOT / "tasks" / "csi" / "configs").glob("*.yaml"))
MODEL_OPTIONS = {
    "csi4cast_tdd": SMALL,
    "csi4cast_fdd": [*SMALL, "--model.band_hidden=4"],
    "csi4cast_small": SMALL,
    "rnn": ["--model.width=4"],
    "cnn": ["--model.width=4"],
    "transformer": ["--model.width=8", "--model.feedforward=8"],
    "backbone": ["--model.backbone=resnet20_cifar"],
}
NO_COST = "--scoring.cost=false"  # its measurement takes most of the time

run = partial(run_command, TASK)
the_run = partial(run_folder, TASK)


@pytest.fixture
def no_figures(monkeypatch):
    """They take most of the time."""
    monkeypatch.setattr(TASK, "figures", lambda *given: iter(()))


def record_of(folder):
    return json.loads((folder / "run.json").read_text())


# ---------------------------------------------------------------- configurations


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_configuration_is_valid_and_its_model_builds(path):
    config, _ = _parse(TASK, "train", ["--config", str(path)])
    name = yaml.safe_load(path.read_text())["model"]["name"]
    assert (config.model.name, type(config.model)) == (name, MODELS[name])
    data = config.data
    with torch.device("meta"):
        network = build_network(config.model, data.subcarriers, data.history, data.horizon)
        rows = torch.empty(2, data.history, 2 * data.subcarriers)
        assert network(rows).shape == (2, data.horizon, 2 * data.subcarriers)
    counts = {"csi4cast_tdd": 21_913_750, "csi4cast_fdd": 38_636_286}
    if name in counts:
        assert sum(p.numel() for p in network.parameters()) == counts[name]
        assert name.endswith(data.duplex)
    first = path.read_text().splitlines()
    assert first[0].startswith("# ") and any("python -m tasks.csi.train" in line for line in first)


# ---------------------------------------------------------------- one training, looked at from all sides


def test_a_run_is_complete_and_beside_its_baselines(trained):
    folder = the_run(trained)
    record = record_of(folder)
    assert record["status"] == "FINISHED"
    for prefix in ("test", *(f"baseline/{name}" for name in ("last", "ar", "wiener", "pad"))):
        for metric in (
            "nmse",
            "nmse_db",
            "spectral_efficiency",
            "cosine",
            "cpu_s_per_sample",
            "clean/unseen_model/nmse",
        ):
            assert f"{prefix}/{metric}" in record["metrics"], (prefix, metric)
        assert {f"{prefix}/clean/nmse", f"{prefix}/awgn_10dB/nmse"} <= set(record["metrics"])
    assert record["metrics"]["test/parameters"] > 0
    assert (folder / "report.html").is_file()
    pictures = list((folder / "figures").iterdir())
    assert len(pictures) >= 4 and {path.suffix for path in pictures} == {".png"}
    rows = pd.read_csv(folder / "samples.csv")
    assert len(rows) == 2 * 4 * 3, "each sample of four conditions, in silence and in noise"
    assert set(rows.model) == {"A", "E"} and rows.unseen_model.eq(rows.model == "E").all()
    assert rows.nmse.mean() == pytest.approx(record["metrics"]["test/nmse"])


def test_the_package_says_what_it_takes_and_gives(trained):
    package = load_package(the_run(trained) / "package")
    expected = {
        "antennas": ANTENNAS,
        "subcarriers": SUBCARRIERS,
        "history": HISTORY,
        "horizon": HORIZON,
        "duplex": "tdd",
        "spacing": 30e3,
        "carrier": 2.4e9,
    }
    assert expected.items() <= package.config.items()
    assert package.config["interval"] == pytest.approx(5 * 14 / 30e3, rel=0.5)
    assert package.metadata["input"].startswith(
        "complex history (samples, antennas, 6 reports, 8 subcarriers"
    )
    assert package.metadata["data"]["size"] == 2 * 8 + 4 * 3
    assert package.metadata["data"]["config"]["test_models"] == ["A", "E"]


def test_evaluate_gives_the_numbers_of_the_training(trained, work, capsys):
    folder = the_run(trained)
    code, out, err = run("evaluate", ["--model", folder, "--tracking=none"], capsys)
    assert (code, err) == (0, "") and "other data" not in out
    scores = json.loads((work / "evaluation" / "metrics.json").read_text())["metrics"]
    record = record_of(folder)["metrics"]
    for method, values in scores.items():
        prefix = "test" if method == "model" else f"baseline/{method}"
        for name in set(values) - {"cpu_s_per_sample"}:
            assert record[f"{prefix}/{name}"] == pytest.approx(values[name]), name
    assert (work / "evaluation" / "samples.csv").read_bytes() == (folder / "samples.csv").read_bytes()


def test_evaluate_on_other_conditions_and_disturbances(trained, work, capsys, no_figures):
    argv = ["--model", the_run(trained), "--data.test_models=[E]", "--data.test_noise=[phase:10dB, drop:0.5]"]
    code, out, err = run("evaluate", [*argv, NO_COST, "--tracking=none"], capsys)
    assert (code, err) == (0, "") and "other data" in out
    rows = pd.read_csv(work / "evaluation" / "samples.csv")
    assert set(rows.model) == {"E"} and set(rows.disturbance) == {"phase_10dB", "drop_0.5"}
    assert rows.unseen_model.all()


def test_evaluate_on_a_folder_that_has_nothing_to_learn_from(trained, files, work, capsys, no_figures):
    shutil.copytree(files / "test", work / "other" / "test")
    argv = ["--model", the_run(trained), "--data.path=other", NO_COST, "--tracking=none"]
    code, out, err = run("evaluate", argv, capsys)
    assert (code, err) == (0, "") and "nothing to learn from" in out
    scores = json.loads((work / "evaluation" / "metrics.json").read_text())["metrics"]
    assert set(scores) == {"model", "last", "pad"}, "the others are fitted to training channels"
    record = record_of(the_run(trained))["metrics"]
    assert scores["model"]["nmse"] == pytest.approx(record["test/nmse"])


# ---------------------------------------------------------------- use of a trained model


@pytest.mark.parametrize("suffix", [".pt", ".npy", ".npz"])
def test_predict_takes_every_kind_of_file(trained, files, work, capsys, suffix):
    history = histories(files)
    if suffix == ".pt":
        torch.save(torch.from_numpy(history), "H.pt")
    else:
        {".npy": np.save, ".npz": np.savez}[suffix](f"H{suffix}", history)
    argv = ["--model", the_run(trained), "--input", f"H{suffix}", "--tracking=none"]
    code, _, err = run("predict", argv, capsys)
    assert (code, err) == (0, "")
    predictor = TASK.predictor(load_package(the_run(trained) / "package"))
    np.testing.assert_array_equal(np.load("H_predicted.npy"), predictor.predict(history))


def test_a_bad_file_in_a_folder_is_one_line_and_the_others_are_written(trained, files, work, capsys):
    (work / "in").mkdir()
    np.save("in/good.npy", histories(files))
    np.save("in/bad.npy", histories(files)[..., 1:])
    (work / "in" / "torn.pt").write_bytes(b"PK")
    argv = ["--model", the_run(trained), "--input=in", "--tracking=none"]
    code, _, err = run("predict", argv, capsys)
    lines = err.strip().splitlines()
    assert code == 1 and len(lines) == 2
    assert "bad.npy" in lines[0] and "7 subcarriers, and the model takes 8" in lines[0]
    assert "torn.pt" in lines[1]
    assert [path.name for path in (work / "in_predicted").iterdir()] == ["good_predicted.npy"]
    code, _, err = run("predict", [*argv, "--output=strict", "--strict"], capsys)
    assert code == 1 and len(err.strip().splitlines()) == 1


@pytest.mark.parametrize("format", ["pt2", "onnx"])
def test_an_exported_program_gives_what_the_model_gives(trained, files, work, capsys, format):
    if format == "onnx":
        pytest.importorskip("onnxruntime")
    argv = ["--model", the_run(trained), "--format", format, "--output", work, "--tracking=none"]
    code, out, _ = run("export", argv, capsys)
    assert code == 0 and "same output checked" in " ".join(out.split())
    history = histories(files)
    rows = history.reshape(-1, HISTORY, SUBCARRIERS).view(np.float32)
    if format == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(work / "csi.onnx")
        (found,) = session.run(None, {"history": rows})
        assert session.get_modelmeta().custom_metadata_map["subcarriers"] == str(SUBCARRIERS)
    else:
        found = torch.export.load(work / "csi.pt2").module()(torch.from_numpy(rows)).detach().numpy()
    predictor = TASK.predictor(load_package(the_run(trained) / "package"))
    expected = predictor.predict(history).reshape(-1, HORIZON, SUBCARRIERS).view(np.float32)
    np.testing.assert_allclose(found, expected, atol=1e-5)


# ---------------------------------------------------------------- options of the training


@pytest.mark.parametrize("name", MODELS)
def test_every_model_trains(files, work, capsys, no_figures, name):
    argv = [f"--model={name}", f"--data.path={files}", *TINY, *MODEL_OPTIONS[name], *QUICK]
    code, _, err = run("train", argv, capsys)
    assert (code, err) == (0, "")
    package = load_package(the_run(work) / "package")
    assert package.config["model"]["name"] == name


@pytest.mark.parametrize("rule", list_rules())
def test_every_residual_rule_trains_and_is_rebuilt(files, work, capsys, no_figures, rule):
    argv = [f"--data.path={files}", *TINY, *SMALL, *QUICK, f"--model.rule={rule}"]
    code, _, err = run("train", argv, capsys)
    assert (code, err) == (0, "")
    assert np.isfinite(record_of(the_run(work))["metrics"]["test/nmse"])
    assert load_package(the_run(work) / "package").config["model"]["rule"] == rule


def test_fdd_with_noise_that_is_drawn_once_and_early_stopping(files, work, capsys, no_figures):
    argv = [f"--data.path={files}", *TINY, *SMALL, NO_COST, "--data.duplex=fdd", "--data.redraw=false"]
    options = ["--train.patience=1", "--train.validate_every=1", "--model.standardise=batch"]
    code, out, err = run("train", [*argv, *options], capsys)
    assert (code, err) == (0, "")
    assert "last and pad predict the uplink" in " ".join(out.split())
    assert load_package(the_run(work) / "package").config["duplex"] == "fdd"


def test_fine_tuning_starts_from_the_weights_of_a_model(trained, files, work, capsys, no_figures):
    argv = [f"--data.path={files}", *TINY, *SMALL, *QUICK, "--train.lr=1e-30"]
    package = load_package(the_run(trained) / "package")
    count = len(package.tensors())
    code, out, err = run("train", [*argv, f"--train.start_from={the_run(trained)}"], capsys)
    assert (code, err) == (0, "") and f"{count} of {count} tensors" in " ".join(out.split())
    weights = load_package(the_run(work) / "package").tensors()
    for name, parameter in TASK.modules(package)["model"].named_parameters():
        torch.testing.assert_close(weights[name], parameter.detach(), atol=1e-12, rtol=0)


def test_a_student_follows_a_teacher(trained, files, work, capsys, no_figures):
    """With nothing else to follow, the loss of the first step is the teacher's change over its own power."""
    argv = [
        f"--data.path={files}",
        *TINY,
        "--model=rnn",
        "--model.width=4",
        *QUICK,
        "--train.teacher_weight=1",
    ]
    argv += [f"--train.teacher={the_run(trained)}", "--train.precision=fp32"]
    code, _, err = run("train", argv, capsys)
    assert (code, err) == (0, "")
    metrics = record_of(the_run(work))["metrics"]
    assert metrics["loss"] == pytest.approx(metrics["teacher_distance"])
    assert metrics["task_loss"] == pytest.approx(metrics["nmse"])
    assert metrics["teacher_distance"] != pytest.approx(metrics["nmse"], rel=0.01)


def test_a_teacher_of_other_channels_is_refused(trained, work, capsys):
    make_condition(work / "wide" / "train" / "regular", "cm_A_ds_100_ms_001", 8, 0, subcarriers=16)
    make_condition(work / "wide" / "test" / "regular", "cm_A_ds_100_ms_001", 3, 1, subcarriers=16)
    argv = ["--data.path=wide", *TINY, *SMALL, *QUICK, "--data.subcarriers=16", "--data.speeds=[1]"]
    code, _, err = run("train", [*argv, f"--train.teacher={the_run(trained)}"], capsys)
    assert code == 2 and len(err.strip().splitlines()) == 1 and "--train.teacher: the teacher takes no" in err
    own = ["--data.path=wide", "--data.subcarriers=16", "--data.speeds=[1]", "--data.test_models=[A]"]
    code, _, err = run("evaluate", ["--model", the_run(trained), *own, "--tracking=none"], capsys)
    assert code == 2 and "the model has subcarriers 8 and the channels 16" in err


def test_a_stopped_run_resumes_to_the_same_result(files, work, capsys, no_figures, stop_after):
    """In the middle of the second epoch, with dropout and with noise that is drawn anew."""
    argv = [f"--data.path={files}", *TINY, *SMALL, NO_COST]
    argv += ["--model.dropout=0.2", "--data.validation_share=0"]
    assert run("train", [*argv, "--output=whole"], capsys)[0] == 0
    with stop_after(6):
        code, _, err = run("train", [*argv, "--output=stopped"], capsys)
    assert code == 130 and "after step 6" in err
    assert run("train", ["--output=stopped", "--resume=last"], capsys)[0] == 0
    (whole,), (stopped,) = ((work / name / "csi").iterdir() for name in ("whole", "stopped"))
    for name in ("samples.csv", "package/weights.safetensors"):
        assert (stopped / name).read_bytes() == (whole / name).read_bytes()


# ---------------------------------------------------------------- generated channels


def test_channels_are_generated_once_and_trained_on(work, capsys, no_figures):
    argv = [*TINY, *SMALL, *QUICK, "--data.cache=kept", "--data.speeds=[1, 10]", "--data.samples=4"]
    code, out, err = run("train", argv, capsys)
    assert (code, err) == (0, "") and "generating 8 train samples" in " ".join(out.split())
    package = load_package(the_run(work) / "package")
    assert package.metadata["data"]["name"] == "cdl"
    code, out, err = run("evaluate", ["--model", the_run(work), "--tracking=none"], capsys)
    assert (code, err) == (0, "") and "generating" not in out and "other data" not in out


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_generate_takes_every_configuration(path, work, capsys):
    """It stops at the last check before the first channel is made."""
    (work / "taken").write_text("")
    assert generate(["--config", str(path), "--output=taken"]) == 1
    assert "taken cannot be written" in capsys.readouterr().err


def test_generate_keeps_what_is_there_and_refuses_other_parameters(work, capsys):
    shipped = ["--config", str(ROOT / "tasks" / "csi" / "configs" / "small_tdd.yaml"), "--output=made"]
    argv = [*shipped, *CHANNELS[:-2], "--data.samples=2", "--data.test_samples=1"]
    argv += ["--data.delay_spreads=[100]", "--data.test_models=[A, E]"]
    assert generate(argv) == 0
    said = capsys.readouterr().out
    assert "2 conditions of 2 samples" in said and "4 conditions of 1 samples" in said
    made = {path: path.stat().st_mtime_ns for path in (work / "made").rglob("*.pt")}
    assert len(made) == 6 * 3
    assert generate(argv) == 0
    said = capsys.readouterr().out
    assert "generating" not in said and "2 were there" in said and "4 were there" in said
    assert made == {path: path.stat().st_mtime_ns for path in (work / "made").rglob("*.pt")}
    assert generate([*argv, "--data.gap=5"]) == 1
    error = capsys.readouterr().err
    assert "made holds channels of other parameters (gap 4)" in error and len(error.splitlines()) == 1
    code, _, error = run("train", ["--data.path=made", *TINY, *SMALL, *QUICK], capsys)
    assert (code, error) == (0, "")
