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
from commands import run_command, run_folder
from record_folders import LEADS, MADE, NAMES, QUICK, SMALL, TINY, wave, wfdb_record, write_csv

from core.cli import _parse
from core.residual import list_rules
from core.track.package import load_package
from tasks.ecg.config import MODELS, WindowConfig
from tasks.ecg.data.records import read_record
from tasks.ecg.data.synthetic import write_records
from tasks.ecg.models.build import build_network
from tasks.ecg.task import TASK

ROOT = Path(__file__).parents[3]
CONFIGS = sorted((ROOT / "tasks" / "ecg" / "configs").glob("*.yaml"))
CLASSES = ["sinus rhythm", "atrial fibrillation", "left axis deviation", "left ventricular hypertrophy"]
RESNET = ["--model.width=4", "--model.layers=[1, 1]"]
MAMBA = ["--model.width=8", "--model.depth=2", "--model.state=4", "--model.stem=4"]
MODEL_OPTIONS = {
    "resnet1d_wang": ["--model.width=4"],
    "xresnet1d18": RESNET,
    "xresnet1d50": RESNET,
    "xresnet1d101": RESNET,
    "ecg_mamba": MAMBA,
    "ecg_mamba_small": MAMBA,
    "ecg_mamba_tiny": MAMBA,
    "backbone": ["--model.backbone=resnet20_cifar"],
}

run = partial(run_command, TASK)
the_run = partial(run_folder, TASK)


def record_of(folder):
    return json.loads((folder / "run.json").read_text())


def metrics_of(work):
    return json.loads((work / "evaluation" / "metrics.json").read_text())["metrics"]


def predictor_of(root):
    return TASK.predictor(load_package(the_run(root) / "package"))


# ---------------------------------------------------------------- configurations


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_configuration_is_valid_and_its_model_builds(path):
    config, _ = _parse(TASK, "train", ["--config", str(path)])
    name = yaml.safe_load(path.read_text())["model"]["name"]
    assert (config.model.name, type(config.model)) == (name, MODELS[name])
    length = round(config.crop * config.data.rate)
    with torch.device("meta"):
        network = build_network(config.model, 12, 26, length).eval()
    assert sum(p.numel() for p in network.parameters()) > 1e5
    if name == "ecg_mamba":
        assert length == 8192 and config.model.depth == 24
    else:
        assert network(torch.empty(2, 12, length, device="meta")).shape == (2, 26)
    assert config.train.steps or config.train.epochs
    first = path.read_text().splitlines()
    assert first[0].startswith("# ") and any("python -m tasks.ecg.train" in line for line in first)


# ---------------------------------------------------------------- one training, looked at from all sides


def test_a_run_is_complete_and_beside_its_baselines(trained):
    folder = the_run(trained)
    record = record_of(folder)
    assert record["status"] == "FINISHED"
    for prefix in ("test", "baseline/linear", "baseline/prevalence"):
        for metric in ("macro_auroc", "macro_auroc_low", "macro_auprc", "macro_f", "challenge", "ece"):
            assert f"{prefix}/{metric}" in record["metrics"], (prefix, metric)
        assert f"{prefix}/sinus rhythm/auroc" in record["metrics"]
    assert record["metrics"]["baseline/prevalence/macro_auroc"] == 0.5
    report = (folder / "report.html").read_text()
    assert "the records are synthetic" in report and "not a medical device" in report
    pictures = {path.stem for path in (folder / "figures").glob("*.png")}
    assert {"roc", "precision_recall", "calibration", "classes", "worst_1"} <= pictures
    rows = pd.read_csv(folder / "samples.csv", keep_default_na=False)
    assert list(rows) == ["file", "patient", "fold", "labels", "found", *CLASSES]
    assert rows.file.str.startswith("P").all() and 3 < len(rows) < 24
    learned = [line for line in (folder / "metrics.jsonl").read_text().splitlines() if "macro_auroc" in line]
    assert learned, "the validations are among the curves"


def test_the_package_says_what_it_takes_and_gives(trained):
    package = load_package(the_run(trained) / "package")
    about = package.metadata
    assert about["classes"] == CLASSES and about["leads"] == list(LEADS)
    assert about["codes"] == ["426783006", "164889003", "39732003", "164873001"]
    assert about["rate"] == 50 and about["synthetic"] is True
    assert len(about["thresholds"]) == 4 and all(0 <= value <= 1 for value in about["thresholds"])
    assert "not a medical device" in about["output"]
    assert package.config["samples"] == 64
    assert about["data"]["config"]["labels"] == CLASSES


