"""Largest components, and when they are kept."""

from __future__ import annotations

import json

import numpy as np

from core.config import to_dict
from tasks.segmentation.labels import IGNORE, Labels, object_labels
from tasks.segmentation.postprocess import Postprocessing, choose_postprocessing

LABELS = Labels(("background", "kidney", "cyst"), (0, 1, 2))
REGIONS = Labels(
    ("background", "edema", "core"), (0, 1, 2), None, (("tumour", (1, 2)), ("core", (2,))), (1, 2)
)


def drawn(*boxes, shape=(1, 8, 40)):
    """Boxes (class, first column, last column) over the full height but its borders."""
    labels = np.zeros(shape, np.int16)
    for value, first, last in boxes:
        labels[:, 2:6, first:last] = value
    return labels


def test_only_the_largest_component_of_all_foreground_is_kept():
    labels = drawn((1, 0, 8), (2, 8, 12), (1, 20, 25), (2, 30, 31))
    before = labels.copy()
    result = Postprocessing(all_foreground=True).apply(labels)
    np.testing.assert_array_equal(result, drawn((1, 0, 8), (2, 8, 12)))
    assert result.dtype == np.int16
    np.testing.assert_array_equal(labels, before)


def test_only_the_largest_component_of_a_class_is_kept():
    labels = drawn((1, 0, 8), (2, 8, 12), (1, 20, 25), (2, 30, 31))
    result = Postprocessing(classes=((1,),)).apply(labels)
    np.testing.assert_array_equal(result, drawn((1, 0, 8), (2, 8, 12), (2, 30, 31)))
    both = Postprocessing(classes=((1,), (2,))).apply(labels)
    np.testing.assert_array_equal(both, drawn((1, 0, 8), (2, 8, 12)))


def test_corners_connect_in_volumes():
    labels = np.zeros((3, 4, 4), np.int16)
    labels[0, 0, 0] = labels[1, 1, 1] = labels[2, 2, 2] = 1
    np.testing.assert_array_equal(Postprocessing(all_foreground=True).apply(labels), labels)
    labels[0, 0, 3] = 1
    assert Postprocessing(all_foreground=True).apply(labels).sum() == 3


def test_an_empty_map_stays_empty():
    chosen = Postprocessing(True, ((1,),))
    np.testing.assert_array_equal(chosen.apply(drawn()), drawn())


def test_stored_and_read_again():
    chosen = Postprocessing(True, ((1, 2), (2,)))
    for stored in (chosen.to_dict(), to_dict(chosen)):
        assert Postprocessing.from_dict(json.loads(json.dumps(stored))) == chosen


def test_all_foreground_is_taken_where_it_helps_all():
    truth = drawn((1, 0, 8), (2, 8, 12))
    prediction = drawn((1, 0, 8), (2, 8, 12), (1, 20, 22))
    chosen, why = choose_postprocessing([(prediction, truth), (truth, truth)], LABELS)
    assert chosen == Postprocessing(True, ())
    # Case one: class 1 has 32 of 40 right, 2 * 32 / 72; class 2 is perfect.
    assert why[0] == "largest component of all foreground: mean Dice 0.9722 -> 1.0000, taken"
    assert len(why) == 3


def test_all_foreground_is_not_taken_where_a_class_gets_worse():
    kidney = drawn((1, 0, 8))
    scattered = drawn((1, 0, 8), (1, 10, 17), (1, 20, 27), (1, 30, 37))
    apart = drawn((1, 0, 8), (2, 8, 12), (2, 20, 21))
    chosen, why = choose_postprocessing([*[(scattered, kidney)] * 3, (apart, apart)], LABELS)
    # kidney: (3 * 16 / 37 + 1) / 4 -> 1; cyst: 1 -> 8 / 9
    assert why[0] == (
        "largest component of all foreground: mean Dice 0.7872 -> 0.9444, but cyst gets worse, not taken"
    )
    assert why[1:] == [
        "largest component of kidney: Dice 0.5743 -> 1.0000, taken",
        "largest component of cyst: Dice 1.0000 -> 0.8889, not taken",
    ]
    assert chosen == Postprocessing(False, ((1,),))


def test_all_foreground_is_not_taken_where_the_mean_falls():
    truth = drawn((1, 0, 8), (2, 20, 22))
    chosen, why = choose_postprocessing([(truth, truth)], LABELS)
    assert chosen == Postprocessing()
    assert why[0] == "largest component of all foreground: mean Dice 1.0000 -> 0.5000, not taken"


def test_one_class_is_decided_once():
    labels = Labels(("background", "heart"), (0, 1))
    prediction, truth = drawn((1, 0, 8), (1, 20, 22)), drawn((1, 0, 8))
    chosen, why = choose_postprocessing([(prediction, truth)], labels)
    assert chosen == Postprocessing(True, ())
    assert len(why) == 1
    assert choose_postprocessing([(truth, truth)], labels)[0] == Postprocessing()


def test_what_is_ignored_and_what_is_nowhere_counts_for_nothing():
    truth = drawn((1, 0, 8), (IGNORE, 20, 22))
    prediction = drawn((1, 0, 8), (1, 20, 22))
    chosen, why = choose_postprocessing([(prediction, truth)], LABELS)
    assert chosen == Postprocessing()
    assert "1.0000 -> 1.0000" in why[0]
    assert choose_postprocessing([(drawn(), drawn())], LABELS)[0] == Postprocessing()
    assert choose_postprocessing([], LABELS)[0] == Postprocessing()


def test_regions_are_decided_one_by_one():
    truth = drawn((1, 0, 8), (2, 8, 12), (1, 20, 26))
    prediction = drawn((1, 0, 8), (2, 8, 12), (1, 20, 26), (2, 23, 24))
    chosen, _ = choose_postprocessing([(prediction, truth)], REGIONS)
    assert chosen == Postprocessing(False, ((2,),))


def test_objects_are_left_alone():
    prediction, truth = drawn((1, 0, 8), (1, 20, 22)), drawn((1, 0, 8))
    assert choose_postprocessing([(prediction, truth)], object_labels())[0] == Postprocessing()
