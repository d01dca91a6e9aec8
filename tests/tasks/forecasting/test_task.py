"""The whole of a training through the real command, and every configuration that is shipped."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from core.cli import main
from tasks.forecasting.task import TASK

ROOT = Path(__file__).parents[3]
CONFIGS = sorted((ROOT / "tasks" / "forecasting" / "configs").glob("*.yaml"))
TINY = ["--train.steps=2", "--train.batch_size=8", "--model.layers=1", "--train.tune_allocator=false"]
GENERIC = ["--model.lookbacks=[2]", "--model.blocks=1", "--model.width=4"]
INTERPRETABLE = ["--model.lookbacks=[2]", "--model.trend_width=4", "--model.seasonality_width=4"]


def write_sales(path, count=6, months=48):
    times = pd.period_range("2015-01", periods=months, freq="M").start_time.strftime("%Y-%m-%d")
    rng = np.random.default_rng(0)
    season = 10 * np.sin(2 * np.pi * np.arange(months) / 12)
    frames = [
        pd.DataFrame(
            {"unique_id": f"s{i}", "ds": times, "y": 50 * (i + 1) + season + rng.normal(size=months)}
        )
        for i in range(count)
    ]
    pd.concat(frames).to_csv(path, index=False)
    return path


def m4_folder(root):
    """Weekly and hourly files as the competition ships them."""
    for group, horizon in (("Weekly", 13), ("Hourly", 48)):
        for part, length in (("train", 4 * horizon), ("test", horizon)):
            rows = [
                ",".join(
                    [f'"{group[0]}{i}"', *(f"{20 * i + 5 * np.sin(0.26 * t):.2f}" for t in range(length))]
                )
                for i in (1, 2, 3)
            ]
            header = ",".join(f'"V{i}"' for i in range(1, length + 2))
            path = root / part.capitalize() / f"{group}-{part}.csv"
            path.parent.mkdir(exist_ok=True)
            path.write_text("\n".join([header, *rows]) + "\n")
    return root


def wide_table(root):
    """Hourly columns as in the ETT files."""
    times = pd.date_range("2016-07-01", periods=240, freq="h")
    columns = {name: np.sin(np.arange(240) / 3.8 + i) + i for i, name in enumerate(("HUFL", "OT"))}
    pd.DataFrame({"date": times, **columns}).to_csv(root / "wide.csv", index=False)
    return root / "wide.csv"


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_configuration_runs(path, work, capsys):
    """One fast pass, with the smallest group of the data that the file names."""
    content = yaml.safe_load(path.read_text())
    source = (content.get("data") or {}).get("name", "tourism")
    flags = {
        "tourism": ["--data.groups=[Monthly]"],
        "m3": ["--data.groups=[Other]"],
        "m4": [f"--data.path={m4_folder(work)}", "--data.groups=[Weekly]"],
        "wide": [f"--data.path={wide_table(work)}"],
    }[source]
    interpretable = content["model"]["name"] == "nbeats_interpretable"
    argv = ["--config", str(path), "--tracking=none", *TINY, *flags]
    assert main(TASK, "train", [*argv, *(INTERPRETABLE if interpretable else GENERIC)]) == 0
    (folder,) = (work / "runs" / "forecasting").iterdir()
    assert json.loads((folder / "run.json").read_text())["status"] == "FINISHED"
    assert "held-out data" in capsys.readouterr().out
    figures = {figure.stem.split("_")[0] for figure in (folder / "figures").glob("*.png")}
    assert figures == {"forecasts", "error"} | ({"decomposition"} if interpretable else set())


# ---------------------------------------------------------------- one training, looked at from all sides


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a run on a table whose name would spoil a page that does not escape it."""
    root = tmp_path_factory.mktemp("trained")
    table = write_sales(root / "<i>sales&.csv")
    argv = [f"--data.path={table}", "--data.horizon=4", "--tracking=none", f"--output={root / 'runs'}"]
    assert main(TASK, "train", [*argv, *TINY, *GENERIC, "--train.log_every=1"]) == 0
    (folder,) = (root / "runs" / "forecasting").iterdir()
    return folder


def test_a_run_folder_is_complete(trained):
    names = {str(path.relative_to(trained)) for path in trained.rglob("*") if path.is_file()}
    assert names >= {
        "config.yaml",
        "run.json",
        "metrics.jsonl",
        "samples.csv",
        "report.html",
        "package/config.json",
        "package/weights.safetensors",
        "package/metadata.json",
        "checkpoints/Monthly/last.pt",
        "figures/forecasts.png",
    }
    assert len(pd.read_csv(trained / "samples.csv")) == 6
    metrics = json.loads((trained / "run.json").read_text())["metrics"]
    for name in (
        "test/mase",
        "test/Monthly/coverage_80",
        "baseline/seasonal_naive/mase",
        "baseline/theta/mase",
    ):
        assert np.isfinite(metrics[name])


def test_the_report_stands_alone(trained):
    page = (trained / "report.html").read_text()
    assert not re.findall(r"<(?:script .*src|link|iframe)|@import|url\(", page)
    addresses = re.findall(r'(?:src|href)="([^#].{0,30})', page)
    assert len(addresses) == 3, "two figures and the curves"
    assert all(address.startswith("data:image/png;base64,") for address in addresses)
    assert "http://" not in page
    assert "https://" not in page
    assert "<i>" not in page
    assert "&lt;i&gt;sales&amp;.csv" in page
    assert "N-BEATS" in page
    assert "Monthly/mase" in page


