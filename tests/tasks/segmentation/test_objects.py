"""Objects to edge and core, and back."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from tasks.segmentation.objects import objects_to_classes, split_objects


def discs(*circles, shape=(60, 80)):
    """Numbered discs (row, column, radius); later ones lie below earlier ones."""
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    numbers = np.zeros(shape, np.int32)
    for number, (row, column, radius) in reversed(list(enumerate(circles, 1))):
        numbers[(rows - row) ** 2 + (columns - column) ** 2 <= radius**2] = number
    return numbers[None]


def overlap(a, b):
    return (a & b).sum() / (a | b).sum()


def ideal(classes):
    return (classes > 0).astype(np.float32), (classes == 2).astype(np.float32)


def test_edge_and_core_by_hand():
    numbers = np.array(
        [[[0, 0, 0, 0, 0, 0, 0], [0, 5, 5, 5, 9, 9, 9], [0, 5, 5, 5, 9, 9, 9], [0, 5, 5, 5, 9, 9, 9]]]
    )
    expected = [[0, 0, 0, 0, 0, 0, 0], [0, 1, 1, 1, 1, 1, 1], [0, 1, 2, 1, 1, 2, 2], [0, 1, 2, 1, 1, 2, 2]]
    result = objects_to_classes(numbers)
    assert result.dtype == np.int16
    # An object goes on behind the border of the image.
    np.testing.assert_array_equal(result[0], expected)


def test_slices_do_not_erode_each_other():
    numbers = np.zeros((3, 5, 5), np.int32)
    numbers[1, 1:4, 1:4] = 1
    assert (objects_to_classes(numbers) == 2).sum() == 1


def test_touching_discs_come_back():
    numbers = discs((20, 20, 10), (20, 36, 10), (33, 28, 9), (50, 70, 8), (0, 60, 7))
    touching = objects_to_classes(ndimage.label(numbers)[0])
    assert split_objects(*ideal(touching)).max() == 3, "without numbers three discs would be one"
    result = split_objects(*ideal(objects_to_classes(numbers)))
    assert result.dtype == np.int32
    assert result.max() == 5
    np.testing.assert_array_equal(result > 0, numbers > 0)
    for number in range(1, 6):
        assert max(overlap(numbers == number, result == other) for other in range(1, 6)) > 0.9


def test_small_cores_are_dropped_and_numbers_have_no_gaps():
    core = np.zeros((1, 20, 60), np.float32)
    core[0, 5:8, 5] = 1  # three pixels
    core[0, 5:7, 25:27] = 1
    core[0, 5:9, 45:47] = 1
    inside = np.zeros_like(core)
    for column in (2, 22, 42):
        inside[0, 2:12, column : column + 10] = 0.9
    result = split_objects(inside, core)
    assert set(np.unique(result)) == {0, 1, 2}
    assert (result[0, :, :20] == 0).all()
    assert (result[0, 2:12, 22:32] == 1).all() and (result[0, 2:12, 42:52] == 2).all()
    assert set(np.unique(split_objects(inside, core, least=5))) == {0, 1}
    assert set(np.unique(split_objects(inside, core, least=1))) == {0, 1, 2, 3}


def test_the_border_lies_where_the_object_is_least_likely():
    inside = np.full((1, 9, 30), 0.95, np.float32)
    inside[0, :, 11] = 0.6
    core = np.zeros_like(inside)
    core[0, 3:6, 2:6] = core[0, 3:6, 20:25] = 1
    result = split_objects(inside, core)
    assert (result[0, :, :11] == 1).all() and (result[0, :, 12:] == 2).all()


def test_nothing_gives_nothing():
    nothing = np.zeros((1, 8, 8), np.float32)
    assert split_objects(nothing, nothing).max() == 0
    core = np.ones_like(nothing)
    assert split_objects(nothing, core).max() == 0, "a core outside of every object is none"
