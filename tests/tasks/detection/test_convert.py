"""The command that rewrites data sets."""

import json

import pytest
from PIL import Image

from tasks.detection import convert


@pytest.fixture
def coco(tmp_path):
    folder = tmp_path / "coco/train"
    folder.mkdir(parents=True)
    for i in (1, 2):
        Image.new("RGB", (40, 30), (90 * i, 0, 0)).save(folder / f"{i}.png")
    content = {
        "images": [{"id": i, "file_name": f"{i}.png", "width": 40, "height": 30} for i in (1, 2)],
        "categories": [{"id": 4, "name": "cat"}, {"id": 6, "name": "dog"}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 6, "bbox": [10, 15, 20, 10]},
            {"id": 2, "image_id": 1, "category_id": 4, "bbox": [0, 0, 4, 3]},
        ],
    }
    (folder / "_annotations.coco.json").write_text(json.dumps(content))
    return folder.parent


def test_a_coco_folder_becomes_yolo_and_the_command_says_what_is_lost(coco, tmp_path, capsys):
    output = tmp_path / "yolo"
    assert convert.main(["--data.path", str(coco), "--format", "yolo", "--output", str(output)]) == 0
    lines = (output / "labels/train/1.txt").read_text().splitlines()
    assert lines == ["1 0.5 0.66666667 0.5 0.33333333", "0 0.05 0.05 0.1 0.1"]
    assert (output / "labels/train/2.txt").read_text() == ""
    said = capsys.readouterr().out
    assert "YOLO counts classes from 0" in said
    assert f"written    {output}: yolo, train 2 images with 2 objects" in said


def test_chosen_classes_are_converted_alone(coco, tmp_path):
    output = tmp_path / "voc"
    options = [
        "--data.path",
        str(coco),
        "--data.classes",
        "[dog]",
        "--format",
        "voc",
        "--output",
        str(output),
    ]
    assert convert.main(options) == 0
    text = (output / "Annotations/1.xml").read_text()
    assert text.count("<object>") == 1 and "<name>dog</name>" in text


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--output", "x"], "give --data.path FOLDER"),
        (["--data.path", "x"], "give --output FOLDER"),
        (["--data.path", "x", "--output", "y", "--data.test_path", "z"], "one data set at a time"),
    ],
)
def test_options_that_are_missing_or_too_many_are_one_line(options, text, capsys):
    assert convert.main(options) == 2
    error = capsys.readouterr().err
    assert text in error and error.count("\n") == 1


def test_help_loads_no_heavy_library(run_python):
    code = (
        "import sys\nfrom tasks.detection import convert\n"
        "try:\n    convert.main(['--help'])\nexcept SystemExit:\n    pass\n"
        "print([m for m in ('torch', 'numpy', 'cv2') if m in sys.modules])"
    )
    assert run_python(code).splitlines()[-1] == "[]"
