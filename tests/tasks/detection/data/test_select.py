"""Some of the images, some of the objects: the rest stays what it was."""

import numpy as np
import pytest
from made_sets import image_set

from tasks.detection.data.select import relabel, subset

SQUARE = [(0, 0), (4, 0), (4, 4), (0, 4)]
TRIANGLE = [(1, 1), (9, 1), (5, 7)]


@pytest.fixture
def images(tmp_path):
    return image_set(
        tmp_path,
        {
            "a.png": [(0, (0, 0, 4, 4), [SQUARE]), (1, (1, 1, 9, 7), [TRIANGLE, SQUARE])],
            "empty.png": [],
            "b.png": [(2, (5, 6, 20, 30)), (0, (0, 0, 9, 7), [TRIANGLE], True)],
        },
        write=False,
    )


def same(a, b):
    assert np.array_equal(a.boxes, b.boxes) and np.array_equal(a.labels, b.labels)
    assert np.array_equal(a.crowd, b.crowd) and np.array_equal(a.area, b.area)
    assert [[ring.tolist() for ring in rings] for rings in a.rings] == [
        [ring.tolist() for ring in rings] for rings in b.rings
    ]


def test_chosen_images_keep_their_objects_in_any_order(images):
    chosen = subset(images, [2, 0, 1])
    assert chosen.names.tolist() == ["b.png", "a.png", "empty.png"]
    assert chosen.ids.tolist() == [3, 1, 2] and len(chosen.sizes) == 3
    for new, old in enumerate([2, 0, 1]):
        same(chosen.targets(new), images.targets(old))


def test_no_image_is_a_set_too(images):
    none = subset(images, [])
    assert len(none) == 0 and none.start.tolist() == [0]
    assert none.boxes.shape == (0, 4) and none.polygons.objects.tolist() == [0]


def test_objects_of_other_classes_go_and_their_images_stay(images):
    chosen = relabel(images, np.array([1, -1, 0]))
    assert chosen.start.tolist() == [0, 1, 1, 3]
    assert chosen.labels.tolist() == [1, 0, 1] and chosen.crowd.tolist() == [False, False, True]
    assert chosen.boxes[:, 2].tolist() == [4, 20, 9]
    assert [len(rings) for rings in chosen.targets(2).rings] == [0, 1]
    assert chosen.targets(2).rings[1][0].tolist() == [list(map(float, point)) for point in TRIANGLE]
    assert chosen.names is images.names


def test_sets_without_outlines_stay_without(tmp_path):
    images = image_set(tmp_path, {"a.png": [(0, (0, 0, 4, 4))]}, write=False)
    assert subset(images, [0]).polygons is None and relabel(images, np.array([0])).polygons is None
