"""Average precision of weighted images and its intervals, against COCO's own."""

import numpy as np
import pytest
from scored_sets import found_rows, image_set, random_case

from tasks.detection.coco_eval import evaluate_coco
from tasks.detection.data.select import subset
from tasks.detection.intervals import average_precision, bootstrap
from tasks.detection.matching import match

CLASSES = ["a", "b", "c"]


@pytest.mark.parametrize("seed", range(6))
def test_without_weights_it_is_the_number_of_coco(seed):
    truth, found = random_case(seed)
    result = evaluate_coco(truth, found, CLASSES)
    ours = average_precision(match(truth, found, 3))
    np.testing.assert_allclose(ours, result.precision.mean(1), atol=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_weights_are_copies_of_images(seed):
    truth, found = random_case(seed)
    # Without ties, whose order depends on where the copies stand.
    rng = np.random.default_rng(seed)
    found = [found_rows(np.column_stack([each.boxes, each.labels, rng.random(len(each))])) for each in found]
    weights = rng.integers(0, 4, len(truth))
    copied = np.repeat(np.arange(len(truth)), weights)
    result = evaluate_coco(subset(truth, copied), [found[i] for i in copied], CLASSES)
    ours = average_precision(match(truth, found, 3), weights)
    np.testing.assert_allclose(ours, result.precision.mean(1), atol=1e-9)


def test_more_than_the_most_detections_of_a_class_are_not_looked_at():
    truth = image_set([[[10, 10, 60, 60, 0, 0]]])
    wrong = [[100, 100, 120, 120, 0, 0.9]] * 5
    found = [found_rows([*wrong, [10, 10, 60, 60, 0, 0.1]])]
    assert not match(truth, found, 1, most=5).right.any()
    assert match(truth, found, 1, most=6).right[:, -1].all()


def test_an_object_is_found_once_and_the_box_says_which():
    truth = image_set([[[100, 10, 150, 60, 0, 0], [10, 10, 60, 60, 0, 0]]])
    matches = match(truth, [found_rows([[10, 10, 60, 60, 0, 0.5], [10, 10, 60, 55, 0, 0.9]])], 1)
    assert matches.truth.tolist() == [1, -1]
    assert matches.iou.tolist() == pytest.approx([0.9, 0])
    assert matches.right[0].tolist() == [True, False] and matches.false()[0].tolist() == [False, True]
    # At IoU 0.95 the first one does not fit, and the second does.
    assert matches.right[-1].tolist() == [False, True]


def test_an_interval_covers_the_value_and_is_the_same_every_time():
    truth, found = random_case(0, images=40)
    matches = match(truth, found, 3)
    spans = bootstrap(matches, 200, seed=0)
    stats = evaluate_coco(truth, found, CLASSES).stats
    for name in ("map", "map50"):
        low, high = spans[name]
        assert low < stats[name] < high and 0.01 < high - low < 0.3
    assert spans == bootstrap(matches, 200, seed=0)
    assert spans != bootstrap(matches, 200, seed=1)


def test_images_that_are_all_the_same_have_an_interval_of_no_width():
    rows, answer = [[10, 10, 60, 60, 0, 0], [100, 10, 150, 60, 0, 0]], found_rows([[10, 10, 60, 60, 0, 0.9]])
    matches = match(image_set([rows] * 8), [answer] * 8, 1)
    low, high = bootstrap(matches, 20, seed=0)["map"]
    assert low == high == pytest.approx(51 / 101)


def test_images_without_objects_have_no_interval():
    assert bootstrap(match(image_set([[], []]), [found_rows([])] * 2, 2), 5, seed=0) == {}
