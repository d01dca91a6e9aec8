"""Preprocessing in nnU-Net's order, against the steps done one by one."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from base_plan import PLAN
from scipy import ndimage
from skimage.transform import resize

from core.errors import DataError
from tasks.segmentation.data.cases import FLAT, Geometry, Voxels
from tasks.segmentation.labels import IGNORE
from tasks.segmentation.preprocess import preprocess, previous_channels

FLAT_PLAN = dataclasses.replace(
    PLAN, configuration="2d", spacing=(1.0, 1.0), patch_size=(8, 8), resample=False, crop=False
)


def case(shape=(10, 12, 14), spacing=(1.0, 1.0, 1.0), channels=1, margin=2, labels=True, seed=0):
    """A smooth volume with zeros around it, and labels of its level."""
    rng = np.random.default_rng(seed)
    image = ndimage.gaussian_filter(rng.normal(0, 1, (channels, *shape)), (0, 1, 1, 1)) * 100 + 200
    inner = tuple(slice(margin, n - margin) if n > 2 * margin else slice(0, n) for n in shape)
    zeros = np.ones(shape, bool)
    zeros[inner] = False
    image[:, zeros] = 0
    classes = np.where(image[0] > 205, 2, np.where(image[0] > 195, 1, 0)).astype(np.int16)
    return Voxels(
        image.astype(np.float32), classes if labels else None, None, None, Geometry(shape, spacing, ".nii.gz")
    )


def test_cropped_normalised_then_resampled():
    voxels = case((10, 12, 14), (2.0, 1.0, 0.5))
    before = voxels.image.copy()
    done = preprocess(voxels, PLAN, "a")
    crop = voxels.image[0, 2:8, 2:10, 2:12].astype(float)
    standard = (crop - crop.mean()) / crop.std()
    # Spacings of 2 and 0.5 mm are more than three apart: slices along the first axis are repeated.
    planes = [resize(plane, (8, 5), order=3, mode="edge", anti_aliasing=False) for plane in standard]
    np.testing.assert_allclose(done.image[0], np.repeat(planes, 2, axis=0), atol=1e-4)
    assert done.image.dtype == np.float32
    assert done.image.flags.c_contiguous
    assert done.labels.shape == (12, 8, 5) and done.labels.dtype == np.int16
    assert done.mask is None
    assert done.frame.box == ((2, 8), (2, 10), (2, 12))
    assert (done.frame.shape, done.frame.cropped, done.frame.new_shape) == (
        (10, 12, 14),
        (6, 8, 10),
        (12, 8, 5),
    )
    assert (done.frame.spacing, done.frame.new_spacing) == ((2.0, 1.0, 0.5), (1.0, 1.0, 1.0))
    np.testing.assert_array_equal(voxels.image, before)


def test_the_spacing_of_the_plan_is_that_after_the_transpose():
    voxels = case((10, 12, 14), (1.0, 1.0, 2.0))
    plan = dataclasses.replace(PLAN, transpose=(2, 0, 1), spacing=(4.0, 1.0, 1.0))
    done = preprocess(voxels, plan, "a")
    assert done.frame.spacing == (2.0, 1.0, 1.0)
    assert done.frame.new_shape == (5, 6, 8) == done.image.shape[1:]
    crop = voxels.image[0].transpose(2, 0, 1)[2:12, 2:8, 2:10].astype(float)
    standard = (crop - crop.mean()) / crop.std()
    expected = np.stack([standard[i] for i in (1, 3, 5, 7, 9)])  # 4 mm to 1 mm: nearest slices
    np.testing.assert_allclose(done.image[0], expected, atol=1e-4)


def test_a_plan_for_slices_keeps_their_distance():
    plan = dataclasses.replace(PLAN, configuration="2d", spacing=(0.5, 2.0), patch_size=(8, 8))
    done = preprocess(case((10, 12, 14), (5.0, 1.0, 1.0)), plan, "a")
    assert done.frame.new_spacing == (5.0, 0.5, 2.0)
    assert done.image.shape == (1, 6, 16, 5)


def test_nothing_is_resampled_or_cropped_where_the_plan_says_so():
    voxels = case((1, 12, 14), (FLAT, 1.0, 1.0))
    done = preprocess(
        voxels, dataclasses.replace(FLAT_PLAN, normalisation=("none",), spacing=(3.0, 3.0)), "a"
    )
    np.testing.assert_array_equal(done.image, voxels.image)
    assert done.image is not voxels.image
    assert done.frame.box == ((0, 1), (0, 12), (0, 14))
    np.testing.assert_array_equal(done.labels, voxels.labels)


@pytest.mark.parametrize("crop", [True, False])
def test_masked_normalisation_is_by_what_is_not_zero(crop):
    voxels = case(margin=3)
    voxels.image[0, 3, 3, 3] = 0  # a corner of the box; it is no hole
    plan = dataclasses.replace(PLAN, masked_normalisation=(True,), crop=crop)
    done = preprocess(voxels, plan, "a")
    inside = voxels.image[0] != 0
    standard = np.where(
        inside, (voxels.image[0] - voxels.image[0][inside].mean()) / voxels.image[0][inside].std(), 0
    )
    np.testing.assert_allclose(done.image[0], standard[3:-3, 3:-3, 3:-3] if crop else standard, atol=1e-4)
    if crop:
        assert done.image[0, 0, 0, 0] == 0


def test_positions_of_the_classes():
    voxels = case()
    voxels.labels[2, 2, 2] = IGNORE
    done = preprocess(voxels, PLAN, "a")
    assert set(done.foreground) == {1, 2}
    for value, positions in done.foreground.items():
        assert positions.dtype == np.int32
        assert (done.labels[tuple(positions.T)] == value).all()
        assert len(np.unique(positions, axis=0)) == len(positions) == (done.labels == value).sum()


def test_many_positions_are_drawn_from():
    voxels = case((40, 40, 40), margin=0)
    voxels.labels[:] = 1
    first = preprocess(voxels, PLAN, "a").foreground[1]
    assert first.shape == (10_000, 3)
    assert len(np.unique(first, axis=0)) == 10_000
    np.testing.assert_array_equal(first, preprocess(voxels, PLAN, "a").foreground[1])
    assert np.ptp(first, axis=0).min() == 39, "from everywhere"


def test_the_field_of_view_goes_along_and_no_position_is_outside_of_it():
    voxels = case(spacing=(2.0, 2.0, 2.0))
    voxels.mask = np.zeros(voxels.image.shape[1:], bool)
    voxels.mask[:, :, :7] = True
    done = preprocess(voxels, PLAN, "a")
    assert done.mask.shape == done.image.shape[1:] and done.mask.dtype == bool
    np.testing.assert_array_equal(done.mask, np.broadcast_to(np.arange(20) < 10, done.mask.shape))
    assert all((positions[:, 2] < 10).all() for positions in done.foreground.values())
    assert (done.labels[~done.mask] > 0).any(), "labels are left as they are"


def test_without_labels():
    done = preprocess(case(labels=False), PLAN, "a")
    assert done.labels is None
    assert done.foreground == {}


def test_a_coarser_segmentation_becomes_channels():
    voxels = case(spacing=(2.0, 2.0, 2.0))
    plan = dataclasses.replace(PLAN, previous_classes=3, transpose=(1, 2, 0))
    done = preprocess(voxels, plan, "a")
    channels = previous_channels(voxels.labels, done.frame, plan)
    assert channels.shape == (3, *done.image.shape[1:]) and channels.dtype == np.float32
    crop = voxels.labels.transpose(1, 2, 0)[2:-2, 2:-2, 2:-2].repeat(2, 0).repeat(2, 1).repeat(2, 2)
    for value in (1, 2, 3):
        np.testing.assert_array_equal(channels[value - 1], crop == value)


@pytest.mark.parametrize("channels", [1, 3])
def test_another_number_of_channels_is_an_error_that_names_the_case(channels):
    plan = dataclasses.replace(
        PLAN,
        normalisation=("zscore",) * 2,
        masked_normalisation=(False,) * 2,
        intensities=PLAN.intensities * 2,
    )
    with pytest.raises(DataError, match=rf"^liver_3: {channels} channel\(s\), but the model reads 2; give"):
        preprocess(case(channels=channels), plan, "liver_3")


def test_an_image_does_not_become_a_volume_of_a_thousand_slices():
    with pytest.raises(DataError, match="photo: a single image, but the model reads volumes"):
        preprocess(case((1, 12, 14), (FLAT, 1.0, 1.0)), PLAN, "photo")


def test_values_that_are_not_finite_are_an_error():
    voxels = case()
    voxels.image[0, 5, 5, 5] = np.nan
    with pytest.raises(DataError, match="scan_1: some voxels are not finite"):
        preprocess(voxels, PLAN, "scan_1")


def test_an_image_of_zeros():
    voxels = case()
    voxels.image[:] = 0
    plan = dataclasses.replace(PLAN, masked_normalisation=(True,))
    assert not preprocess(voxels, plan, "a").image.any()
