"""COCO, Pascal VOC and YOLO and back: nothing moves, and what is lost is said."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from made_sets import found, image_set

from core.errors import ConfigError
from tasks.detection.data.read import read_parts
from tasks.detection.data.write import write_dataset

TRIANGLE = [(3.25, 4.5), (40.125, 4.5), (20.0, 30.875)]
SQUARE = [(10.0, 35.0), (20.0, 35.0), (20.0, 45.5), (10.0, 45.5)]
CLASSES, IDS = ["red cell", "white", "Größe"], [1, 2, 3]


@pytest.fixture
def boxes(tmp_path):
    """Parts with boxes alone, at places that no pixel has."""
    root = tmp_path / "source"
    train = {
        "train/images/a.jpg": [(0, (0, 0, 64, 48)), (2, (1.2345, 2.5, 30.7777, 40.111))],
        "train/images/b.png": [],
        "train/images/c.jpg": [(1, (0.3333, 0.6667, 5.5, 7.25))],
    }
    return found(
        {
            "train": image_set(root, train),
            "test": image_set(root, {"test/images/a.jpg": [(1, (3, 4, 50, 47))]}),
        },
        CLASSES,
        IDS,
    )


@pytest.fixture
def outlines(tmp_path):
    objects = {"a.png": [(0, (3.25, 4.5, 40.125, 30.875), [TRIANGLE]), (2, (10, 35, 20, 45.5), [SQUARE])]}
    return found({"train": image_set(tmp_path / "source", objects)}, CLASSES, IDS)


def rows(images):
    """Name and objects of each image, in an order that no format changes."""
    result = {}
    for i in range(len(images)):
        targets = images.targets(i)
        order = np.lexsort([*targets.boxes.T, targets.labels])
        result[Path(str(images.names[i])).name] = (
            targets.boxes[order],
            targets.labels[order],
            targets.crowd[order],
        )
    return result


def assert_same(before, after):
    assert after.classes == before.classes
    assert list(after.parts) == list(before.parts)
    for part, images in before.parts.items():
        old, new = rows(images), rows(after.parts[part])
        assert list(old) == list(new)
        for name, (old_boxes, old_labels, old_crowd) in old.items():
            assert np.abs(old_boxes - new[name][0]).max(initial=0) < 0.01
            assert np.array_equal(old_labels, new[name][1]) and np.array_equal(old_crowd, new[name][2])
        assert np.array_equal(images.sizes, after.parts[part].sizes)


def test_boxes_survive_coco_to_yolo_to_voc_to_coco(boxes, tmp_path):
    known = sorted(CLASSES)
    before = boxes
    for step, layout in enumerate(["coco", "yolo", "coco", "yolo"]):
        assert write_dataset(before, tmp_path / f"{step}", layout) == []
        after = read_parts(tmp_path / f"{step}", "auto", None, False)
        assert after.layout == layout
        assert_same(before, after)
        before = after
    write_dataset(before, tmp_path / "voc", "voc")
    voc = read_parts(tmp_path / "voc", "auto", None, False)
    assert voc.layout == "voc" and voc.classes == known
    write_dataset(voc, tmp_path / "last", "coco")
    assert_same(voc, read_parts(tmp_path / "last", "auto", None, False))
    # Pascal VOC sorts classes by name.
    for images, original in ((voc.parts["train"], boxes.parts["train"]),):
        names = [voc.classes[label] for label in images.labels]
        assert sorted(names) == sorted(CLASSES[label] for label in original.labels)


def test_outlines_survive_between_coco_and_yolo(outlines, tmp_path):
    assert write_dataset(outlines, tmp_path / "coco", "coco") == []
    coco = read_parts(tmp_path / "coco")
    assert write_dataset(coco, tmp_path / "yolo", "yolo") == []
    yolo = read_parts(tmp_path / "yolo")
    for after in (coco, yolo):
        assert_same(outlines, after)
        targets = after.parts["train"].targets(0)
        for ring, points in zip(targets.rings, (TRIANGLE, SQUARE), strict=True):
            assert len(ring) == 1 and np.abs(ring[0] - np.array(points)).max() < 0.01
        assert targets.area == pytest.approx([0.5 * 36.875 * 26.375, 105.0], rel=1e-4) or after is coco


def test_coco_keeps_numbers_and_crowds(tmp_path):
    images = image_set(tmp_path / "source", {"a.png": [(1, (1, 2, 11, 22), None, True), (0, (5, 5, 9, 9))]})
    before = found({"train": images}, ["x", "y"], [7, 12])
    write_dataset(before, tmp_path / "coco", "coco")
    content = json.loads((tmp_path / "coco/train/_annotations.coco.json").read_text())
    assert content["categories"] == [{"id": 7, "name": "x"}, {"id": 12, "name": "y"}]
    assert content["images"] == [{"id": 1, "file_name": "a.png", "width": 64, "height": 48}]
    assert content["annotations"][0] == {
        "id": 1,
        "image_id": 1,
        "category_id": 12,
        "bbox": [1.0, 2.0, 10.0, 20.0],
        "area": 200.0,
        "iscrowd": 1,
        "segmentation": [],
    }
    after = read_parts(tmp_path / "coco")
    assert_same(before, after)
    assert after.category_ids == [7, 12]


def test_what_voc_cannot_hold_is_said(tmp_path):
    images = image_set(tmp_path / "source", {"a.png": [(0, (3.25, 4.5, 40.125, 30.875), [TRIANGLE], True)]})
    lost = write_dataset(found({"train": images}, ["x"], [5]), tmp_path / "voc", "voc")
    assert len(lost) == 3
    assert "those of 1 object" in lost[0] and "numbers" in lost[1] and "difficult" in lost[2]
    text = (tmp_path / "voc/Annotations/a.xml").read_text()
    assert (
        "<xmin>3.25</xmin>" in text and "<ymax>30.875</ymax>" in text and "<difficult>1</difficult>" in text
    )
    assert (tmp_path / "voc/ImageSets/Main/train.txt").read_text() == "a\n"


def test_what_yolo_cannot_hold_is_said(tmp_path):
    objects = [
        (0, (0, 0, 9, 9), None, True),
        (0, (3, 4, 41, 46), [TRIANGLE, SQUARE]),
        (0, (10, 35, 20, 45.5), [SQUARE]),
    ]
    images = image_set(tmp_path / "source", {"a.png": objects})
    lost = write_dataset(found({"train": images}, ["x"], [5]), tmp_path / "yolo", "yolo")
    assert [line.split(":")[0] for line in lost] == [
        "YOLO has no mark for crowds and difficult objects",
        "YOLO counts classes from 0",
        "YOLO has an outline or a box",
        "YOLO has one outline for an object",
    ]
    lines = (tmp_path / "yolo/labels/train/a.txt").read_text().splitlines()
    assert (
        len(lines) == 2
        and lines[1] == "0 0.15625 0.72916667 0.3125 0.72916667 0.3125 0.94791667 0.15625 0.94791667"
    )


def test_joined_pieces_cover_what_the_pieces_cover(tmp_path):
    import cv2

    images = image_set(tmp_path / "source", {"a.png": [(0, (3, 4, 41, 46), [TRIANGLE, SQUARE, SQUARE])]})
    write_dataset(found({"train": images}), tmp_path / "yolo", "yolo")
    values = (tmp_path / "yolo/labels/train/a.txt").read_text().split()[1:]
    joined = np.array(values, float).reshape(-1, 2) * (64, 48)
    area = [cv2.contourArea(np.array(points, np.float32)) for points in (TRIANGLE, SQUARE, SQUARE)]
    assert cv2.contourArea(joined.astype(np.float32)) == pytest.approx(sum(area), rel=1e-4)


def test_equal_names_in_other_folders_and_endings_do_not_collide(tmp_path):
    one = [(0, (1, 2, 3, 4))]
    names = ["images/x/a.png", "images/y/a.png", "images/x_a.jpg", "images/y/A.jpg"]
    images = image_set(tmp_path / "source", dict.fromkeys(names, one))
    for layout in ("coco", "voc", "yolo"):
        write_dataset(found({"train": images}, ["x"]), tmp_path / layout, layout)
        after = read_parts(tmp_path / layout)
        names = sorted(Path(str(name)).name for name in after.parts["train"].names)
        assert names == sorted(["x_a.png", "y_a.png", "x_a_2.jpg", "y_A_2.jpg"])
        assert len(after.parts["train"].boxes) == 4


def test_undivided_sets_stay_so_where_the_format_can(tmp_path):
    images = image_set(tmp_path / "source", {f"{i}.png": [(0, (1, 2, 3, 4))] for i in range(3)})
    for layout, part in (("coco", "all"), ("voc", "all"), ("yolo", "train")):
        write_dataset(found({"all": images}, ["x"]), tmp_path / layout, layout)
        after = read_parts(tmp_path / layout)
        assert list(after.parts) == [part] and after.classes == ["x"]
        assert rows(after.parts[part]).keys() == rows(images).keys()


def test_images_are_linked_or_copied(boxes, tmp_path, monkeypatch):
    write_dataset(boxes, tmp_path / "linked", "coco")
    source = tmp_path / "source/train/images/a.jpg"
    assert (tmp_path / "linked/train/a.jpg").samefile(source)

    def refuse(*_):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    write_dataset(boxes, tmp_path / "copied", "coco")
    copy = tmp_path / "copied/train/a.jpg"
    assert not copy.samefile(source) and copy.read_bytes() == source.read_bytes()


def test_a_folder_that_holds_something_is_refused(boxes, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/file").write_text("mine")
    for output in ("mine", "mine/file"):
        with pytest.raises(ConfigError, match="exists and is no empty folder"):
            write_dataset(boxes, tmp_path / output, "yolo")
    with pytest.raises(ConfigError, match="cannot be written"):
        write_dataset(boxes, tmp_path / "mine/file/below", "yolo")