def test_evaluate_gives_the_numbers_of_the_training(trained, work, capsys):
    folder = the_run(trained)
    code, out, err = run("evaluate", ["--model", folder, "--tracking=none"], capsys)
    assert (code, err) == (0, "") and "other data" not in out
    record = record_of(folder)["metrics"]
    for method, values in metrics_of(work).items():
        prefix = "test" if method == "model" else f"baseline/{method}"
        for name, value in values.items():
            assert record[f"{prefix}/{name}"] == pytest.approx(value), name
    assert (work / "evaluation" / "samples.csv").read_bytes() == (folder / "samples.csv").read_bytes()


def test_evaluate_on_a_folder_of_its_own_tests_all_of_it(trained, work, capsys, no_figures):
    write_records(work / "other", seed=1, records=6)
    argv = ["--model", the_run(trained), "--data.test_path=other", "--tracking=none"]
    code, out, err = run("evaluate", argv, capsys)
    assert (code, err) == (0, "") and "other data" in out
    assert len(pd.read_csv(work / "evaluation" / "samples.csv")) == 6
    assert set(metrics_of(work)) == {"model", "guess"}, "nothing is there to fit the baselines to"


# ---------------------------------------------------------------- use of a trained model


@pytest.fixture
def inputs(work):
    """The same record as files of four kinds; the leads of one are in another order."""
    signal = wave(7, seconds=4).round(3)
    wfdb_record(work / "in" / "wfdb", signal)
    order = np.argsort(LEADS)
    times = np.arange(signal.shape[1]) / 100
    header = ["time", *(LEADS[i] for i in order)]
    write_csv(work / "in" / "table.csv", [header, *np.column_stack([times, signal[order].T])])
    np.save(work / "in" / "plain.npy", signal)
    leads = np.array(LEADS)
    np.savez(work / "in" / "named.npz", signal=1000 * signal, rate=100, leads=leads, units="uV")
    return work / "in"


@pytest.mark.parametrize("name", ["wfdb.hea", "wfdb.dat", "table.csv", "plain.npy", "named.npz"])
def test_predict_takes_every_kind_of_file(trained, inputs, work, capsys, name):
    rate = ["--input_rate=100"] if name == "plain.npy" else []
    argv = ["--model", the_run(trained), "--input", inputs / name, *rate, "--page=none", "--tracking=none"]
    code, out, err = run("predict", argv, capsys)
    assert (code, err) == (0, "") and "not a medical device" in " ".join(out.split())
    rows = pd.read_csv("findings.csv", keep_default_na=False)
    classifier = predictor_of(trained)
    signal, _ = classifier.prepare(read_record(inputs / "wfdb.hea"))
    np.testing.assert_allclose(rows[CLASSES], classifier.probabilities([signal]), atol=2e-5)
    reached = [c for c, limit in zip(CLASSES, classifier.thresholds, strict=True) if rows[c][0] >= limit]
    assert {name for name in rows.findings[0].split(";") if name} == set(reached)


def test_a_bad_file_in_a_folder_is_one_line_and_the_others_are_written(trained, inputs, work, capsys):
    (inputs / "torn.npz").write_bytes(b"PK")
    np.save(inputs / "plain.npy", wave(7)[:, :30])
    argv = ["--model", the_run(trained), "--input=in", "--output=out.csv", "--page=none", "--tracking=none"]
    code, _, err = run("predict", argv, capsys)
    lines = err.strip().splitlines()
    assert code == 1 and len(lines) == 2
    assert "plain.npy" in lines[0] and "give it by --input_rate" in lines[0] and "torn.npz" in lines[1]
    assert sorted(pd.read_csv("out.csv").file) == ["named.npz", "table.csv", "wfdb.hea"]
    code, _, err = run("predict", [*argv, "--strict"], capsys)
    assert code == 1 and len(err.strip().splitlines()) == 1


@pytest.mark.parametrize(("page", "start"), [("png", b"\x89PNG"), ("pdf", b"%PDF"), ("none", b"")])
def test_a_record_is_printed_on_paper(trained, inputs, work, capsys, page, start):
    argv = ["--model", the_run(trained), "--input", inputs / "wfdb.hea", "--page", page, "--tracking=none"]
    code, _, err = run("predict", [*argv, "--finding=left axis deviation"], capsys)
    assert (code, err) == (0, "")
    made = {path.name: path for path in work.iterdir() if path.is_file()}
    assert set(made) == {"findings.csv"} | ({f"wfdb.{page}"} if start else set())
    assert not start or made[f"wfdb.{page}"].read_bytes().startswith(start)


