from __future__ import annotations

from pathlib import Path

import pytest
from small_sets import picture, text, xml

from core.errors import DataError
from tasks.detection.data.read import read_parts


def voc(path: Path, names: str = "abc") -> Path:
    for k, name in enumerate(names):
        picture(path / f"JPEGImages/{name}.png")
        xml(path / f"Annotations/{name}.xml", [("wolf" if k else "ape", (1 + k, 2, 11, 12))])
    return path


def test_lists_divide_the_images_and_classes_are_sorted(tmp_path: Path) -> None:
    voc(tmp_path)
    text(tmp_path / "ImageSets/Main/train.txt", "c\nb\n")
    text(tmp_path / "ImageSets/Main/val.txt", "a\n")
    text(tmp_path / "ImageSets/Main/trainval.txt", "a\nb\nc\n")
    found = read_parts(tmp_path)
    assert found.layout == "voc"
    assert {name: part.names.tolist() for name, part in found.parts.items()} == {
        "train": ["c.png", "b.png"],
        "val": ["a.png"],
    }
    assert (found.classes, found.category_ids) == (["ape", "wolf"], [1, 2])
    assert found.parts["train"].labels.tolist() == [1, 1]
    assert found.parts["train"].boxes.tolist() == [[3, 2, 11, 12], [2, 2, 11, 12]]
    assert found.parts["train"].ids.tolist() == [1, 2]


def test_the_list_of_both_serves_as_train_without_what_is_in_val(tmp_path: Path) -> None:
    voc(tmp_path)
    text(tmp_path / "ImageSets/Main/trainval.txt", "a\nb\n")
    text(tmp_path / "ImageSets/Main/val.txt", "b\n")
    text(tmp_path / "ImageSets/Main/test.txt", "c  1\n")
    parts = read_parts(tmp_path).parts
    assert {name: part.names.tolist() for name, part in parts.items()} == {
        "train": ["a.png"],
        "val": ["b.png"],
        "test": ["c.png"],
    }


def test_counting_from_one_moves_the_first_corner(tmp_path: Path) -> None:
    voc(tmp_path, "a")
    assert read_parts(tmp_path, one_based=True).parts["all"].boxes.tolist() == [[0, 1, 11, 12]]


def test_years_side_by_side_are_joined(tmp_path: Path) -> None:
    voc(tmp_path / "VOCdevkit/VOC2007", "ab")
    voc(tmp_path / "VOCdevkit/VOC2012", "c")
    part = read_parts(tmp_path).parts["all"]
    assert [name.split("/")[0] for name in part.names.tolist()] == ["VOC2007", "VOC2007", "VOC2012"]


def test_xml_beside_the_images_in_folders_of_parts(tmp_path: Path) -> None:
    for name in ("train", "valid", "test"):
        picture(tmp_path / name / "a.png")
        xml(tmp_path / name / "a.xml", [("x", (1, 1, 5, 5))])
    parts = read_parts(tmp_path).parts
    assert {name: str(part.names[0]) for name, part in parts.items()} == {
        "train": "train/a.png",
        "val": "valid/a.png",
        "test": "test/a.png",
    }


def test_an_image_without_a_file_is_one_without_objects(tmp_path: Path) -> None:
    voc(tmp_path, "a")
    picture(tmp_path / "JPEGImages/n.png")
    found = read_parts(tmp_path)
    assert found.parts["all"].names.tolist() == ["a.png", "n.png"]
    assert len(found.parts["all"].targets(1).boxes) == 0
    assert "with no annotation file" in found.notes[0]


def test_difficult_objects_are_not_learned(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    xml(tmp_path / "a.xml", [("x", (1, 1, 5, 5))], extra="<difficult>1</difficult>")
    assert read_parts(tmp_path).parts["all"].crowd.tolist() == [True]


def test_a_note_names_the_line(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    xml(
        tmp_path / "a.xml",
        [("x", (1, 1, 5, 5)), ("x", (7, 7, 7, 7)), ("", (1, 1, 5, 5)), ("x", (1, 1, "", 5))],
    )
    found = read_parts(tmp_path)
    assert found.parts["all"].boxes.tolist() == [[1, 1, 5, 5]]
    file = tmp_path / "a.xml"
    assert found.notes == [
        f"1 object without a name, dropped (first: {file} line 5)",
        f"1 box with a value that is no number, dropped (first: {file} line 6)",
        f"1 box without area, dropped (first: {file} line 4)",
    ]


@pytest.mark.parametrize(
    "content",
    [
        "",
        "<annotation><object>",
        '<!DOCTYPE a [<!ENTITY b "c">]><annotation><object><name>&b;</name></object></annotation>',
    ],
)
def test_a_damaged_file_drops_its_image(tmp_path: Path, content: str) -> None:
    voc(tmp_path, "ab")
    file = text(tmp_path / "Annotations/b.xml", content)
    found = read_parts(tmp_path)
    assert found.parts["all"].names.tolist() == ["a.png"]
    assert str(file) in found.notes[0]


def test_missing_doubled_and_ambiguous_images_are_dropped(tmp_path: Path) -> None:
    voc(tmp_path, "abc")
    (tmp_path / "JPEGImages/b.png").unlink()
    picture(tmp_path / "JPEGImages/c.bmp")
    picture(tmp_path / "JPEGImages/d.bmp")
    picture(tmp_path / "JPEGImages/d.jpg")
    xml(tmp_path / "Annotations/d.xml")
    text(tmp_path / "ImageSets/Main/train.txt", "a\nb\nc\na\nd\n")
    found = read_parts(tmp_path)
    # What the file says decides between c.png and c.bmp.
    assert found.parts["train"].names.tolist() == ["a.png", "c.png"]
    assert [line.split(" (")[0] for line in found.notes] == [
        "1 image not found, dropped",
        "1 image listed twice, taken once",
        "1 image in more than one file, dropped",
    ]


def test_a_folder_that_is_nothing_is_an_error_that_says_what_was_looked_for(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"_annotations\.coco\.json.*JPEGImages.*data\.yaml"):
        read_parts(tmp_path)
    with pytest.raises(DataError, match="there is no such file"):
        read_parts(tmp_path / "gone")


def test_two_layouts_that_fit_must_be_chosen_from(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    xml(tmp_path / "a.xml", [("x", (1, 1, 5, 5))])
    text(tmp_path / "a.txt", "0 .5 .5 .2 .2\n")
    with pytest.raises(DataError, match="voc and yolo"):
        read_parts(tmp_path)
    assert read_parts(tmp_path, "yolo").classes == ["0"]
