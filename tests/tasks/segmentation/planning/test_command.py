"""``python -m tasks.segmentation.plan``."""

import json

import pytest
from rich.console import Console

from tasks.segmentation.plan import _table, main
from tasks.segmentation.planning.fingerprint import read_fingerprint
from tasks.segmentation.planning.planner import make_plans

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
    assert ["cpu", "3d_fullres", "1x1x1", "40x56x40", "4", "4"] in [
        line.split() for line in shown.splitlines()
    ]
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
        (["--plan.memory", "0.001"], 2, "more memory is needed"),
        (["--plan.spacing", "[1, 1]"], 2, "--plan.spacing has 2 entries; it takes 3, first axis"),
        (["--plan.spacing", "[1, 0, 1]"], 2, "--plan.spacing must be above 0"),
        (["--plan.spacing", "[100, 200, 300]"], 2, "would have 0 x 0 x 0 voxels; make it finer"),
        (["--data.path", "cases"], 2, "--fingerprint stands in place of data; leave it or --data.path off"),
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


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"numTraining": "200"}, "numTraining is '200' and not a whole number"),
        ({"numTraining": True}, "numTraining is True and not a whole number"),
        ({"numTraining": 0}, "numTraining is 0"),
        ({"channel_names": ["MRI"]}, "channel_names is no JSON object"),
        ({"channel_names": {"first": "MRI"}}, "invalid literal for int() with base 10: 'first'"),
        ({"labels": "ab"}, "labels is 'ab' and not an object"),
        ({"labels": None}, "labels is None"),
        ({"file_ending": [".png"]}, "file_ending is ['.png'] and not a string"),
        ({"channel_names": {"0": "T1", "1": "T2"}}, "names 2 channels, and the fingerprint has 1"),
    ],
)
def test_faults_of_the_dataset_file_are_one_line(files, tmp_path, capsys, change, message):
    path = tmp_path / "dataset.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    assert main(files) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"error: {path}")
    assert message in error
    assert error.count("\n") == 1


def test_images_take_two_numbers(files, tmp_path):
    path = tmp_path / "dataset_fingerprint.json"
    flat = {"spacings": [[999, 1, 1]] * 200, "shapes_after_crop": [[1, 64, 64]] * 200}
    path.write_text(json.dumps(json.loads(path.read_text()) | flat))
    assert main([*files, "--plan.preset=cpu", "--plan.spacing", "[2, 2]"]) == 0
    plans = json.loads((tmp_path / "plans" / "skipwayCPUPlans.json").read_text())
    assert plans["configurations"]["2d"]["median_image_size_in_voxels"] == [32, 32]


def test_no_column_is_cut(files, tmp_path, capsys):
    path = tmp_path / "dataset_fingerprint.json"
    large = {"spacings": [[1.25, 0.768, 0.769]] * 200, "shapes_after_crop": [[432, 512, 512]] * 200}
    path.write_text(json.dumps(json.loads(path.read_text()) | large))
    assert main([*files, "--plan.preset=resenc_xl"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["resenc_xl", "3d_cascade_fullres", "1.25x0.768x0.769", "192x256x256", "2", "7"] in rows
    # A terminal can be narrower than what goes to a file.
    plans = make_plans(read_fingerprint(path), 3, ["MRI"], "resenc_xl")
    console = Console(width=80)
    with console.capture() as shown:
        console.print(_table("Large", [plans]))
    assert [line.split() for line in shown.get().splitlines() if "resenc_xl" in line] == [
        row for row in rows if row[:1] == ["resenc_xl"]
    ]


def test_what_cannot_be_written_is_one_line_below_what_was_planned(files, tmp_path, capsys):
    taken = tmp_path / "plans" / "skipwayCPUPlans.json"
    taken.mkdir(parents=True)
    assert main([*files, "--plan.preset=cpu"]) == 2
    said = capsys.readouterr()
    assert "40x56x40" in said.out and "3d_fullres: patch 40 x 56 x 40" in said.out
    assert "written to" not in said.out
    assert said.err.startswith(
        f"error: --output {tmp_path / 'plans'}: {taken} cannot be written (Is a directory)"
    )
    assert said.err.count("\n") == 1
    assert not list((tmp_path / "plans").glob(".*")), "no rests of what was begun"


def test_the_batch_is_an_option_of_training(files, capsys):
    with pytest.raises(SystemExit):
        main([*files, "--plan.batch_size=2"])
    assert "batch_size" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["plan", "best"])
def test_help_loads_nothing_heavy(run_python, command):
    code = f"""
import sys
from tasks.segmentation.{command} import main
try:
    main(["--help"])
except SystemExit:
    pass
print(sorted({{"numpy", "torch", "scipy", "pandas", "mlflow", "matplotlib", "monai"}} & sys.modules.keys()))
"""
    assert run_python(code).splitlines()[-1] == "[]"
