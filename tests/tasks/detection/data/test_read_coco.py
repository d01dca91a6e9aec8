from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from faster_coco_eval.core import mask as coco_mask
from small_sets import coco, entry, picture, text, thing

from core.errors import DataError
from tasks.detection.data.read import Found, read_parts


def one(folder: Path, annotations: list[dict[str, Any]], **more: Any) -> Found:
    picture(folder / "a.png")
    coco(folder / "_annotations.coco.json", [entry(7, "a.png")], annotations, **more)
    return read_parts(folder)


def test_boxes_become_corners_and_the_ids_of_the_file_are_kept(tmp_path: Path) -> None:
    found = one(
        tmp_path,
        [thing(1, 7, [1, 2, 10, 20], 90, area=55.5), thing(2, 7, [0, 0, 5, 5], 0, iscrowd=1)],
        categories=[(0, "x"), (90, "y")],
    )
    part = found.parts["all"]
    assert found.layout == "coco"
    assert (found.classes, found.category_ids, part.ids.tolist()) == (["x", "y"], [0, 90], [7])
    targets = part.targets(0)
    assert targets.boxes.tolist() == [[1, 2, 11, 22], [0, 0, 5, 5]]
    assert targets.labels.tolist() == [1, 0]
    assert targets.crowd.tolist() == [False, True]
    assert targets.area.tolist() == [55.5, 25]
    assert targets.rings is None
    assert found.notes == []


def test_parts_share_the_root_and_the_classes_by_name(tmp_path: Path) -> None:
    picture(tmp_path / "train" / "a.png")
    picture(tmp_path / "valid" / "a.png")
    coco(tmp_path / "train/_annotations.coco.json", [entry(1, "a.png")], [thing(1, 1, [1, 1, 5, 5], 2)])
    coco(
        tmp_path / "valid/_annotations.coco.json",
        [entry(1, "a.png")],
        [thing(1, 1, [1, 1, 5, 5], 1), thing(2, 1, [2, 2, 5, 5], 2)],
        categories=[(1, "dog"), (2, "emu")],
    )
    found = read_parts(tmp_path)
    assert list(found.parts) == ["train", "val"]
    assert (found.classes, found.category_ids) == (["cat", "dog", "emu"], [1, 2, 3])
    assert found.parts["val"].labels.tolist() == [1, 2]
    assert [str(part.names[0]) for part in found.parts.values()] == ["train/a.png", "valid/a.png"]
    assert {part.root for part in found.parts.values()} == {tmp_path}


@pytest.mark.parametrize("inside", ["", "images/"])
def test_the_layout_of_coco_itself_is_found(tmp_path: Path, inside: str) -> None:
    for name in ("train2017", "val2017"):
        picture(tmp_path / f"{inside}{name}" / "a.png")
        coco(
            tmp_path / f"annotations/instances_{name}.json", [entry(1, "a.png")], [thing(1, 1, [1, 1, 5, 5])]
        )
        text(tmp_path / f"annotations/captions_{name}.json", '{"images": [], "categories": []}')
    found = read_parts(tmp_path)
    assert {key: str(part.names[0]) for key, part in found.parts.items()} == {
        "train": "train2017/a.png",
        "val": "val2017/a.png",
    }
    single = read_parts(tmp_path / "annotations/instances_val2017.json")
    assert single.parts["all"].path(0) == tmp_path / f"{inside}val2017/a.png"


def test_the_folder_of_the_images_may_be_given(tmp_path: Path) -> None:
    picture(tmp_path / "far" / "sub" / "a.png")
    file = coco(tmp_path / "near" / "x.json", [entry(1, "sub\\a.png")], [thing(1, 1, [1, 1, 5, 5])])
    part = read_parts(file, images=tmp_path / "far").parts["all"]
    assert part.path(0) == tmp_path / "far/sub/a.png"


