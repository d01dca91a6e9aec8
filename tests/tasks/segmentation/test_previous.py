"""Changes of a coarser segmentation against scipy's morphology and by hand."""

import numpy as np
import pytest
from scipy import ndimage

from tasks.segmentation.previous import change_shape, remove_component


def maps_of(labels, classes=2):
    return np.stack([labels == k for k in range(1, classes + 1)])


def ball(radius):
    grid = np.indices((2 * radius + 1,) * 3) - radius
    return (grid**2).sum(0) <= radius**2


class Chosen:
    """A generator that draws what it is told."""

    def __init__(self, *values):
        self.values = list(values)

    def permutation(self, n):
        return np.arange(n)

    def integers(self, *_):
        return self.values.pop(0)

    def choice(self, values):
        return values[self.values.pop(0)]


@pytest.mark.parametrize(
    ("operation", "peer"),
    [(0, "binary_dilation"), (1, "binary_erosion"), (2, "binary_closing"), (3, "binary_opening")],
)
def test_morphology_equals_scipy_with_a_ball(operation, peer):
    inner = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(20, 20, 20)), 2) > 0.05
    mask = np.pad(inner, 8)
    maps = mask[None].copy()
    change_shape(maps, Chosen(2, operation))
    assert np.array_equal(maps[0], getattr(ndimage, peer)(mask, ball(2))) and (maps[0] != mask).any()


def test_what_a_class_gains_the_others_lose():
    labels = np.zeros((1, 9, 9), np.int16)
    labels[0, 2:7, 2:4], labels[0, 2:7, 4:7] = 1, 2
    maps = maps_of(labels)
    change_shape(maps, Chosen(1, 0, 1, 1))
    first = ndimage.binary_dilation(labels == 1, ball(1)[1:2])
    rest = (labels == 2) & ~first
    assert np.array_equal(maps[0], first)
    assert np.array_equal(maps[1], ndimage.distance_transform_edt(rest) > 1)
    assert not (maps[0] & maps[1]).any()


def test_a_small_component_is_removed_and_a_large_one_kept():
    labels = np.zeros((10, 10), np.int16)
    labels[0:4, 0:5], labels[6, 6], labels[8, 8:10] = 1, 1, 1
    maps = maps_of(labels, 1)
    remove_component(maps, Chosen(1))
    assert maps.sum() == 21 and not maps[0, 8].any()
    remove_component(maps, Chosen(0))
    remove_component(maps, Chosen())
    assert maps.sum() == 20 and maps[0, :4, :5].all()
