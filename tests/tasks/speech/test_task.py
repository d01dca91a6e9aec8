"""The whole of a training through the real command, and every configuration that is shipped."""

from __future__ import annotations

import base64
import io
import json
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
import yaml
from commands import run_command, run_folder

from core.cli import _parse, main
from core.track.package import load_package
from tasks.speech.build import OUTPUT, build_network, first_weights
from tasks.speech.config import MODELS
from tasks.speech.frontend import FrontEnd
from tasks.speech.task import TASK

ROOT = Path(__file__).parents[3]
CONFIGS = sorted((ROOT / "tasks" / "speech" / "configs").glob("*.yaml"))
RATE = 16000
TINY = [
    "--model.width=4",
    "--model.layers=2",
    "--data.least=8",
    "--train.epochs=3",
    "--train.batch_size=8",
    "--train.log_every=1",
    "--train.device=cpu",
    "--train.tune_allocator=false",
    "--tracking=none",
]


def tone(pitch, seed, seconds=0.6):
    rng = np.random.default_rng(seed)
    t = np.arange(int(seconds * RATE)) / RATE
    return 0.3 * np.sin(2 * np.pi * pitch * t * rng.uniform(0.97, 1.03)) + 0.01 * rng.standard_normal(len(t))


PITCHES = {"high": 1500, "low": 300, "rare": 700, "buzz": 150, "hum": 450}


def words(folder, names=("high", "low", "rare"), speakers=10, noise=True):
    """Tones in the layout of Speech Commands: two words, a rare one, and noise."""
    for i, word in enumerate(names):
        pitch = PITCHES[word]
        (folder / word).mkdir(parents=True)
        for speaker in range(3 if word == "rare" else speakers):
            name = f"{speaker:08x}_nohash_0.wav"
            soundfile.write(
                folder / word / name, tone(pitch, 100 * i + pitch + speaker), RATE, subtype="PCM_16"
            )
    if noise:
        (folder / "_background_noise_").mkdir()
        hiss = 0.05 * np.random.default_rng(0).standard_normal(8 * RATE)
        soundfile.write(folder / "_background_noise_" / "hiss.wav", hiss, RATE, subtype="PCM_16")
    return folder