@pytest.mark.parametrize(
    ("item", "note"),
    [
        (thing(5, 7, [1, 1, 0, 9]), "1 box without area, dropped"),
        (thing(5, 7, [9, 9, -4, 4]), "1 box without area, dropped"),
        (thing(5, 7, [50, 1, 4, 4]), "1 box outside of the image, dropped"),
        (thing(5, 7, [1, "x", 4, 4]), "1 box with a value that is no number, dropped"),
        (thing(5, 7, [1, float("nan"), 4, 4]), "1 box with a value that is no number, dropped"),
        (thing(5, 7, [1, 1, 4]), "1 box without four numbers, dropped"),
        (thing(5, 7, [1, 1, 4, 4], 3), "1 annotation of a category that is not in the list, dropped"),
        (thing(5, 8, [1, 1, 4, 4]), "1 annotation of an image that is not in the list, dropped"),
        (thing(5, 7, [2, 2, 4, 4]), "1 box given twice, dropped once"),
    ],
)
def test_a_bad_row_is_dropped_with_a_note_that_names_it(
    tmp_path: Path, item: dict[str, Any], note: str
) -> None:
    found = one(tmp_path, [thing(4, 7, [2, 2, 4, 4]), item])
    assert found.parts["all"].boxes.tolist() == [[2, 2, 6, 6]]
    (line,) = found.notes
    assert line.startswith(note)
    assert f"{tmp_path / '_annotations.coco.json'} annotation 5" in line


def test_a_box_beyond_the_image_is_cut_and_its_area_is_that_of_the_rest(tmp_path: Path) -> None:
    found = one(tmp_path, [thing(4, 7, [-5, 10, 10, 40], area=400), thing(9, 7, [35, 0, 10, 5])])
    assert found.parts["all"].boxes.tolist() == [[0, 10, 5, 30], [35, 0, 40, 5]]
    assert found.parts["all"].area.tolist() == [100, 25]
    name = tmp_path / "_annotations.coco.json"
    assert found.notes == [f"2 boxes reaching beyond the image, cut to it (first: {name} annotation 4)"]


def test_the_same_id_of_two_annotations_keeps_both(tmp_path: Path) -> None:
    found = one(tmp_path, [thing(4, 7, [2, 2, 4, 4]), thing(4, 7, [3, 2, 4, 4])])
    assert len(found.parts["all"].boxes) == 2
    assert "with an id that another one has, kept" in found.notes[0]


def test_images_that_are_missing_broken_doubled_or_ambiguous_are_dropped(tmp_path: Path) -> None:
    for name in ("a.png", "b/same.png", "c/same.png", "b/one.png"):
        picture(tmp_path / name)
    text(tmp_path / "bad.png", "no image")
    names = ["a.png", "gone.png", "bad.png", "same.png", "a.png", "one.png"]
    images = [entry(k, name) for k, name in enumerate(names, start=1)]
    images += [entry(1, "b/one.png"), {"id": 99}]
    coco(tmp_path / "x.json", images, [thing(k, k, [1 + k, 1, 5, 5]) for k in range(1, 7)])
    found = read_parts(tmp_path)
    part = found.parts["all"]
    assert part.names.tolist() == ["a.png", "b/one.png"]
    # The boxes of the image that was listed twice are joined.
    assert part.targets(0).boxes[:, 0].tolist() == [2, 6]
    assert part.targets(1).boxes[:, 0].tolist() == [7]
    said = "\n".join(found.notes)
    for what in (
        "not found, dropped",
        "that cannot be read, dropped",
        "in more than one folder, dropped",
        "listed twice, objects joined",
        "with an id that another one has, dropped",
        "without id or file_name, dropped",
    ):
        assert f"1 image {what} (first: " in said


