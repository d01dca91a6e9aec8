"""What is taken for what."""

import numpy as np
from scored_sets import found_rows, image_set

from tasks.detection.confusion import confusion_matrix


def test_pairs_misses_and_false_alarms_are_counted_in_their_places():
    truth = image_set(
        [[[0, 0, 20, 20, 0, 0], [50, 0, 70, 20, 1, 0], [100, 0, 120, 20, 1, 0]], [[0, 0, 9, 9, 0, 0]]]
    )
    found = [
        found_rows(
            [
                [0, 0, 20, 20, 0, 0.9],  # right
                [50, 0, 70, 21, 0, 0.8],  # a 1 taken for a 0
                [150, 100, 170, 120, 1, 0.7],  # nothing there
                [100, 0, 120, 20, 1, 0.2],  # not sure enough
            ]
        ),
        found_rows([]),
    ]
    expected = [[1, 0, 1], [1, 0, 1], [0, 1, 0]]
    np.testing.assert_array_equal(confusion_matrix(truth, found, 2, 0.3), expected)


def test_the_box_that_overlaps_most_is_taken_and_then_the_right_class():
    truth = image_set([[[0, 0, 20, 20, 0, 0]]])
    twice = [found_rows([[0, 0, 20, 20, 1, 0.9], [0, 0, 20, 20, 0, 0.5]])]
    np.testing.assert_array_equal(confusion_matrix(truth, twice, 2, 0.3), [[1, 0, 0], [0, 0, 0], [0, 1, 0]])
    better = [found_rows([[0, 0, 20, 20, 1, 0.5], [0, 0, 20, 15, 0, 0.9]])]
    np.testing.assert_array_equal(confusion_matrix(truth, better, 2, 0.3), [[0, 1, 0], [0, 0, 0], [1, 0, 0]])


def test_crowds_and_boxes_in_them_are_not_counted():
    truth = image_set([[[0, 0, 100, 100, 0, 1]]])
    found = [found_rows([[10, 10, 30, 30, 0, 0.9], [50, 50, 70, 70, 1, 0.9], [150, 0, 170, 20, 0, 0.9]])]
    np.testing.assert_array_equal(confusion_matrix(truth, found, 2, 0.3), [[0, 0, 0], [0, 0, 0], [1, 0, 0]])
