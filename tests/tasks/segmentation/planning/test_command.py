"""``python -m tasks.segmentation.plan``."""

import json
import subprocess
import sys

import pytest

from tasks.segmentation.plan import main

STATISTICS = dict.fromkeys(("max", "mean", "median", "min", "percentile_00_5", "percentile_99_5", "std"), 1.0)


@pytest.fixture
def files(tmp_path):
    fingerprint = {
        "spacings": [[1.0, 1.0, 1.0]] * 200,
        "shapes_after_crop": [[36, 50, 35]] * 200,
        "median_relative_size_after_cropping": 1.0,
        "foreground_intensity_properties_per_channel": {"0": STATISTICS},
    }
    dataset = {
        "name": "Small",
        "channel_names": {"0": "MRI"},
        "labels": {"background": 0, "a": 1, "b": 2},
        "numTraining": 200,
        "file_ending": ".nrrd",
    }
    (tmp_path / "dataset_fingerprint.json").write_text(json.dumps(fingerprint))
    (tmp_path / "dataset.json").write_text(json.dumps(dataset))
    return [
        "--fingerprint",
        str(tmp_path / "dataset_fingerprint.json"),
        "--dataset",
        str(tmp_path / "dataset.json"),
        "--output",
        str(tmp_path / "plans"),
    ]


def test_all_presets_are_shown_and_written(files, tmp_path, capsys):
    assert main(files) == 0
    shown = capsys.readouterr().out
    assert "40 x 56 x 40" in shown
    assert "batches up to 5625: training caps them at --plan.max_batch 64" in shown
    assert "12 configurations planned in" in shown
    written = {path.name for path in (tmp_path / "plans").iterdir()}
    assert written == {
        "dataset_fingerprint.json",
        "plan.log",
        "skipwayCPUPlans.json",
        "nnUNetPlans.json",
        "nnUNetResEncUNetPlans.json",
        "nnUNetResEncUNetMPlans.json",
        "nnUNetResEncUNetLPlans.json",
        "nnUNetResEncUNetXLPlans.json",
    }
    assert "  spacing 1 x 1 x 1 mm: medians of 200 cases" in (tmp_path / "plans" / "plan.log").read_text()
    fingerprint = json.loads((tmp_path / "plans" / "dataset_fingerprint.json").read_text())
    assert fingerprint == json.loads((tmp_path / "dataset_fingerprint.json").read_text())


def test_one_preset_and_its_memory(files, tmp_path, capsys):
    assert main([*files, "--plan.preset", "resenc_l", "--plan.memory", "12"]) == 0
    assert "2 configurations planned" in capsys.readouterr().out
    plans = json.loads((tmp_path / "plans" / "nnUNetResEncUNetLPlans_12G.json").read_text())
    assert plans["dataset_name"] == "Small"
    assert plans["image_reader_writer"] == "SimpleITKIO"
    assert plans["configurations"]["2d"]["patch_size"] == [56, 40]


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--plan.patch_size", "[8, 8]"], 2, "--plan.patch_size is an option of training"),
        (["--plan.memory", "-1"], 2, "--plan.memory must be above 0"),
        (["--plan.spacing", "[1, 1]"], 2, "--plan.spacing takes three numbers"),
        (["--dataset", "missing.json"], 1, "missing.json cannot be read"),
    ],
)
def test_errors_are_one_line(files, capsys, words, code, message):
    assert main([*files, *words]) == code
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert error.count("\n") == 1


def test_both_files_are_needed(files, capsys):
    assert main(files[:2]) == 2
    assert "belong together" in capsys.readouterr().err


def test_dataset_file_that_lacks_something(files, tmp_path, capsys):
    (tmp_path / "dataset.json").write_text('{"labels": {}}')
    assert main(files) == 1
    assert "'modality' is missing" in capsys.readouterr().err


def test_help_loads_no_numpy():
    code = "import sys, tasks.segmentation.plan; sys.exit('numpy' in sys.modules or 'torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