run = partial(run_command, TASK)
the_run = partial(run_folder, TASK)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a finished run."""
    root = tmp_path_factory.mktemp("trained")
    argv = [f"--data.path={words(root / 'words')}", f"--output={root / 'runs'}", *TINY]
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
    front = FrontEnd(config.features, config.data.rate)
    model = build_network(config.model, front.frames(RATE), front.size, 12)
    assert model(front(torch.zeros(1, RATE))).shape == (1, 12)
    assert config.train.steps or config.train.epochs
    first = path.read_text().splitlines()
    assert first[0].startswith("# ") and any("python -m tasks.speech.train" in line for line in first)


# ---------------------------------------------------------------- one training, looked at from all sides


def test_a_run_is_complete_and_beside_its_baseline(trained):
    folder = the_run(trained)
    record = json.loads((folder / "run.json").read_text())
    assert record["status"] == "FINISHED"
    assert {"test/accuracy", "baseline/mfcc_logreg/accuracy", "test/stream/recall"} <= set(record["metrics"])
    assert (folder / "report.html").is_file()
    pictures = {path.stem for path in (folder / "figures").glob("*.png")}
    assert {"confusion", "roc", "det", "thresholds", "worst_errors"} <= pictures
    samples = pd.read_csv(folder / "samples.csv")
    assert {"file", "label", "predicted", "score"} <= set(samples)


def test_the_package_says_what_it_takes_and_gives(trained):
    package = load_package(the_run(trained) / "package")
    assert package.metadata["classes"] == ["silence", "unknown", "high", "low"]
    assert package.metadata["rate"] == RATE
    assert package.metadata["data"]["config"]["words"] == ["high", "low"]
    points = package.metadata["operating_points"]
    assert len(points["thresholds"]) == len(points["recall"]) == len(points["false_alarms"]) > 5


def test_the_output_layer_is_taken_over_by_the_names_of_words(trained):
    package = load_package(the_run(trained) / "package")
    turned = first_weights(package, "model", ["unknown", "silence", "low", "high"])
    for name, tensor in package.tensors().items():
        expected = tensor[[1, 0, 3, 2]] if name.startswith("output.") else tensor
        assert torch.equal(turned[name], expected)
    assert set(package.tensors()) - set(first_weights(package, "model", ["high", "new"])) == {*OUTPUT}


def test_evaluate_gives_the_numbers_of_the_training(trained, work, capsys):
    folder = the_run(trained)
    code, out, _ = run("evaluate", ["--model", folder, "--tracking=none"], capsys)
    assert code == 0
    scores = json.loads((work / "evaluation" / "metrics.json").read_text())["metrics"]
    record = json.loads((folder / "run.json").read_text())["metrics"]
    for name, value in scores["model"].items():
        assert record[f"test/{name}"] == pytest.approx(value, nan_ok=True), name
    assert "other data" not in out


def test_evaluate_on_a_folder_of_its_own_tests_all_of_it(trained, work, capsys):
    words(work / "other", speakers=4)
    argv = ["--model", the_run(trained), "--data.test_path", work / "other", "--tracking=none"]
    code, out, _ = run("evaluate", argv, capsys)
    assert code == 0 and "other data" in out
    rows = pd.read_csv(work / "evaluation" / "samples.csv")
    assert {"high", "low"} <= set(rows.label)
    assert (rows.label == "high").sum() == 4


def test_predict_names_the_word_of_each_file(trained, work, capsys):
    for name, pitch in (("a", 1500), ("b", 300)):
        soundfile.write(work / f"{name}.wav", tone(pitch, 7), RATE)
    (work / "broken.wav").write_bytes(b"RIFF")
    code, _, err = run("predict", ["--model", the_run(trained), "--input", work, "--tracking=none"], capsys)
    assert code == 1 and "broken.wav" in err and len(err.strip().splitlines()) == 1
    rows = pd.read_csv(work / "words.csv")
    assert len(rows) == 2
    columns = ["silence", "unknown", "high", "low"]
    np.testing.assert_allclose(rows[columns].sum(axis=1), 1, atol=1e-3)


def test_a_served_model_takes_files_as_base64(trained):
    predictor = TASK.predictor(load_package(the_run(trained) / "package"))
    frame, params = TASK.example(predictor)
    assert len(TASK.serve(predictor, frame, params)) == len(frame)
    file = io.BytesIO()
    soundfile.write(file, tone(1500, 3), RATE, format="FLAC")
    request = pd.DataFrame({"audio": [base64.b64encode(file.getvalue()).decode()]})
    answer = TASK.serve(predictor, request, params)
    assert answer.word[0] in ("silence", "unknown", "high", "low")


@pytest.mark.parametrize("format", ["pt2", "onnx"])
def test_an_exported_program_takes_waveforms_and_gives_scores(trained, work, capsys, format):
    if format == "onnx":
        pytest.importorskip("onnxruntime")
    argv = ["--model", the_run(trained), "--format", format, "--output", work, "--tracking=none"]
    code, out, _ = run("export", argv, capsys)
    assert code == 0 and "same output checked" in " ".join(out.split())
    predictor = TASK.predictor(load_package(the_run(trained) / "package"))
    wave = np.stack([tone(1500, i, 1.0) for i in range(3)]).astype(np.float32)
    if format == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(work / "speech.onnx")
        (scores,) = session.run(None, {"wave": wave})
        about = session.get_modelmeta().custom_metadata_map
        assert json.loads(about["classes"]) == predictor.classes and about["sampling_rate"] == "16000"
    else:
        scores = torch.export.load(work / "speech.pt2").module()(torch.from_numpy(wave)).detach().numpy()
    np.testing.assert_allclose(scores, predictor.scores(wave), atol=1e-5)


# ---------------------------------------------------------------- options


def test_folds_leave_each_speaker_out_once(work, capsys):
    data = words(work / "words", speakers=3)
    argv = ["--data.path", data, "--data.folds=3", "--data.least=3", "--data.words=[high, low]"]
    code, _, err = run("train", [*argv, *TINY, "--data.least=3", "--train.batch_size=2"], capsys)
    assert code == 0, err
    folder = the_run(work)
    rows = pd.read_csv(folder / "samples.csv")
    spoken = rows[rows.label.isin(["high", "low"])]
    assert not spoken.file.duplicated().any() and len(spoken) == 6, "every recording is tested once"
    assert spoken.groupby("fold").speaker.nunique().eq(1).all()
    package = load_package(folder / "package")
    assert len(package.config["folds"]) == 3
    predictor = TASK.predictor(package)
    wave = tone(300, 1, 1.0).astype(np.float32)[None]
    each = [predictor.scores(wave, fold) for fold in predictor.networks]
    np.testing.assert_allclose(predictor.scores(wave), np.mean(each, axis=0), atol=1e-6)
    code, _, _ = run("evaluate", ["--model", folder, "--tracking=none"], capsys)
    scores = json.loads((work / "evaluation" / "metrics.json").read_text())["metrics"]["model"]
    record = json.loads((folder / "run.json").read_text())["metrics"]
    assert code == 0 and scores["accuracy"] == pytest.approx(record["test/accuracy"])


@pytest.mark.parametrize(
    "options",
    [
        ["--data.variants=0", "--data.time_masks=5", "--train.balance=loss"],
        ["--train.balance=samples", "--train.patience=1", "--train.validate_every=2"],
    ],
)
def test_other_ways_of_training(work, capsys, options):
    argv = ["--data.path", words(work / "words"), *TINY, "--data.validation_share=0.3", *options]
    code, _, err = run("train", argv, capsys)
    assert code == 0, err


def test_new_words_join_a_trained_model(trained, work, capsys):
    words(work / "new", names=("buzz", "hum"), noise=False)
    argv = [f"--extend.model={the_run(trained)}", "--data.path=new", f"--data.old_path={trained / 'words'}"]
    code, _, err = run("train", [*argv, *TINY[2:]], capsys)
    assert code == 0, err
    folder = the_run(work)
    package = load_package(folder / "package")
    assert package.metadata["classes"][:4] == ["silence", "unknown", "high", "low"]
    assert set(package.metadata["classes"][4:]) == {"buzz", "hum"}
    record = json.loads((folder / "run.json").read_text())["metrics"]
    assert {"test/old/accuracy", "test/new/accuracy"} <= set(record)
    saved = yaml.safe_load((folder / "config.yaml").read_text())["extend"]
    assert saved["method"] == "boost" and len(saved["weights"]) == 64, "what auto chose, and of which model"
    code, _, _ = run("evaluate", ["--model", folder, "--tracking=none"], capsys)
    scores = json.loads((work / "evaluation" / "metrics.json").read_text())["metrics"]["model"]
    assert code == 0 and scores["accuracy"] == pytest.approx(record["test/accuracy"])


def test_a_model_decides_what_is_extended(trained, work, capsys):
    words(work / "new", names=("buzz",), noise=False)
    argv = [f"--extend.model={the_run(trained)}", "--data.path=new", "--tracking=none", "--train.steps=1"]
    for option, said in (
        (["--model=res15"], "--model"),
        (["--features.kind=pcen"], "--features"),
        (["--data.rate=8000"], "16000"),
        (["--extend.weight=2"], "--extend.weight"),
        (["--train.teacher=x"], "--train.teacher"),
        (["--data.folds=2"], "--data.folds"),
    ):
        code, _, err = run("train", [*argv, *option], capsys)
        assert code == 2 and said in err and len(err.strip().splitlines()) == 1, err
    for option in (["--data.old_path=new"], ["--data.old_words=[a]"]):
        code, _, err = run("train", ["--data.path=new", *TINY, *option], capsys)
        assert code == 2 and "--extend.model" in err


def test_data_named_again_is_split_as_in_training(trained, work, capsys, monkeypatch):
    """Also from elsewhere, so that nobody tests on what was learned from."""
    moved = work / "moved" / "words"
    shutil.copytree(trained / "words", moved)
    for path in (trained / "words", moved):
        argv = ["--model", the_run(trained), "--data.path", path, "--tracking=none"]
        code, out, _ = run("evaluate", argv, capsys)
        assert code == 0 and "other data" not in out


@pytest.mark.parametrize(
    ("argv", "words_"),
    [
        (["--data.path=nowhere"], "nowhere"),
        (["--data.words=[hi]"], "high"),
        (["--data.folds=99"], "10 speakers"),
        (["--data.noise=2"], "noise"),
        (["--features.hop=1000"], "hop 1000"),
        (["--model.rule=ad"], "add"),
        (["--train.batch_size=4000"], "batch"),
    ],
)
def test_wrong_options_are_one_line(trained, work, capsys, argv, words_):
    code, _, err = run("train", [f"--data.path={trained / 'words'}", *TINY, *argv], capsys)
    assert code in (1, 2) and len(err.strip().splitlines()) == 1 and words_ in err
    assert not (work / "runs").exists()


def test_a_stopped_run_resumes_to_the_same_result(trained, work, capsys, monkeypatch, stop_after):
    """SIGTERM in the middle of an epoch: features that were kept are computed again, and are the same."""
    monkeypatch.setattr(TASK, "figures", lambda *given: iter(()))  # they take most of the time
    argv = [f"--data.path={trained / 'words'}", *TINY, "--data.time_masks=9", "--scoring.stream=false"]
    assert run("train", [*argv, "--output=whole"], capsys)[0] == 0
    with stop_after(3):
        code, _, err = run("train", [*argv, "--output=stopped"], capsys)
    assert code == 130 and "after step 3" in err
    assert run("train", ["--output=stopped", "--resume=last"], capsys)[0] == 0
    (whole,), (stopped,) = ((work / name / "speech").iterdir() for name in ("whole", "stopped"))
    for name in ("samples.csv", "package/weights.safetensors"):
        assert (stopped / name).read_bytes() == (whole / name).read_bytes()
