from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageOps
from small_sets import coco, entry, picture, text, thing

from tasks.detection.data import annotations
from tasks.detection.data.annotations import AnnotationBuilder
from tasks.detection.data.dataset import ImageSet
from tasks.detection.data.headers import Header, read_header, turn_points
from tasks.detection.data.notes import Notes
from tasks.detection.data.outlines import mask_rings
from tasks.detection.data.read import read_parts


@pytest.mark.parametrize("orientation", range(1, 9))
def test_points_turn_as_the_image_does(orientation: int) -> None:
    stored = np.zeros((5, 7), np.uint8)
    stored[1, 2] = 255
    image = Image.fromarray(stored)
    image.getexif()[274] = orientation
    row, column = np.argwhere(np.asarray(ImageOps.exif_transpose(image)))[0]
    (turned,) = turn_points(np.array([[2.5, 1.5]]), Header(7, 5, orientation))
    assert turned.tolist() == [column + 0.5, row + 0.5]


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_boxes_drawn_on_the_stored_image_turn_with_it(tmp_path: Path, orientation: int) -> None:
    picture(tmp_path / "a.jpg", 40, 30, orientation)
    square = [1, 2, 11, 2, 11, 7, 1, 7]
    item = thing(1, 1, [1, 2, 10, 5], segmentation=[square])
    coco(tmp_path / "x.json", [entry(1, "a.jpg", 40, 30)], [item, thing(2, 1, [9, 9, -2, 3])])
    found = read_parts(tmp_path)
    part = found.parts["all"]
    assert part.sizes.tolist() == [[30, 40]]
    expected = {5: [2, 1, 7, 11], 6: [23, 1, 28, 11], 7: [23, 29, 28, 39], 8: [2, 29, 7, 39]}[orientation]
    assert part.boxes.tolist() == [expected]
    rings = part.targets(0).rings
    assert rings is not None
    assert [*rings[0][0].min(0), *rings[0][0].max(0)] == expected
    assert "boxes turned with it" in found.notes[0]


def turned_set(folder: Path, count: int) -> ImageSet:
    """Reads images of all orientations and many sizes, whose rows are mixed in the file."""
    images, rows = [], []
    for i in range(count):
        width, height = 40 + i, 20 + 3 * i % 17
        picture(folder / f"{i:02}.jpg", width, height, 1 + i % 8)
        images.append(entry(i, f"{i:02}.jpg", width, height))
    for k in range(3 * count):
        left, top, right, bottom = 1 + k % 5, 2 + k % 3, 12 + k % 7, 9 + k % 4
        outline = [left, top, right, top, left + 1, bottom]
        box = [left, top, right - left, bottom - top]
        rows.append(thing(k, (7 * k) % count, box, segmentation=[outline]))
    coco(folder / "x.json", images, rows)
    return read_parts(folder).parts["all"]


def test_images_of_all_turns_and_sizes_are_turned_each_by_its_own(tmp_path: Path) -> None:
    count = 16
    part = turned_set(tmp_path, count)
    for i in range(count):
        # Codes 2 to 4 leave the sides as they are, so that such boxes are taken as drawn on the upright image.
        header = Header(40 + i, 20 + 3 * i % 17, 1 + i % 8 if i % 8 >= 4 else 1)
        expected, outlines = [], []
        for k in range(3 * count):
            if (7 * k) % count == i:
                left, top, right, bottom = 1 + k % 5, 2 + k % 3, 12 + k % 7, 9 + k % 4
                corners = turn_points(np.array([[left, top], [right, bottom]]), header)
                expected.append([*corners.min(0), *corners.max(0)])
                ring = np.array([[left, top], [right, top], [left + 1, bottom]])
                outlines.append(turn_points(ring, header).tolist())
        targets = part.targets(i)
        assert tuple(part.sizes[i]) == header.upright and len(expected) == 3
        assert targets.boxes.tolist() == expected
        assert targets.rings is not None
        assert [rings[0].tolist() for rings in targets.rings] == outlines


