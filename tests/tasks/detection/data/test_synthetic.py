"""Made images: exact boxes, the same files for a seed, photographs that are not on both sides."""

import json
import sys
from itertools import combinations

import cv2
import numpy as np
import pytest

from core.errors import DataError
from tasks.detection.data import synthetic
from tasks.detection.data.images import read_rgb

COUNTS = {"train": 40, "test": 12}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made") / "overlays"
    synthetic.write_overlays(folder, counts=COUNTS)
    return folder


def content(folder, part):
    return json.loads((folder / part / "_annotations.coco.json").read_text())


def test_images_and_annotations_are_a_coco_folder(folder):
    for part, count in COUNTS.items():
        found = content(folder, part)
        assert [image["file_name"] for image in found["images"]] == [
            f"overlay_{i:03d}.jpg" for i in range(count)
        ]
        assert read_rgb(folder / part / "overlay_000.jpg").shape == (256, 256, 3)
        assert {a["category_id"] for a in found["annotations"]} == {1, 2, 3, 4}
        assert len({a["id"] for a in found["annotations"]}) == len(found["annotations"])
    assert [c["name"] for c in content(folder, "train")["categories"]] == [
        "text",
        "disc",
        "square",
        "triangle",
    ]


def test_some_images_show_nothing(folder):
    with_objects = {a["image_id"] for a in content(folder, "train")["annotations"]}
    assert 0 < 40 - len(with_objects) < 10


def test_boxes_lie_inside_and_hide_each_other_little(folder):
    by_image = {}
    for annotation in content(folder, "train")["annotations"]:
        x, y, w, h = annotation["bbox"]
        assert x >= 0 and y >= 0 and x + w <= 256 and y + h <= 256 and min(w, h) >= 5
        by_image.setdefault(annotation["image_id"], []).append((x, y, w, h))
    for boxes in by_image.values():
        for (ax, ay, aw, ah), (bx, by, bw, bh) in combinations(boxes, 2):
            shared = max(0, min(ax + aw, bx + bw) - max(ax, bx)) * max(0, min(ay + ah, by + bh) - max(ay, by))
            assert shared < 0.1 * min(aw * ah, bw * bh) + 1e-3


def window(box):
    left, top, right, bottom = box.astype(int)
    part = np.zeros((256, 256), bool)
    part[max(0, top - 2) : bottom + 3, max(0, left - 2) : right + 3] = True
    return part


def test_boxes_are_those_of_the_pixels_that_were_changed(monkeypatch):
    monkeypatch.setattr(
        synthetic, "_background", lambda rng, part, size: np.full((size, size, 3), 128, np.float32)
    )
    seen = dict.fromkeys(synthetic.CLASSES, 0)
    for number in range(60):
        image, things = synthetic.draw_overlay(np.random.default_rng(number), "train", 256)
        changed = np.abs(image.astype(int) - 128).max(2)
        around = [window(thing.box) for thing in things]
        for i, thing in enumerate(things):
            part = around[i]
            if any((part & other).any() for j, other in enumerate(around) if j != i):
                continue
            mine = part & (changed > 0.5 * changed[part].max())
            rows, columns = np.flatnonzero(mine.any(1)), np.flatnonzero(mine.any(0))
            found = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
            # The corner of a triangle covers less than half of the pixels at its end.
            slack = 2.5 if thing.name == "triangle" else 1.0
            assert np.abs(found - thing.box).max() <= slack, (number, thing.name)
            seen[thing.name] += 1
    assert min(seen.values()) >= 10


def test_outlines_enclose_the_boxes_and_the_areas(folder):
    for annotation in content(folder, "train")["annotations"]:
        points = np.array(annotation["segmentation"][0], np.float32).reshape(-1, 2)
        x, y, w, h = annotation["bbox"]
        assert np.allclose(points.min(0), (x, y), atol=2e-3) and np.allclose(
            points.max(0), (x + w, y + h), atol=2e-3
        )
        assert cv2.contourArea(points) == pytest.approx(annotation["area"], rel=1e-3)


def test_an_object_stands_out_from_what_it_covers(monkeypatch):
    for number in range(20):
        rng = np.random.default_rng(number)
        under = rng.uniform(0, 255, 3)
        colour = synthetic._colour(rng, under, 0.7)
        assert 0.7 * np.linalg.norm(colour - under) >= 77  # black on the darkest gray that counts as bright


def test_photographs_are_on_one_side_alone():
    assert not set(synthetic.PHOTOGRAPHS["train"]) & set(synthetic.PHOTOGRAPHS["test"])


def test_the_same_seed_makes_the_same_files_and_each_image_depends_on_its_number_alone(folder, tmp_path):
    synthetic.write_overlays(tmp_path / "again", counts={"train": 2})
    for name in ("overlay_000.jpg", "overlay_001.jpg"):
        assert (tmp_path / "again/train" / name).read_bytes() == (folder / "train" / name).read_bytes()
    synthetic.write_overlays(tmp_path / "other", seed=1, counts={"train": 1})
    name = "train/overlay_000.jpg"
    assert (tmp_path / "other" / name).read_bytes() != (folder / name).read_bytes()


def test_a_folder_that_holds_something_is_refused(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(DataError, match="is not an empty folder"):
        synthetic.write_overlays(tmp_path)


def test_the_command_writes_a_folder_and_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(synthetic, "COUNTS", {"train": 1})
    monkeypatch.setattr(sys, "argv", ["synthetic", str(tmp_path / "made")])
    assert synthetic.main() == 0
    assert capsys.readouterr().out == f"overlays in {tmp_path / 'made'}\n"
    assert synthetic.main() == 1
    assert "error: " in capsys.readouterr().err
