"""Resampling against scikit-image and SciPy, and the way back to the file."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import torch
from scipy import ndimage, special
from skimage.transform import resize

from tasks.segmentation.frame import Frame
from tasks.segmentation.labels import IGNORE, Labels, object_labels
from tasks.segmentation.resample import (
    classify,
    nearest,
    new_shape,
    resample,
    resample_argmax,
    resample_labels,
    resample_probabilities,
    separate_axis,
)

EVEN = (1.0, 1.0, 1.0)
CLASSES = Labels(("background", "liver", "tumour"), (0, 1, 2))


def volume(*shape, seed=0):
    return np.random.default_rng(seed).normal(0, 1, shape).astype(np.float32)


def blobs(shape, seed=0, classes=3):
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(0, 1, shape), 2)
    edges = np.quantile(noise, np.linspace(0, 1, classes + 1)[1:-1])
    return np.digitize(noise, edges).astype(np.int16)


def along(volume, axis, size):
    """The nearest slices along an axis, by all three coordinates."""
    shape = [size if i == axis else n for i, n in enumerate(volume.shape)]
    scale = np.array([old / new for old, new in zip(volume.shape, shape, strict=True)])
    grid = np.mgrid[tuple(slice(0, n) for n in shape)].reshape(3, -1)
    places = scale[:, None] * (grid + 0.5) - 0.5
    return ndimage.map_coordinates(volume, places, order=0, mode="nearest").reshape(shape)


def slice_by_slice(volume, shape, axis, order):
    """Resizes within slices, then takes the nearest of them."""
    moved = np.moveaxis(volume, axis, 0)
    flat = [n for i, n in enumerate(shape) if i != axis]
    planes = [resize(plane, flat, order=order, mode="edge", anti_aliasing=False) for plane in moved]
    return along(np.moveaxis(np.stack(planes), 0, axis), axis, shape[axis])


def frame_of(cropped, new, spacing=EVEN, new_spacing=EVEN, transpose=(0, 1, 2)):
    """A frame whose crop leaves one, two and three voxels out before it."""
    box = tuple((i + 1, i + 1 + n) for i, n in enumerate(cropped))
    whole = [stop + 2 for _, stop in box]
    shape = tuple(whole[transpose.index(axis)] for axis in range(3))
    return Frame(shape, transpose, box, spacing, new_spacing, new)


def test_the_new_shape_covers_the_same_length():
    assert new_shape((24, 40, 33), (3.0, 0.7, 1.0), (1.5, 1.4, 1.0)) == (48, 20, 33)
    assert new_shape((5, 1, 1), (0.5, 0.001, 1.0), (1.0, 1.0, 1.0)) == (2, 1, 1), "half to even, at least one"


@pytest.mark.parametrize(
    ("spacing", "new_spacing", "axis"),
    [
        (EVEN, (2.0, 1.0, 1.0), None),
        ((3.0, 1.0, 1.0), EVEN, None),
        ((3.1, 1.0, 1.0), EVEN, 0),
        ((1.0, 1.0, 5.0), EVEN, 2),
        (EVEN, (1.0, 5.0, 1.0), 1),
        ((5.0, 5.0, 1.0), EVEN, None),
        ((5.0, 1.0, 1.0), (1.0, 1.0, 5.0), 0),
        ((5.0, 5.0, 1.0), (5.0, 1.0, 1.0), None),
    ],
)
def test_which_axis_is_not_interpolated_along(spacing, new_spacing, axis):
    assert separate_axis(spacing, new_spacing) == axis


@pytest.mark.parametrize("shape", [(9, 11, 13), (4, 20, 9), (6, 7, 8)])
def test_images_are_resampled_by_cubic_splines(shape):
    image = volume(2, 6, 14, 9)
    result = resample(image, shape, EVEN, (1.1, 1.0, 1.0), order=3)
    expected = [resize(c.astype(float), shape, order=3, mode="edge", anti_aliasing=False) for c in image]
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, expected, atol=1e-5)


@pytest.mark.parametrize("order", [1, 3])
@pytest.mark.parametrize(
    ("axis", "shape"), [(0, (13, 10, 7)), (0, (2, 10, 20)), (1, (9, 5, 8)), (2, (4, 11, 16))]
)
def test_far_slices_are_repeated_or_left_out(axis, shape, order):
    image = volume(1, 5, 8, 9)
    spacing = [1.0, 1.0, 1.0]
    spacing[axis] = 4.0
    result = resample(image, shape, spacing, EVEN, order)
    expected = slice_by_slice(image[0].astype(float), shape, axis, order)
    np.testing.assert_allclose(result[0], expected, atol=1e-5)


def test_nothing_is_done_where_the_shape_is_right():
    image = volume(1, 5, 8, 9)
    assert resample(image, (5, 8, 9), EVEN, EVEN, 3) is image


@pytest.mark.parametrize(
    ("spacing", "shape"), [(EVEN, (9, 15, 11)), (EVEN, (6, 5, 10)), ((4.0, 1.0, 1.0), (13, 9, 17))]
)
def test_labels_are_resampled_class_by_class(spacing, shape):
    labels = blobs((8, 12, 10), classes=4)
    result = resample_labels(labels, shape, spacing, EVEN)
    expected = np.zeros(shape, np.int16)
    for value in (1, 2, 3):
        part = (labels == value).astype(float)
        if spacing == EVEN:
            share = resize(part, shape, order=1, mode="edge", anti_aliasing=False)
        else:
            share = slice_by_slice(part, shape, 0, 1)
        expected[share >= 0.5] = value
    assert result.dtype == np.int16
    assert set(np.unique(result)) == {0, 1, 2, 3}
    np.testing.assert_array_equal(result, expected)


def test_what_is_ignored_stays_ignored():
    labels = blobs((8, 12, 10))
    labels[2:6, 3:9, 3:8] = IGNORE
    result = resample_labels(labels, (16, 24, 20), EVEN, (0.5, 0.5, 0.5))
    assert (result[6:10, 8:16, 8:14] == IGNORE).all()
    assert abs((result == IGNORE).mean() - (labels == IGNORE).mean()) < 0.01


def test_a_mask_stays_a_mask():
    mask = np.zeros((1, 10, 10), bool)
    mask[:, 2:8, 3:7] = True
    result = resample_labels(mask, (1, 20, 20), EVEN, EVEN)
    assert result.dtype == bool
    np.testing.assert_array_equal(result, mask.repeat(2, 1).repeat(2, 2))


def test_nearest_voxels():
    labels = blobs((3, 7, 5))
    np.testing.assert_array_equal(nearest(labels, (6, 7, 10)), labels.repeat(2, 0).repeat(2, 2))
    expected = along(along(along(labels, 0, 2), 1, 11), 2, 4)
    np.testing.assert_array_equal(nearest(labels, (2, 11, 4)), expected)


# ---------------------------------------------------------------- the way back


BACK = [
    frame_of((9, 14, 12), (6, 7, 16), new_spacing=(1.5, 2.0, 0.75)),
    frame_of((9, 14, 12), (9, 14, 12)),
    frame_of((12, 10, 14), (4, 15, 7), (1.0, 1.0, 1.0), (5.0, 0.7, 2.0)),
    frame_of((8, 9, 10), (4, 6, 5), new_spacing=(2.0, 1.5, 2.0), transpose=(2, 0, 1)),
]


def plain(logits, frame):
    """All channels at the size of the crop, by scikit-image."""
    axis = separate_axis(frame.new_spacing, frame.spacing)
    if axis is None:
        parts = [resize(c, frame.cropped, order=1, mode="edge", anti_aliasing=False) for c in logits]
    else:
        parts = [slice_by_slice(c, frame.cropped, axis, 1) for c in logits]
    return np.stack(parts)


def whole(crop, frame):
    """A crop in its file, background around it."""
    turned = np.zeros([frame.shape[axis] for axis in frame.transpose], crop.dtype)
    turned[tuple(slice(*ends) for ends in frame.box)] = crop
    return turned.transpose(np.argsort(frame.transpose))


@pytest.mark.parametrize("frame", BACK)
@pytest.mark.parametrize("tensor", [False, True])
def test_the_running_argmax_is_the_argmax_of_all_classes(frame, tensor):
    logits = volume(4, *frame.new_shape)
    labels = Labels(("background", "a", "b", "c"), (0, 1, 2, 3))
    result = resample_argmax(torch.from_numpy(logits) if tensor else logits, frame, labels)
    assert result.dtype == np.int16
    assert result.shape == frame.shape
    expected = whole(plain(logits.astype(float), frame).argmax(0), frame)
    assert (result != expected).mean() < 1e-3, "but for ties"
    assert set(np.unique(result)) == {0, 1, 2, 3}


@pytest.mark.parametrize("frame", BACK)
def test_regions_are_taken_in_their_order(frame):
    logits = volume(2, *frame.new_shape)
    labels = Labels(
        ("background", "edema", "core"), (0, 1, 2), None, (("tumour", (1, 2)), ("core", (2,))), (1, 2)
    )
    one, two = plain(logits.astype(float), frame) > 0
    expected = whole(np.where(two, 2, np.where(one, 1, 0)), frame)
    assert (resample_argmax(logits, frame, labels) != expected).mean() < 1e-3


@pytest.mark.parametrize("frame", BACK)
def test_probabilities_at_full_size(frame):
    logits = 3 * volume(3, *frame.new_shape)
    before = logits.copy()
    result = resample_probabilities(logits, frame, CLASSES)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result.sum(0), 1, atol=1e-5)
    expected = special.softmax(plain(logits.astype(float), frame), axis=0)
    np.testing.assert_allclose(frame.to_crop(result), expected, atol=1e-4)
    outside = whole(np.ones(frame.cropped, bool), frame) == 0
    np.testing.assert_array_equal(result[:, outside], np.eye(3)[0][:, None].repeat(outside.sum(), 1))
    np.testing.assert_array_equal(classify(result, CLASSES), resample_argmax(logits, frame, CLASSES))
    np.testing.assert_array_equal(logits, before)


def test_probabilities_of_regions():
    frame = BACK[0]
    logits = volume(2, *frame.new_shape)
    result = resample_probabilities(torch.from_numpy(logits), frame, object_labels())
    expected = [whole(part, frame) for part in special.expit(plain(logits.astype(float), frame))]
    np.testing.assert_allclose(result, expected, atol=1e-5)
    assert (classify(result, object_labels()) == resample_argmax(logits, frame, object_labels())).all()


def test_the_running_argmax_holds_few_volumes():
    outputs, size = 14, 64
    frame = Frame((size,) * 3, (0, 1, 2), ((0, size),) * 3, EVEN, (2.0, 2.0, 2.0), (size // 2,) * 3)
    labels = Labels(tuple(map(str, range(outputs))), tuple(range(outputs)))
    logits = volume(outputs, *frame.new_shape)
    tracemalloc.start()
    resample_argmax(logits, frame, labels)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # torch's own volume of the channel at hand is not traced; 14 float volumes would be 56 bytes a voxel.
    assert peak < 10 * size**3
