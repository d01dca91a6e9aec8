"""Normalisation schemes against hand-made numbers."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from base_plan import PLAN

from core.errors import ConfigError, DataError
from tasks.segmentation.normalise import NORMALISATIONS, normalise


def run(values, scheme, masked=False, mask=None):
    image = np.array(values, np.float32).reshape(1, 1, 1, -1)
    plan = dataclasses.replace(PLAN, normalisation=(scheme,), masked_normalisation=(masked,))
    normalise(image, plan, None if mask is None else np.array(mask, bool).reshape(1, 1, -1), "case_7")
    return image.ravel()


@pytest.mark.parametrize(
    ("scheme", "values", "expected"),
    [
        ("zscore", [1, 3, 1, 3], [-1, 1, -1, 1]),
        ("zscore", [5, 5, 5], [0, 0, 0]),
        ("ct", [-1000, 50, 90, 3000], [-7.5, 0, 2, 7.5]),
        ("rescale_to_0_1", [-4, 0, 4, 12], [0, 0.25, 0.5, 1]),
        ("rescale_to_0_1", [7, 7], [0, 0]),
        ("rgb_to_0_1", [0, 51, 255], [0, 0.2, 1]),
        ("none", [-3, 0, 8], [-3, 0, 8]),
    ],
)
def test_schemes(scheme, values, expected):
    np.testing.assert_allclose(run(values, scheme), expected, atol=1e-6)


def test_a_masked_zscore_counts_what_is_inside_and_leaves_0_outside():
    result = run([100, 2, 6, 100], "zscore", True, [False, True, True, False])
    np.testing.assert_allclose(result, [0, -1, 1, 0], atol=1e-6)
    unmasked = run([100, 2, 6, 100], "zscore", False, [False, True, True, False])
    assert unmasked[0] > 0.5, "the mask is for channels whose normalisation is masked"


def test_an_image_of_zeros_stays_one():
    assert not run([0, 0], "zscore", True, [False, False]).any()


@pytest.mark.parametrize("values", [[0, 300], [-1, 20]])
def test_rgb_names_the_case_whose_values_are_not_of_8_bit(values):
    with pytest.raises(DataError, match=r"case_7, channel 0: values from .* rgb_to_0_1 is for 0 to 255"):
        run(values, "rgb_to_0_1")


def test_every_channel_has_its_own_scheme():
    image = np.array([[[[0, 255]]], [[[0, 255]]]], np.float32)
    two = dataclasses.replace(
        PLAN,
        normalisation=("rgb_to_0_1", "none"),
        masked_normalisation=(False, False),
        intensities=PLAN.intensities * 2,
    )
    normalise(image, two, None, "a")
    np.testing.assert_array_equal(image.ravel(), [0, 1, 0, 255])


def test_an_unknown_scheme_is_named():
    with pytest.raises(ConfigError, match=r"unknown normalisation 'zscor'\. Did you mean 'zscore'"):
        run([1, 2], "zscor")


def test_clahe_evens_contrast_out():
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:64, :64]
    # The same stripes, bright on the left and hardly seen on the right.
    strength = np.where(columns < 32, 80, 8)
    image = (100 + strength * np.sin(rows / 2) + rng.normal(0, 0.5, (64, 64))).astype(np.float32)
    channel = image[None].copy()
    NORMALISATIONS["clahe"](channel, None, PLAN.intensities[0])
    result = channel[0]
    assert result.min() >= 0 and result.max() <= 1
    before = image[:, 32:].std() / image[:, :32].std()
    after = result[:, 32:].std() / result[:, :32].std()
    assert after > 1.5 * before


def test_clahe_does_not_depend_on_the_unit_of_the_grey_values_and_works_slice_by_slice():
    image = np.random.default_rng(1).normal(0, 1, (2, 32, 40)).astype(np.float32)
    image[1] = image[0]
    other = 17 * image + 300
    for each in (image, other):
        NORMALISATIONS["clahe"](each, None, PLAN.intensities[0])
    np.testing.assert_allclose(other, image, atol=2 / 255)
    np.testing.assert_array_equal(image[0], image[1])


def test_clahe_is_of_opencv_with_gamma():
    import cv2

    pixels = np.random.default_rng(2).integers(0, 256, (48, 48)).astype(np.uint8)
    pixels[0, :2] = 0, 255
    channel = pixels[None].astype(np.float32)
    NORMALISATIONS["clahe"](channel, None, PLAN.intensities[0])
    expected = (cv2.createCLAHE(2.0, (8, 8)).apply(pixels) / 255.0) ** (1 / 1.2)
    np.testing.assert_allclose(channel[0], expected, atol=1e-6)
