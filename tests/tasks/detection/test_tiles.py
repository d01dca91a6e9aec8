"""Large images in parts."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from tasks.detection.postprocess import Limits
from tasks.detection.results import Detections
from tasks.detection.rle import decode, encode
from tasks.detection.tiles import merge, parts_of

WHOLE, LEFT, RIGHT = (0, 0, 180, 100), (0, 0, 100, 100), (80, 0, 180, 100)
SIZE = (100, 180)


def found(*rows):
    values = np.array(rows, np.float32).reshape(-1, 6)
    return Detections(values[:, :4], values[:, 4], values[:, 5].astype(np.int64))


@pytest.mark.parametrize("size", [(1000, 700), (641, 640), (90, 2000), (640, 1279)])
@pytest.mark.parametrize("overlap", [0.0, 0.2, 0.5])
def test_tiles_cover_the_image_and_repeat_enough(size, overlap):
    whole, *tiles = parts_of(size, 640, overlap)
    assert whole == (0, 0, size[1], size[0])
    seen = np.zeros(size, int)
    for left, top, right, bottom in tiles:
        assert (right - left, bottom - top) == (min(640, size[1]), min(640, size[0]))
        seen[top:bottom, left:right] += 1
    assert seen.min() == 1
    for axis in (0, 1):
        starts = sorted({tile[axis] for tile in tiles})
        assert all(b - a <= 640 * (1 - overlap) + 1 for a, b in itertools.pairwise(starts))


def test_an_image_no_larger_than_a_tile_is_searched_once():
    assert parts_of((640, 500), 640, 0.2) == [(0, 0, 500, 640)]
    assert parts_of((3000, 5000), 0, 0.2) == [(0, 0, 5000, 3000)]


def test_boxes_move_to_their_place_and_what_two_tiles_see_is_one():
    parts = [
        found(),
        found([85, 10, 95, 20, 0.8, 0]),
        found([5, 10, 15, 20, 0.9, 0], [60, 50, 70, 60, 0.5, 1]),
    ]
    merged = merge(parts, [WHOLE, LEFT, RIGHT], SIZE, Limits())
    np.testing.assert_allclose(merged.boxes, [[85, 10, 95, 20], [140, 50, 150, 60]])
    np.testing.assert_allclose(merged.scores, [0.9, 0.5])
    assert merged.labels.tolist() == [0, 1]


def test_a_piece_goes_where_another_tile_holds_the_whole_object_though_its_score_is_higher():
    # An object from 90 to 130: the left tile sees a quarter of it.
    parts = [found(), found([90, 10, 100, 50, 0.95, 0]), found([10, 10, 50, 50, 0.7, 0])]
    merged = merge(parts, [WHOLE, LEFT, RIGHT], SIZE, Limits())
    np.testing.assert_allclose(merged.boxes, [[90, 10, 130, 50]])


def test_a_piece_goes_where_the_whole_image_holds_the_object():
    parts = [
        found([60, 10, 130, 50, 0.4, 0]),
        found([60, 10, 100, 50, 0.9, 0]),
        found([0, 10, 50, 50, 0.9, 0]),
    ]
    merged = merge(parts, [WHOLE, LEFT, RIGHT], SIZE, Limits())
    np.testing.assert_allclose(merged.boxes, [[60, 10, 130, 50]])


def test_a_small_object_inside_a_large_one_stays_when_no_border_cuts_it():
    parts = [found([60, 10, 130, 90, 0.9, 0]), found([70, 20, 80, 30, 0.8, 0]), found()]
    assert len(merge(parts, [WHOLE, LEFT, RIGHT], SIZE, Limits())) == 2


def test_a_piece_stays_when_the_whole_is_of_another_class_or_nowhere():
    piece = found([90, 10, 100, 50, 0.9, 0])
    other = found([10, 10, 50, 50, 0.7, 1])
    assert len(merge([found(), piece, other], [WHOLE, LEFT, RIGHT], SIZE, Limits())) == 2
    assert len(merge([found(), piece, other], [WHOLE, LEFT, RIGHT], SIZE, Limits(agnostic=True))) == 1
    assert len(merge([found(), piece, found()], [WHOLE, LEFT, RIGHT], SIZE, Limits())) == 1


def test_a_box_at_the_border_of_the_image_is_no_piece():
    # It lies in a larger uncut one, and touches the left side of the image alone.
    parts = [found([0, 0, 60, 60, 0.9, 0]), found([0, 10, 20, 30, 0.8, 0]), found()]
    assert len(merge(parts, [WHOLE, LEFT, RIGHT], SIZE, Limits())) == 2


def test_masks_move_with_their_boxes():
    mask = np.zeros((100, 100), bool)
    mask[50:60, 60:70] = True
    right = Detections(np.float32([[60, 50, 70, 60]]), np.float32([0.9]), np.array([0]), [encode(mask)])
    none = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64), [])
    merged = merge([none, none, right], [WHOLE, LEFT, RIGHT], SIZE, Limits())
    assert merged.masks is not None
    inside = decode(merged.masks[0])
    assert inside.shape == SIZE
    assert inside.sum() == 100
    assert inside[50:60, 140:150].all()


def test_no_more_than_asked_for_are_left():
    parts = [found(*([i * 12, 0, i * 12 + 10, 10, 0.5 + i / 100, 0] for i in range(10)))]
    merged = merge(parts, [WHOLE], SIZE, Limits(max_detections=3))
    np.testing.assert_allclose(merged.scores, [0.59, 0.58, 0.57], rtol=1e-6)