@pytest.mark.parametrize("format", ["pt2", "onnx"])
def test_an_exported_program_gives_what_the_model_gives(trained, work, capsys, format):
    if format == "onnx":
        pytest.importorskip("onnxruntime")
    argv = ["--model", the_run(trained), "--format", format, "--output", work, "--tracking=none"]
    code, out, _ = run("export", argv, capsys)
    assert code == 0 and "same output checked" in " ".join(out.split())
    windows = np.stack([wave(i, 1.28, 50) for i in range(3)]).astype(np.float32)
    classifier = predictor_of(trained)
    found, about = run_program(work / f"ecg.{format}", windows)
    np.testing.assert_allclose(found, classifier.window_probabilities(windows), atol=1e-5)
    if about:
        assert json.loads(about["classes"]) == CLASSES and about["sampling_rate"] == "50"
        np.testing.assert_allclose(json.loads(about["thresholds"]), classifier.thresholds, atol=1e-6)


def run_program(path, windows):
    if path.suffix == ".pt2":
        return torch.export.load(path).module()(torch.from_numpy(windows)).detach().numpy(), {}
    import onnxruntime

    session = onnxruntime.InferenceSession(path)
    return session.run(None, {"signal": windows})[0], session.get_modelmeta().custom_metadata_map


def test_a_state_space_model_is_exported_too(table, work, capsys, no_figures):
    pytest.importorskip("onnxruntime")
    argv = [f"--data.path={table}", "--data.least=2", *TINY, "--model=ecg_mamba_tiny", *MAMBA, *QUICK]
    argv += ["--model.depth=1", "--model.state=2", "--model.strides=[4, 4]"]
    assert run("train", argv, capsys)[0] == 0
    argv = ["--model", the_run(work), "--format=onnx", "--output", work, "--tracking=none"]
    code, out, err = run("export", argv, capsys)
    assert (code, err) == (0, "") and "same output checked" in " ".join(out.split())
    windows = np.stack([wave(i, 1.28, 50) for i in range(3)]).astype(np.float32)
    found, _ = run_program(work / "ecg.onnx", windows)
    np.testing.assert_allclose(found, predictor_of(work).window_probabilities(windows), atol=1e-5)


# ---------------------------------------------------------------- options of the training


@pytest.mark.parametrize("name", MODELS)
def test_every_model_trains(table, work, capsys, no_figures, name):
    argv = [f"--data.path={table}", "--data.least=2", *TINY, f"--model={name}", *MODEL_OPTIONS[name], *QUICK]
    code, _, err = run("train", argv, capsys)
    assert (code, err) == (0, "")
    assert load_package(the_run(work) / "package").config["model"]["name"] == name


@pytest.mark.parametrize("rule", list_rules())
def test_every_residual_rule_trains_and_is_rebuilt(table, work, capsys, no_figures, rule):
    argv = [f"--data.path={table}", "--data.least=2", *TINY, *SMALL, *QUICK, f"--model.rule={rule}"]
    code, _, err = run("train", argv, capsys)
    assert (code, err) == (0, "")
    assert np.isfinite(record_of(the_run(work))["metrics"]["test/macro_auroc"])
    assert load_package(the_run(work) / "package").config["model"]["rule"] == rule


@pytest.mark.parametrize(
    "options",
    [
        ["--train.loss=focal", "--train.balance=weights", "--normalise=record", "--scoring.pool=mean"],
        ["--train.loss=asymmetric", "--data.mixup=1", "--data.lead_dropout=0.3", "--data.wander=0.1"],
        ["--data.highpass=0.5", "--data.lowpass=20", "--data.notch=25", "--data.leads=[II, V5]"],
        ["--train.validate_every=1", "--train.patience=1", "--data.validation_share=0.4"],
        ["--data.validation_share=0", "--scoring.threshold=youden", "--data.table=labels.csv"],
    ],
)
def test_other_ways_of_training(table, work, capsys, no_figures, options):
    argv = [f"--data.path={table}", "--data.least=2", *TINY, *SMALL, *QUICK[1:], *options]
    code, _, err = run("train", argv, capsys)
    assert (code, err) == (0, "")
    code, out, err = run("evaluate", ["--model", the_run(work), "--tracking=none"], capsys)
    assert (code, err) == (0, "") and "other data" not in out
    scores = metrics_of(work)["model"]
    assert scores["macro_auroc"] == pytest.approx(record_of(the_run(work))["metrics"]["test/macro_auroc"])


