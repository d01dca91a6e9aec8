"""The command that writes channels as files."""

import pytest
import torch
import yaml

from tasks.csi import generate
from tasks.csi.config import DataConfig
from tasks.csi.data.load import load_data

TINY = {"rows": 1, "columns": 1, "subcarriers": 4, "gap": 2, "history": 4, "horizon": 2}
LISTS = {"models": ["A"], "delay_spreads": [100.0], "speeds": [10.0], "samples": 4, "test_samples": 2}


@pytest.fixture
def training(tmp_path):
    """A training's configuration, which names more than channels."""
    path = tmp_path / "training.yaml"
    content = {
        "data": {**TINY, **LISTS, "workers": 1},
        "model": {"name": "rnn", "width": 8},
        "train": {"epochs": 3},
    }
    path.write_text(yaml.safe_dump(content))
    return path


def test_the_file_of_a_training_names_the_channels_and_they_can_be_read_again(training, tmp_path, capsys):
    output = tmp_path / "made"
    command = ["--config", str(training), "--output", str(output)]
    assert generate.main(command) == 0
    said = capsys.readouterr().out
    assert "generating 4 train samples (1 conditions, 0.00 GB)" in said
    assert f"written    {output / 'train/regular'}: 1 conditions of 4 samples" in said
    assert f"written    {output / 'test/regular'}: 1 conditions of 2 samples" in said
    assert generate.main(command) == 0
    assert "0 conditions of 4 samples; 1 were there" in capsys.readouterr().out
    from_files = load_data(DataConfig(**TINY, **LISTS, path=str(output), validation_share=0))
    made = load_data(
        DataConfig(**TINY, **LISTS, cache=str(tmp_path / "cache"), validation_share=0, workers=1)
    )
    assert from_files.digest == made.digest


def test_a_part_is_made_alone(training, tmp_path):
    output = tmp_path / "made"
    options = ["--part", "test", "--data.test_models", "[E]"]
    assert generate.main(["--config", str(training), "--output", str(output), *options]) == 0
    assert [path.name for path in output.glob("*/regular/*")] == ["cm_E_ds_100_ms_010"]
    assert len(torch.load(next(output.rglob("H_D_pred.pt")), weights_only=True)) == 2


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        ([], 2, "give --output FOLDER"),
        (["--output", "x", "--data.path", "y"], 2, "--data.path: the channels are generated into --output"),
        (["--output", "x", "--data.models", "[Z]"], 2, "no CDL model 'Z'"),
        (["--output", "taken"], 1, "taken cannot be written"),
    ],
)
def test_wrong_use_is_one_line(options, code, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").write_text("")
    assert generate.main(options) == code
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert error.count("\n") == 1


def test_help_says_which_options_of_the_data_it_does_not_look_at(capsys):
    with pytest.raises(SystemExit):
        generate.main(["--help"])
    said = " ".join(capsys.readouterr().out.split())
    ignored = "duplex (files hold both), validation_share, snr, redraw, rotate, test_noise"
    assert f"Not looked at: {ignored}; path, cache and the name files are refused" in said


def test_help_imports_neither_pytorch_nor_sionna(run_python):
    code = """
import sys
from tasks.csi.generate import main
try:
    main(["--help"])
except SystemExit:
    pass
print("torch" in sys.modules, "sionna" in sys.modules)
"""
    assert run_python(code).splitlines()[-1] == "False False"
