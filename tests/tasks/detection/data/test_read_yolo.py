from __future__ import annotations

from pathlib import Path

import pytest
from small_sets import picture, text

from core.errors import DataError
from tasks.detection.data.read import read_parts

ROW = "0 0.5 0.5 0.5 0.2\n"


def pair(path: Path, part: str, name: str = "a", rows: str = ROW) -> None:
    picture(path / f"{part}/images/{name}.png")
    text(path / f"{part}/labels/{name}.txt", rows)


def test_rows_become_pixels_and_polygons_get_a_box(tmp_path: Path) -> None:
    picture(tmp_path / "images/a.png")
    text(tmp_path / "labels/a.txt", "2 0.5 0.5 0.5 0.2\n0 0.25 0.1 0.75 0.1 0.75 0.5\n")
    found = read_parts(tmp_path)
    targets = found.parts["all"].targets(0)
    assert (found.layout, found.classes) == ("yolo", ["0", "1", "2"])
    assert targets.boxes.round(4).tolist() == [[10, 12, 30, 18], [10, 3, 30, 15]]
    assert targets.labels.tolist() == [2, 0]
    assert targets.area.round(3).tolist() == [120, 120]
    assert targets.rings is not None
    assert [len(rings) for rings in targets.rings] == [0, 1]
    assert targets.rings[1][0].round(4).tolist() == [[10, 3], [30, 3], [30, 15]]


@pytest.mark.parametrize(
    "names", ["names: [cat, dog]", "names: {0: cat, 1: dog}", "nc: 2\nnames:\n  1: dog\n  0: cat"]
)
def test_roboflow_yaml_leads_to_the_parts(tmp_path: Path, names: str) -> None:
    for part in ("train", "valid"):
        pair(tmp_path, part)
    entries = "train: ../train/images\nval: ../valid/images\ntest: ../test/images\n"
    text(tmp_path / "data.yaml", entries + names)
    found = read_parts(tmp_path)
    assert found.classes == ["cat", "dog"]
    assert {name: str(part.names[0]) for name, part in found.parts.items()} == {
        "train": "train/images/a.png",
        "val": "valid/images/a.png",
    }
    assert "part left out, since the folder does not exist" in found.notes[0]


def test_yaml_entries_may_be_lists_of_files_and_lists_of_folders(tmp_path: Path) -> None:
    for part, name in (("one", "a"), ("two", "b"), ("three", "c")):
        pair(tmp_path / "data", part, name)
    text(
        tmp_path / "data/val.txt",
        f"./three/images/c.png\n{tmp_path}/data/three/images/c.png\ngone/images/d.png\n",
    )
    file = text(
        tmp_path / "configs/set.yaml",
        "path: ../data\ntrain: [one/images, two/images]\nval: val.txt\nnames: [x]\n",
    )
    found = read_parts(file)
    assert found.parts["train"].names.tolist() == ["one/images/a.png", "two/images/b.png"]
    assert found.parts["val"].names.tolist() == ["three/images/c.png"]
    assert any("1 image listed twice" in line for line in found.notes)
    assert any("1 image that cannot be read" in line for line in found.notes)


def test_a_validation_part_that_is_the_training_part_again_is_left_out(tmp_path: Path) -> None:
    pair(tmp_path, ".")
    text(tmp_path / "data.yaml", "train: images\nval: images\nnames: [x]\n")
    found = read_parts(tmp_path)
    assert list(found.parts) == ["train"]
    assert "with the very images of train" in found.notes[0]


def test_images_and_labels_with_parts_inside_and_a_list_of_names(tmp_path: Path) -> None:
    for part in ("train2017", "val2017"):
        picture(tmp_path / f"images/{part}/a.png")
        text(tmp_path / f"labels/{part}/a.txt", ROW)
    text(tmp_path / "classes.txt", "cat\ndog\n")
    found = read_parts(tmp_path)
    assert (list(found.parts), found.classes) == (["train", "val"], ["cat", "dog"])
    assert len(found.parts["val"].boxes) == 1