def test_turning_passes_over_the_rows_once_an_orientation_not_once_an_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def counted(points: np.ndarray, header: Header) -> np.ndarray:
        calls.append(len(points))
        return turn_points(points, header)

    monkeypatch.setattr(annotations, "turn_points", counted)
    turned_set(tmp_path / "few", 8)
    few = len(calls)
    turned_set(tmp_path / "many", 24)
    assert 0 < few == len(calls) - few


def test_boxes_drawn_on_the_upright_image_stay(tmp_path: Path) -> None:
    picture(tmp_path / "a.jpg", 40, 30, 6)
    coco(tmp_path / "x.json", [entry(1, "a.jpg", 30, 40)], [thing(1, 1, [1, 2, 10, 35])])
    found = read_parts(tmp_path)
    assert found.parts["all"].boxes.tolist() == [[1, 2, 11, 37]]
    assert "taken as drawn on the upright image" in found.notes[0]


def test_headers_of_all_kinds_of_files(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((3, 5, 3), np.float32))
    tifffile.imwrite(tmp_path / "b.tif", np.zeros((3, 5, 3), np.uint16), photometric="rgb")
    tag = (274, 3, 1, 6, False)
    tifffile.imwrite(tmp_path / "t.tif", np.zeros((3, 5), np.uint8), extratags=[tag])
    Image.fromarray(np.zeros((3, 5), np.uint16)).save(tmp_path / "c.png")
    Image.fromarray(np.zeros((3, 5, 4), np.uint8)).save(tmp_path / "d.png")
    for name in ("a.npy", "b.tif", "c.png", "d.png"):
        assert read_header(tmp_path / name) == Header(5, 3, 1)
    turned = read_header(tmp_path / "t.tif")
    assert turned == Header(5, 3, 6)
    assert turned.upright == (3, 5)
    (tmp_path / "cut.png").write_bytes((tmp_path / "d.png").read_bytes()[:20])
    (tmp_path / "empty.png").touch()
    text(tmp_path / "no.png", "text")
    for name in ("cut.png", "empty.png", "no.png", "gone.png"):
        assert read_header(tmp_path / name) is None


def test_rows_come_in_the_order_of_the_images_whatever_the_order_of_the_file(tmp_path: Path) -> None:
    notes = Notes()
    builder = AnnotationBuilder("line", notes)
    for name in "abc":
        builder.image(picture(tmp_path / f"{name}.png"), f"{name}.txt")
    shapes = {k: [np.full((3 + k, 2), k, np.float32)] * (k % 3) for k in range(6)}
    for k, image in enumerate([2, 0, 2, 0, 2, 0]):
        builder.add(image, k, [k, 0, k + 1, 1], k, rings=shapes[k])
    part = builder.build(tmp_path, True)
    assert part.start.tolist() == [0, 3, 3, 6]
    assert part.labels.tolist() == [1, 3, 5, 0, 2, 4]
    assert part.polygons is not None
    for position, k in enumerate(part.labels):
        assert [ring.tolist() for ring in part.polygons.of(position)] == [
            ring.tolist() for ring in shapes[int(k)]
        ]
    assert notes.lines() == []


def test_a_mask_with_two_parts_has_two_rings_and_a_pixel_is_a_square() -> None:
    mask = np.zeros((6, 9), np.uint8)
    mask[0, 0] = 1
    mask[2:5, 4:9] = 1
    mask[3, 6] = 0
    rings = [sorted(map(tuple, ring.tolist())) for ring in mask_rings(mask)]
    assert sorted(rings) == [
        [(0, 0), (0, 1), (1, 0), (1, 1)],
        [(4, 2), (4, 5), (9, 2), (9, 5)],
    ]
    assert mask_rings(np.zeros((3, 3), np.uint8)) == []


def test_notes_count_by_kind_and_name_the_first() -> None:
    notes = Notes()
    notes.add("box", "cut", "a line 1")
    notes.add("category", "twice", "b")
    notes.add("box", "cut", "a line 2", 1200)
    assert notes.lines() == ["1,201 boxes cut (first: a line 1)", "1 category twice (first: b)"]
