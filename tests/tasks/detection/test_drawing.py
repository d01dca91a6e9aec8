"""Pictures with boxes."""

from __future__ import annotations

import numpy as np

from tasks.detection.data.dataset import Targets
from tasks.detection.drawing import colour_of, draw
from tasks.detection.results import Detections
from tasks.detection.rle import area, decode, encode, moved

CLASSES = ["cat", "Ångström"]
GRAY = np.full((120, 200, 3), 128, np.uint8)


def found(*boxes, labels=(0,), masks=None):
    return Detections(
        np.float32(boxes), np.full(len(boxes), 0.9, np.float32), np.array(labels, np.int64), masks
    )


def test_a_box_has_the_colour_of_its_class_at_its_border_and_nothing_inside():
    picture = draw(GRAY, found([50, 40, 100, 90]), CLASSES)
    assert (GRAY == 128).all()
    for row, column in ((60, 50), (60, 99), (40, 70), (89, 70)):
        assert tuple(picture[row, column]) == colour_of(0)
    assert (picture[45:85, 55:95] == 128).all()
    assert (picture[95:] == 128).all()


def test_the_label_lies_above_the_box_and_inside_the_picture():
    above = draw(GRAY, found([50, 40, 100, 90]), CLASSES)
    assert (above[25:39, 50:100] != 128).any()
    at_the_corner = draw(GRAY, found([190, 0, 200, 40], labels=(1,)), CLASSES)
    assert (at_the_corner[2:12, 140:180] != 128).any()


def test_letters_beyond_english_ones_are_drawn():
    pictures = [draw(GRAY, found([20, 60, 180, 110]), [name]) for name in ("ß", "Ж", "\uffff")]
    assert not any((pictures[i] == pictures[j]).all() for i, j in ((0, 1), (0, 2), (1, 2)))


def test_true_boxes_are_white_and_crowds_are_not_drawn():
    boxes = np.float32([[50, 40, 100, 90], [120, 40, 150, 90]])
    truth = Targets(boxes, np.zeros(2, np.int64), np.array([False, True]), np.ones(2, np.float32))
    picture = draw(GRAY, None, CLASSES, truth)
    assert tuple(picture[60, 50]) == (255, 255, 255)
    assert (picture[:, 110:] == 128).all()


def test_masks_tint_their_pixels_alone():
    mask = np.zeros((120, 200), bool)
    mask[60:70, 60:70] = True
    picture = draw(GRAY, found([50, 40, 100, 90], masks=[encode(mask)]), CLASSES)
    tint = np.array(colour_of(0)) * 0.4 + 128 * 0.6
    np.testing.assert_allclose(picture[60:70, 60:70].reshape(-1, 3), tint[None].repeat(100, 0), atol=1)
    assert (picture[72:85, 72:95] == 128).all()


def test_colours_of_twenty_classes_differ():
    colours = np.array([colour_of(label) for label in range(20)])
    distances = np.abs(colours[:, None] - colours).sum(2) + 1000 * np.eye(20)
    assert distances.min() > 30


def test_run_lengths_hold_any_mask():
    mask = np.random.default_rng(0).random((37, 23)) > 0.6
    runs = encode(mask)
    assert runs["size"] == [37, 23]
    assert isinstance(runs["counts"], str)
    np.testing.assert_array_equal(decode(runs), mask)
    assert area(runs) == mask.sum()
    whole = decode(moved(runs, 5, 7, (60, 50)))
    np.testing.assert_array_equal(whole[7:44, 5:28], mask)
    assert whole.sum() == mask.sum()
