"""From the boxes of a network to objects."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchvision.ops import batched_nms, nms

from tasks.detection import postprocess
from tasks.detection.postprocess import Limits, overlaps, select, suppress
from tasks.detection.results import Detections

SIZE = (100, 100)


def arrays(boxes, scores):
    return np.array(boxes, np.float32).reshape(-1, 4), np.array(scores, np.float32)


def random_output(seed, places=400, classes=4):
    rng = np.random.default_rng(seed)
    corners = rng.uniform(0, 80, (places, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(1, 40, (places, 2))], 1).astype(np.float32)
    return boxes, rng.random((places, classes), np.float32)


def test_a_box_that_overlaps_a_better_one_of_its_class_goes_and_one_of_another_class_stays():
    boxes, scores = arrays([[0, 0, 10, 10], [0, 0, 10, 9], [0, 0, 10, 9]], [[0.6, 0], [0.9, 0], [0, 0.8]])
    found, places = select(boxes, scores, 1.0, SIZE, Limits())
    assert places.tolist() == [1, 2]
    assert found.labels.tolist() == [0, 1]
    np.testing.assert_allclose(found.scores, [0.9, 0.8])


def test_classes_suppress_each_other_when_asked_to():
    boxes, scores = arrays([[0, 0, 10, 10], [0, 0, 10, 10]], [[0.6, 0], [0, 0.8]])
    found, _ = select(boxes, scores, 1.0, SIZE, Limits(agnostic=True))
    assert found.labels.tolist() == [1]


def test_an_overlap_equal_to_the_limit_stays():
    # Intersection 50, union 100.
    boxes, scores = arrays([[0, 0, 10, 10], [0, 0, 10, 5]], [[0.9], [0.8]])
    assert len(select(boxes, scores, 1.0, SIZE, Limits(iou=0.5))[0]) == 2
    assert len(select(boxes, scores, 1.0, SIZE, Limits(iou=0.49))[0]) == 1


def test_only_scores_above_the_limit_count():
    boxes, scores = arrays([[0, 0, 10, 10], [20, 0, 30, 10]], [[0.5], [0.25]])
    assert len(select(boxes, scores, 1.0, SIZE, Limits(score=0.25))[0]) == 1
    assert len(select(boxes, scores, 1.0, SIZE, Limits(score=0.5))[0]) == 0


def test_one_place_has_one_class_or_with_multi_label_all_that_are_likely():
    boxes, scores = arrays([[0, 0, 10, 10]], [[0.6, 0.9, 0.1]])
    assert select(boxes, scores, 1.0, SIZE, Limits())[0].labels.tolist() == [1]
    found, places = select(boxes, scores, 1.0, SIZE, Limits(multi_label=True))
    assert found.labels.tolist() == [1, 0]
    assert places.tolist() == [0, 0]


def test_boxes_of_classes_that_are_not_asked_for_suppress_nothing_and_get_no_other_class():
    boxes, scores = arrays([[0, 0, 10, 10], [0, 0, 10, 10]], [[0.4, 0.9], [0.8, 0.1]])
    found, places = select(boxes, scores, 1.0, SIZE, Limits(agnostic=True, classes=[0]))
    assert places.tolist() == [1]
    assert found.labels.tolist() == [0]


def test_boxes_are_cut_to_the_image_before_they_are_compared_and_padding_holds_none():
    # An image of 100 x 50 in a square of 50: the lower half is padding.
    boxes, scores = arrays([[-4, 0, 25, 25], [-40, 0, 25, 25], [0, 30, 50, 50]], [[0.9], [0.8], [0.7]])
    found, places = select(boxes, scores, 0.5, (50, 100), Limits())
    assert places.tolist() == [0]
    np.testing.assert_allclose(found.boxes, [[0, 0, 50, 50]])


def test_boxes_without_area_go():
    boxes, scores = arrays([[10, 10, 10, 20], [30, 30, 20, 40], [0, 0, 5, 5]], [[0.9], [0.9], [0.5]])
    assert select(boxes, scores, 1.0, SIZE, Limits())[1].tolist() == [2]


def test_an_image_without_objects_gives_empty_arrays():
    boxes, scores = arrays([[0, 0, 10, 10]], [[0.1, 0.1]])
    found, places = select(boxes, scores, 1.0, SIZE, Limits())
    assert found.boxes.shape == (0, 4)
    assert found.boxes.dtype == np.float32
    assert found.labels.dtype == places.dtype == np.int64


@pytest.mark.parametrize("agnostic", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_suppression_is_that_of_torchvision(seed, agnostic):
    boxes, scores = random_output(seed)
    limits = Limits(score=0.05, iou=0.5, max_detections=10_000, multi_label=True, agnostic=agnostic)
    found, places = select(boxes, scores, 1.0, (200, 200), limits)
    at, labels = np.nonzero(scores > 0.05)
    tensors = [torch.from_numpy(x) for x in (boxes[at], scores[at, labels], labels)]
    kept = nms(*tensors[:2], 0.5) if agnostic else batched_nms(*tensors, 0.5)
    assert len(kept) > 40
    np.testing.assert_array_equal(places, at[kept])
    np.testing.assert_array_equal(found.labels, labels[kept])


def test_the_search_ends_at_the_largest_number():
    boxes, scores = random_output(0)
    whole = select(boxes, scores, 1.0, SIZE, Limits())[1]
    np.testing.assert_array_equal(select(boxes, scores, 1.0, SIZE, Limits(max_detections=7))[1], whole[:7])


def test_only_the_best_candidates_are_compared(monkeypatch):
    monkeypatch.setattr(postprocess, "CANDIDATES", 5)
    boxes, scores = random_output(1)
    places = select(boxes, scores, 1.0, SIZE, Limits(iou=1.0))[1]
    np.testing.assert_array_equal(places, np.argsort(-scores.max(1))[:5])


def test_equal_scores_keep_their_order():
    boxes, scores = arrays([[i * 20, 0, i * 20 + 10, 10] for i in range(4)], [[0.5]] * 4)
    found = Detections(boxes, scores[:, 0], np.zeros(4, np.int64))
    assert suppress(found, Limits()).tolist() == [0, 1, 2, 3]


def test_overlap_of_hand_made_boxes():
    box, others = np.float32([0, 0, 10, 10]), np.float32([[5, 5, 15, 15], [20, 0, 30, 10], [0, 0, 10, 10]])
    np.testing.assert_allclose(overlaps(box, others), [25 / 175, 0, 1], rtol=1e-6)