def test_an_image_of_another_size_than_annotated_is_dropped(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    picture(tmp_path / "b.png", 40, 31)
    coco(tmp_path / "x.json", [entry(1, "a.png"), entry(2, "b.png")], [thing(1, 2, [1, 1, 5, 5])])
    found = read_parts(tmp_path)
    assert found.parts["all"].names.tolist() == ["a.png"]
    assert len(found.parts["all"].boxes) == 0
    assert "is 40x31" in found.notes[0]
    assert "tells 40x30" in found.notes[0]


def test_polygons_are_kept_with_their_objects(tmp_path: Path) -> None:
    rings = [[1, 1, 5, 1, 5, 5, 1, 5], [10, 10, 12, 10, 12, 14]]
    found = one(
        tmp_path,
        [
            thing(1, 7, [0, 0, 0, 9], segmentation=[[0, 0, 1, 0, 1, 1]]),
            thing(2, 7, [], segmentation=rings),
            thing(3, 7, [20, 20, 5, 5], segmentation=[]),
            thing(4, 7, [20, 20, 5, 6], segmentation=[[20, 20, 25, 20], [20, 20, 25, 20, 25, 26]]),
        ],
    )
    targets = found.parts["all"].targets(0)
    assert targets.boxes.tolist() == [[1, 1, 12, 14], [20, 20, 25, 25], [20, 20, 25, 26]]
    assert targets.rings is not None
    assert [[ring.reshape(-1).tolist() for ring in item] for item in targets.rings] == [
        rings,
        [],
        [[20, 20, 25, 20, 25, 26]],
    ]
    assert targets.area.tolist() == [20, 25, 15]
    assert any("1 outline without three points" in line for line in found.notes)


@pytest.mark.parametrize("packed", [True, False])
def test_a_mask_becomes_the_polygon_around_its_pixels(tmp_path: Path, packed: bool) -> None:
    mask = np.zeros((30, 40), np.uint8)
    mask[3:9, 5:12] = 1
    runs = [5 * 30 + 3] + [6, 24] * 6 + [6]
    encoded: dict[str, Any] = {"size": [30, 40], "counts": [*runs, 1200 - sum(runs)]}
    if packed:
        encoded = coco_mask.encode(np.asfortranarray(mask))
        encoded["counts"] = encoded["counts"].decode()
    targets = one(tmp_path, [thing(1, 7, [5, 3, 7, 6], segmentation=encoded)]).parts["all"].targets(0)
    assert targets.rings is not None
    (ring,) = targets.rings[0]
    assert sorted(map(tuple, ring.tolist())) == [(5, 3), (5, 9), (12, 3), (12, 9)]
    assert targets.area.tolist() == [42]


@pytest.mark.parametrize(
    "damage",
    [
        {"size": [30, 40], "counts": "zzz"},
        {"size": [30, 40], "counts": [5, -1]},
        {"size": [3, 4], "counts": [12]},
        {"counts": [1200]},
        "what",
    ],
)
def test_a_damaged_mask_leaves_the_box(tmp_path: Path, damage: object) -> None:
    found = one(tmp_path, [thing(1, 7, [5, 3, 7, 6], segmentation=damage)])
    assert found.parts["all"].boxes.tolist() == [[5, 3, 12, 9]]
    assert "annotation 1" in found.notes[0]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"images": [\n{"categories" 1}]}', "line 2 column 15"),
        ("", "is no JSON"),
        ("[]", "holds a list"),
        ('{"images": [], "categories": {}}', "categories must be a list"),
        ('{"images": [], "categories": []}', "list of categories is empty"),
        ('{"images": [], "categories": [{"id": "1", "name": "x"}]}', "category 0 needs"),
        ('{"images": [], "categories": [{"id": 1, "name": "x"}, {"id": 1, "name": "y"}]}', "same id 1"),
        ('{"images": [], "categories": [{"id": 1, "name": "x"}, {"id": 2, "name": "x"}]}', "named x"),
        ('{"images": [], "categories": [{"id": 1, "name": "x"}]}', "no image is left"),
    ],
)
def test_a_file_that_is_no_coco_is_an_error_of_one_line(tmp_path: Path, content: str, words: str) -> None:
    text(tmp_path / "_annotations.coco.json", content)
    with pytest.raises(DataError, match=words) as error:
        read_parts(tmp_path)
    assert "\n" not in str(error.value)


def test_no_image_at_all_is_an_error_that_tells_why(tmp_path: Path) -> None:
    coco(tmp_path / "x.json", [entry(1, "gone.png")], [])
    with pytest.raises(DataError, match=r"no image is left.*gone\.png"):
        read_parts(tmp_path)


def test_a_category_that_only_groups_others_is_no_class(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    text(
        tmp_path / "_annotations.coco.json",
        '{"images": [{"id": 0, "file_name": "a.png"}], "categories": ['
        '{"id": 0, "name": "cells", "supercategory": "none"}, {"id": 1, "name": "RBC", "supercategory": "cells"}],'
        '"annotations": [{"id": 0, "image_id": 0, "category_id": 1, "bbox": [1, 1, 5, 5]}]}',
    )
    found = read_parts(tmp_path)
    assert (found.classes, found.category_ids) == (["RBC"], [1])
    assert found.parts["all"].labels.tolist() == [0]
    assert "cells" in found.notes[0]