def test_the_resolved_configuration_gives_the_same_model(trained, tmp_path):
    again = ["--config", str(trained / "config.yaml"), f"--output={tmp_path}"]
    assert main(TASK, "train", again) == 0
    (folder,) = (tmp_path / "forecasting").iterdir()
    weights = "package/weights.safetensors"
    assert (folder / weights).read_bytes() == (trained / weights).read_bytes()
    assert (folder / "samples.csv").read_bytes() == (trained / "samples.csv").read_bytes()


def test_evaluate_gives_the_numbers_of_the_training(trained, tmp_path, capsys):
    data = yaml.safe_load((trained / "config.yaml").read_text())["data"]
    argv = [f"--model={trained}", "--tracking=none", f"--data.path={data['path']}", "--data.horizon=4"]
    assert main(TASK, "evaluate", [*argv, f"--output={tmp_path / 'out'}"]) == 0
    assert "other data" not in capsys.readouterr().out
    measured = json.loads((tmp_path / "out" / "metrics.json").read_text())["metrics"]
    logged = json.loads((trained / "run.json").read_text())["metrics"]
    assert measured["model"] == pytest.approx(
        {name.removeprefix("test/"): value for name, value in logged.items() if name.startswith("test/")},
        nan_ok=True,
    )
    other = write_sales(tmp_path / "other.csv", count=3)
    argv = [f"--model={trained}", "--tracking=none", f"--data.path={other}", "--data.horizon=4"]
    assert main(TASK, "evaluate", [*argv, f"--output={tmp_path / 'other'}"]) == 0
    assert "this is other data" in capsys.readouterr().out


def test_a_password_is_written_nowhere(work, monkeypatch, capsys):
    """The server does not answer; the training is complete all the same."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    address = "http://user:s3cret@127.0.0.1:9"
    argv = [f"--data.path={write_sales(work / 'sales.csv')}", "--data.horizon=4", f"--tracking={address}"]
    assert main(TASK, "train", [*argv, *TINY, *GENERIC]) == 0
    printed = capsys.readouterr()
    assert "s3cret" not in printed.out + printed.err
    files = [path for path in (work / "runs").rglob("*") if path.is_file()]
    assert len(files) > 8
    assert not [path for path in files if b"s3cret" in path.read_bytes()]
    assert any(b"127.0.0.1:9" in path.read_bytes() for path in files if path.name == "config.yaml")


@pytest.mark.slow
def test_torchrun_trains_the_same_model_into_one_folder(work):
    table = write_sales(work / "sales.csv")
    argv = [
        f"--data.path={table}",
        "--data.horizon=4",
        "--tracking=none",
        "--train.steps=5",
        *TINY[1:],
        *GENERIC,
    ]
    assert main(TASK, "train", [*argv, "--output=one"]) == 0
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(
        [*command, "-m", "tasks.forecasting.train", *argv, "--output=two"],
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("held-out data") == 1, "one process talks"
    assert "2 process(es)" in done.stdout
    (one,), (two,) = (list((work / name / "forecasting").iterdir()) for name in ("one", "two"))
    from safetensors.torch import load_file

    a, b = (load_file(folder / "package" / "weights.safetensors") for folder in (one, two))
    for name, value in a.items():
        np.testing.assert_allclose(b[name].numpy(), value.numpy(), rtol=1e-3, atol=1e-4)


def test_a_resumed_run_says_what_changed_and_refuses_other_data(work, capsys):
    write_sales(work / "sales.csv")
    first = [*TINY, *GENERIC, "--data.path=sales.csv", "--data.horizon=6", "--tracking=none"]
    assert main(TASK, "train", first) == 0
    (record,) = (work / "runs" / "forecasting").glob("*/run.json")
    record.write_text(record.read_text().replace('"FINISHED"', '"KILLED"'))
    assert main(TASK, "train", ["--resume=last", "--train.log_every=1"]) == 0
    assert "changed    train.log_every 10 -> 1\n" in capsys.readouterr().out
    record.write_text(record.read_text().replace('"FINISHED"', '"KILLED"'))
    text = (work / "sales.csv").read_text()
    (work / "sales.csv").write_text(text.replace("s0,2015-01-01,", "s0,2015-01-01,1"))
    assert main(TASK, "train", ["--resume=last"]) == 2
    assert "sales.csv is not the data that run" in capsys.readouterr().err
    assert len(list((work / "runs" / "forecasting").iterdir())) == 1


def test_early_stopping_watches_the_held_out_windows(work, capsys):
    """A learning rate that spoils the model: validations get worse, and training stops long before its end."""
    write_sales(work / "sales.csv")
    options = ["--train.steps=40", "--train.batch_size=8", "--train.patience=2", "--train.validate_every=2"]
    options += ["--train.lr=1", "--train.schedule=constant", "--data.path=sales.csv", "--data.horizon=6"]
    assert main(TASK, "train", [*options, *GENERIC, "--model.layers=1", "--tracking=none"]) == 0
    assert "early stop after step" in capsys.readouterr().out
    (run,) = (work / "runs" / "forecasting").iterdir()
    assert "val_mase" in (run / "metrics.jsonl").read_text()