def test_labels_beside_the_images(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    picture(tmp_path / "n.png")
    text(tmp_path / "a.txt", ROW)
    text(tmp_path / "obj.names", "cat\n")
    found = read_parts(tmp_path)
    assert found.parts["all"].names.tolist() == ["a.png", "n.png"]
    assert found.parts["all"].start.tolist() == [0, 1, 1]
    assert "with no annotation file" in found.notes[0]


def test_labels_and_images_in_places_of_their_own(tmp_path: Path) -> None:
    picture(tmp_path / "pictures/a.png")
    text(tmp_path / "texts/a.txt", ROW)
    found = read_parts(tmp_path / "texts", images=tmp_path / "pictures")
    assert found.parts["all"].boxes.round(4).tolist() == [[10, 12, 30, 18]]


@pytest.mark.parametrize(
    ("row", "note"),
    [
        ("1 0.5 0.5 0.1 0.1", "1 row of a class beyond the 1 that have names, dropped"),
        ("-1 0.5 0.5 0.1 0.1", "1 row whose class is no whole number, dropped"),
        ("1e300 0.5 0.5 0.1 0.1", "1 row of a class beyond the 1 that have names, dropped"),
        ("inf 0.5 0.5 0.1 0.1", "1 row whose class is no whole number, dropped"),
        ("cat 0.5 0.5 0.1 0.1", "1 row whose class is no whole number, dropped"),
        ("0 0.5 0.5 0.1", "1 row with neither four numbers nor a polygon"),
        ("0 0.5 0.5 0.1 0.1 0.9", "1 row with neither four numbers nor a polygon"),
        ("0 0.5 0.5 0.1 x", "1 box with a value that is no number, dropped"),
        ("0 0.5 0.5 nan 0.1", "1 box with a value that is no number, dropped"),
        ("0 0.5 0.5 0 0.1", "1 box without area, dropped"),
        ("0 1.5 0.5 0.1 0.1", "1 box outside of the image, dropped"),
        ("0 0.1 0.1 0.1 0.1", "1 box given twice, dropped once"),
    ],
)
def test_a_bad_row_is_dropped_with_a_note_that_names_it(tmp_path: Path, row: str, note: str) -> None:
    picture(tmp_path / "images/a.png")
    file = text(tmp_path / "labels/a.txt", f"0 0.1 0.1 0.1 0.1\n\n{row}\n")
    text(tmp_path / "data.yaml", "train: images\nnames: [x]\n")
    found = read_parts(tmp_path)
    assert len(found.parts["train"].boxes) == 1
    (line,) = found.notes
    assert line.startswith(note)
    assert f"{file} line 3" in line


def test_rounded_text_that_ends_just_beyond_the_image_is_no_note(tmp_path: Path) -> None:
    picture(tmp_path / "images/a.png")
    text(tmp_path / "labels/a.txt", "0 0.9 0.5 0.200001 1.000001\n")
    found = read_parts(tmp_path)
    assert found.parts["all"].boxes.round(3).tolist() == [[32, 0, 40, 30]]
    assert found.notes == []


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("train: [", "is no YAML"),
        ("- 1", "needs the keys"),
        ("train: gone\nnames: [x]", "gone does not exist"),
        ("train: 5\nnames: [x]", "must name a folder"),
        ("train: images\nnames: {1: x, 2: y}", "count from 0"),
        ("train: images\nnames: [x, x]", "named x"),
        ("train: images\nnc: 3\nnames: [x]", "nc is 3"),
        ("names: [x]", "none of its train, val and test"),
    ],
)
def test_a_yaml_file_that_is_wrong_is_an_error_of_one_line(tmp_path: Path, content: str, words: str) -> None:
    pair(tmp_path, ".")
    text(tmp_path / "data.yaml", content)
    with pytest.raises(DataError, match=words) as error:
        read_parts(tmp_path)
    assert "\n" not in str(error.value)