def test_folds_test_each_record_once_and_are_averaged_for_others(records, work, capsys, no_figures):
    argv = [f"--data.path={records}", *MADE, *TINY, *SMALL, "--data.folds=2", "--scoring.bootstrap=0"]
    code, _, err = run("train", argv, capsys)
    assert (code, err) == (0, "")
    folder = the_run(work)
    rows = pd.read_csv(folder / "samples.csv")
    assert len(rows) == 24 and not rows.file.duplicated().any()
    assert rows.groupby("patient").fold.nunique().eq(1).all()
    record = record_of(folder)["metrics"]
    assert {"test/macro_auroc_std", "test/fold1/macro_auroc", "test/fold2/macro_auroc"} <= set(record)
    package = load_package(folder / "package")
    assert package.config["folds"] == ["fold1", "fold2"]
    classifier = TASK.predictor(package)
    signal, _ = classifier.prepare(read_record(records / "P0001_1.hea"))
    each = [classifier.probabilities([signal], fold, None) for fold in classifier.networks]
    assert np.abs(each[0] - each[1]).max() > 1e-4
    argv = ["--model", folder, "--input", records / "P0001_1.hea", "--pool=mean", "--page=none"]
    code, _, err = run("predict", [*argv, "--tracking=none"], capsys)
    assert (code, err) == (0, "")
    each = [classifier.probabilities([signal], f, WindowConfig(pool="mean")) for f in classifier.networks]
    np.testing.assert_allclose(pd.read_csv("findings.csv")[CLASSES], np.mean(each, axis=0), atol=2e-5)
    code, _, err = run("evaluate", ["--model", folder, "--tracking=none"], capsys)
    assert code == 0 and metrics_of(work)["model"]["macro_auroc"] == pytest.approx(record["test/macro_auroc"])


def test_fine_tuning_takes_the_classes_over_by_their_names(trained, records, work, capsys, no_figures):
    turned = f"--data.labels=[{', '.join(NAMES[::-1])}]"
    argv = [f"--data.path={records}", *MADE, turned, *TINY, *SMALL, *QUICK, "--train.lr=1e-30"]
    code, out, err = run("train", [*argv, f"--train.start_from={the_run(trained)}"], capsys)
    assert (code, err) == (0, "")
    old, new = (load_package(the_run(root) / "package") for root in (trained, work))
    count = len(old.tensors())
    assert f"{count} of {count} tensors" in " ".join(out.split())
    assert new.metadata["classes"] == CLASSES[::-1]
    before, after = old.tensors(), new.tensors()
    for name in TASK.modules(new)["model"].state_dict():
        if "running" in name or "num_batches" in name:
            continue
        expected = before[name].flip(0) if name.startswith("head.output.") else before[name]
        torch.testing.assert_close(after[name], expected, atol=1e-12, rtol=0)


def test_a_student_follows_a_teacher(trained, records, work, capsys, no_figures):
    """With nothing else to follow, the loss of the first step is the distance between the logits."""
    argv = [f"--data.path={records}", *MADE, *TINY, "--model=ecg_mamba_tiny", *MAMBA, *QUICK]
    argv += [f"--train.teacher={the_run(trained)}", "--train.teacher_weight=1"]
    code, _, err = run("train", argv, capsys)
    assert (code, err) == (0, "")
    metrics = record_of(the_run(work))["metrics"]
    assert metrics["loss"] == pytest.approx(metrics["teacher_distance"])
    assert metrics["teacher_distance"] != pytest.approx(metrics["task_loss"], rel=0.01)


def test_a_stopped_run_resumes_to_the_same_result(table, work, capsys, no_figures, stop_after):
    """In the middle of the second epoch, with dropout, noise and mixed crops."""
    argv = [f"--data.path={table}", "--data.least=2", *TINY, *SMALL, *QUICK[1:], "--train.epochs=3"]
    argv += ["--data.noise=0.1", "--data.mixup=0.5", "--data.scale=0.2"]
    assert run("train", [*argv, "--output=whole"], capsys)[0] == 0
    with stop_after(3):
        code, _, err = run("train", [*argv, "--output=stopped"], capsys)
    assert code == 130 and "after step 3" in err
    assert run("train", ["--output=stopped", "--resume=last"], capsys)[0] == 0
    (whole,), (stopped,) = ((work / name / "ecg").iterdir() for name in ("whole", "stopped"))
    for name in ("samples.csv", "package/weights.safetensors"):
        assert (stopped / name).read_bytes() == (whole / name).read_bytes()


def test_a_moved_folder_is_split_as_in_training(trained, records, work, capsys, no_figures):
    shutil.copytree(records, work / "moved" / "records")
    argv = ["--model", the_run(trained), "--data.path=moved/records", "--tracking=none"]
    code, out, err = run("evaluate", argv, capsys)
    assert (code, err) == (0, "") and "other data" not in out
