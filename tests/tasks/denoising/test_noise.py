"""Degradations against their definitions, the noise of a test, and aligned pairs of patches."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from core.data.images.files import to_float
from core.data.images.folder import Loaded
from core.data.images.quality import Protocol
from core.data.images.resize import imresize
from core.errors import ConfigError
from tasks.denoising.config import DataConfig
from tasks.denoising.data import ImageSet
from tasks.denoising.noise import DEGRADATIONS, NoisyPatches, check, conditions


def picture(height=48, width=40, channels=1, dtype="uint8", seed=0):
    """Waves with every gray value, whose flips and turns all differ."""
    rows, columns = np.mgrid[:height, :width]
    waves = [
        np.sin(rows / (3 + seed + c)) + np.cos(columns / 5 + rows * columns / 400) for c in range(channels)
    ]
    values = (np.stack(waves, axis=2) + 2) / 4
    return (values * {"uint8": 255, "uint16": 65535, "float32": 1}[dtype]).astype(dtype)


def rng(seed=0):
    return np.random.default_rng(seed)


def flat(value, side=200):
    return np.full((side, side, 1), round(255 * value), np.uint8)


def images(*pictures):
    return Loaded([f"{i}.png" for i in range(len(pictures))], list(pictures))


# ---------------------------------------------------------------- one patch


def test_gaussian_noise_has_its_level_and_is_not_clipped():
    noisy = DEGRADATIONS["gaussian"](flat(1), rng(), DataConfig(sigma=20))
    assert noisy.dtype == np.float32
    assert noisy.mean() == pytest.approx(1, abs=5 * 20 / 255 / 200)
    assert 255 * noisy.std() == pytest.approx(20, rel=0.02)
    assert noisy.max() > 1.2


def test_clipped_noise_is_what_a_file_holds():
    clean, config = picture(), DataConfig(sigma=60)
    noisy = DEGRADATIONS["clipped"](clean, rng(3), config)
    levels = 255 * DEGRADATIONS["gaussian"](clean, rng(3), config)
    np.testing.assert_allclose(255 * noisy, np.floor(np.clip(levels, 0, 255) + 0.5), atol=1e-4)
    assert noisy.min() == 0 and noisy.max() == 1


@pytest.mark.parametrize("value", [0.2, 0.8])
def test_poisson_gaussian_noise_grows_with_the_light(value):
    config = DataConfig(photons=50.0, sigma=5.0)
    noisy = DEGRADATIONS["poisson_gaussian"](flat(value), rng(), config)
    expected = round(255 * value) / 255 / 50 + (5 / 255) ** 2
    assert noisy.mean() == pytest.approx(value, abs=0.005)
    assert noisy.var() == pytest.approx(expected, rel=0.05)


def test_blur_is_smaller_and_larger_again():
    clean = picture(24, 24)
    for scale in (2, 3, 4):
        blurred = DEGRADATIONS["super_resolution"](clean, rng(), DataConfig(scales=[scale]))
        small = imresize(clean, 1 / scale)
        assert small.dtype == np.uint8 and small.shape == (24 // scale, 24 // scale, 1)
        expected = imresize(small.astype(np.float64) / 255, (24, 24))
        np.testing.assert_allclose(blurred, expected, atol=1e-6)


@pytest.mark.parametrize("side", [47, 48, 49, 50])
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_blur_shifts_nothing(side, scale):
    """Bicubic weights reproduce a ramp, so that only a shift or the border can change it."""
    rows, columns = np.mgrid[:side, : side + 1]
    ramp = ((2 * rows + columns) / 200)[..., None].astype(np.float32)
    blurred = DEGRADATIONS["super_resolution"](ramp, rng(), DataConfig(scales=[scale]))
    inside = np.s_[4 * scale : -5 * scale, 4 * scale : -5 * scale]
    np.testing.assert_allclose(blurred[inside], ramp[inside], atol=1e-5)


@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_is_pillows(channels):
    clean = picture(channels=channels)
    stored = io.BytesIO()
    Image.fromarray(clean.squeeze()).save(stored, "JPEG", quality=12)
    expected = np.asarray(Image.open(stored)).reshape(clean.shape) / 255
    degraded = DEGRADATIONS["jpeg"](clean, rng(), DataConfig(quality=[12, 12]))
    np.testing.assert_allclose(degraded, expected, atol=1e-6)
    assert degraded.dtype == np.float32


@pytest.mark.parametrize("kind", DEGRADATIONS)
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_every_kind_takes_every_type(kind, dtype):
    clean = picture(25, 26, 3, dtype)
    degraded = DEGRADATIONS[kind](clean, rng(), DataConfig())
    assert degraded.dtype == np.float32 and degraded.shape == clean.shape
    assert 0.001 < np.abs(degraded - to_float(clean)).mean() < 0.2


# ---------------------------------------------------------------- conditions of a test


def test_the_noise_of_a_test_is_that_of_numpys_seed_0_for_each_image():
    (condition,) = conditions(DataConfig(sigma=25))
    assert (condition.name, condition.sigma) == ("sigma 25", 25)
    for clean in (picture(channels=3), picture(30, 20, 3, "uint16")):
        noisy, truth = condition.pair(clean)
        np.testing.assert_array_equal(truth, to_float(clean))
        expected = to_float(clean) + np.random.RandomState(0).normal(0, 25 / 255, clean.shape)
        np.testing.assert_array_equal(noisy, expected.astype(np.float32))
    (other,) = conditions(DataConfig(sigma=25, test_seed=3))
    expected = to_float(clean) + np.random.RandomState(3).normal(0, 25 / 255, clean.shape)
    np.testing.assert_array_equal(other.pair(clean)[0], expected.astype(np.float32))


def test_noise_of_a_test_with_clipping_and_photons():
    clean = picture()
    (clipped,) = conditions(DataConfig(kinds=["clipped"], sigma=40))
    levels = 255 * (to_float(clean) + np.random.RandomState(0).normal(0, 40 / 255, clean.shape))
    expected = np.floor(np.clip(levels.astype(np.float32), 0, 255) + 0.5)
    assert np.abs(255 * clipped.pair(clean)[0] - expected).mean() < 1e-3
    (counted,) = conditions(DataConfig(kinds=["poisson_gaussian"], sigma=0, photons=30))
    noisy, _ = counted.pair(flat(0.4))
    counts = 30 * noisy
    np.testing.assert_allclose(counts, np.round(counts), atol=1e-4)
    assert counts.mean() == pytest.approx(12, abs=0.1)
    assert counts.var() == pytest.approx(12, rel=0.05)


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({}, ["sigma 25"]),
        ({"sigma": [0.0, 55.0]}, ["sigma 15", "sigma 25", "sigma 50"]),
        ({"sigma": [0.0, 55.0], "test_sigma": [7.5]}, ["sigma 7.5"]),
        ({"kinds": ["jpeg"], "test_quality": [10, 40]}, ["jpeg 10", "jpeg 40"]),
        ({"kinds": ["super_resolution", "clipped"]}, ["x2", "x3", "x4", "clipped sigma 25"]),
    ],
)
def test_conditions_are_those_that_the_model_is_trained_for(options, names):
    assert [condition.name for condition in conditions(DataConfig(**options))] == names


def test_images_are_cut_to_a_multiple_of_the_scale():
    (condition,) = conditions(DataConfig(kinds=["super_resolution"], scales=[3]))
    degraded, truth = condition.pair(picture(20, 25))
    np.testing.assert_array_equal(truth, to_float(picture(20, 25)[:18, :24]))
    np.testing.assert_allclose(
        degraded, imresize(to_float(imresize(picture(20, 25)[:18, :24], 1 / 3)), (18, 24)), atol=1e-6
    )


def test_noise_of_photons_has_no_one_level_and_both_ends_of_a_range():
    options = {"kinds": ["poisson_gaussian"], "sigma": 5.0}
    low, high = conditions(DataConfig(**options, photons=[20.0, 200.0]))
    assert [(c.name, c.sigma) for c in (low, high)] == [
        ("photons 20 sigma 5", None),
        ("photons 200 sigma 5", None),
    ]
    for condition, photons in ((low, 20), (high, 200)):
        noisy, _ = condition.pair(flat(0.4))
        assert noisy.var() == pytest.approx(0.4 / photons + (5 / 255) ** 2, rel=0.05)
    (single,) = conditions(DataConfig(**options))
    assert single.name == "photons 100 sigma 5"


def studio(rgb):
    """MATLAB's rgb2ycbcr of [0, 1], on [0, 1]."""
    red, green, blue = np.moveaxis(rgb.astype(np.float64), 2, 0)
    return ((16 + 65.481 * red + 128.553 * green + 24.966 * blue) / 255)[..., None]


def test_enlargement_of_a_colour_file_is_tested_on_matlabs_luma():
    """Made small and large in RGB; truth and input are not rounded."""
    colour = picture(20, 25, 3)
    (condition,) = conditions(DataConfig(kinds=["super_resolution"], scales=[3]))
    degraded, truth = condition.pair(picture(20, 25), colour)
    cut = colour[:18, :24]
    np.testing.assert_allclose(truth, studio(cut / 255), atol=1e-6)
    large = imresize(imresize(cut, 1 / 3).astype(np.float64) / 255, 3)
    np.testing.assert_allclose(degraded, studio(large), atol=1e-6)
    assert truth.dtype == degraded.dtype == np.float32


def test_jpeg_of_a_colour_file_is_of_its_8_bit_luma():
    colour = picture(24, 24, 3)
    (condition,) = conditions(DataConfig(kinds=["jpeg"], test_quality=[10]))
    degraded, truth = condition.pair(picture(24, 24), colour)
    levels = np.floor(255 * studio(colour / 255) + 0.5).astype(np.uint8)
    np.testing.assert_allclose(255 * truth, levels, atol=1e-4)
    expected, _ = condition.pair(levels)
    np.testing.assert_array_equal(degraded, expected)


def test_noise_is_added_to_the_gray_image_of_a_colour_file():
    (condition,) = conditions(DataConfig())
    for given, expected in zip(
        condition.pair(picture(), picture(channels=3)), condition.pair(picture()), strict=True
    ):
        np.testing.assert_array_equal(given, expected)


def test_enlargement_is_scored_without_border_and_rounding():
    blur, noise, jpeg = conditions(DataConfig(kinds=["super_resolution", "gaussian", "jpeg"], scales=[4]))[:3]
    assert blur.protocol(Protocol()) == Protocol(shave=4, rounding="none")
    assert blur.protocol(Protocol(shave=6, rounding="truncate")) == Protocol(shave=6, rounding="truncate")
    for condition in (noise, jpeg):
        assert condition.protocol(Protocol()) == Protocol()


# ---------------------------------------------------------------- patches


def patches(*pictures, noisy=None, **options):
    config = DataConfig(**{"patch": 16, "patches": 4, **options})
    return NoisyPatches(ImageSet(images(*pictures), images(*noisy) if noisy else None), config)


def test_a_sample_is_a_pair_of_tensors_and_its_name():
    samples = patches(picture(), picture(seed=2))
    assert len(samples) == 8
    sample = samples.draw(5, rng())
    assert sample["ids"] == "1.png"
    for name in ("noisy", "clean"):
        assert sample[name].shape == (1, 16, 16)
        assert sample[name].dtype == np.float32 and sample[name].flags.c_contiguous
    difference = 255 * (sample["noisy"] - sample["clean"])
    assert difference.std() == pytest.approx(25, rel=0.25)


def test_the_same_rng_draws_the_same_sample_and_another_new_noise():
    samples = patches(np.full((16, 16, 1), 100, np.uint8))
    first, again, other = (samples.draw(0, rng(seed))["noisy"] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).mean() > 0.05


def test_a_blind_model_sees_a_level_of_its_own_in_each_patch():
    samples = patches(flat(0.5), sigma=[0.0, 55.0], patch=40)
    drawn = [samples.draw(i % 4, rng(i)) for i in range(100)]
    levels = np.array([255 * (sample["noisy"] - sample["clean"]).std() for sample in drawn])
    assert levels.min() < 5 and levels.max() > 50
    # Uniform on [0, 55]: a mean of 27.5 with a standard error of 1.6.
    assert levels.mean() == pytest.approx(27.5, abs=6)


def test_three_kinds_of_dncnn_3_all_occur():
    kinds = ["gaussian", "super_resolution", "jpeg"]
    config = {"kinds": kinds, "sigma": [0.0, 55.0], "augment": False}
    clean = picture(24, 24)
    samples = patches(clean, patch=24, **config)
    blurs = [imresize(to_float(imresize(clean, 1 / s)), s).astype(np.float32) for s in (2, 3, 4)]
    found, scales = dict.fromkeys(kinds, 0), set()
    for seed in range(60):
        noisy = samples.draw(0, rng(seed))["noisy"].transpose(1, 2, 0)
        (blur, *_) = [i for i, blur in enumerate(blurs) if np.allclose(noisy, blur, atol=1e-6)] or [None]
        if blur is not None:
            found["super_resolution"] += 1
            scales.add(blur)
        else:  # JPEG gives whole levels
            whole = np.abs(255 * noisy - np.round(255 * noisy)).max() < 1e-3
            found["jpeg" if whole else "gaussian"] += 1
    assert min(found.values()) > 8  # 20 are expected of each
    assert scales == {0, 1, 2}


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_a_blurred_patch_is_cut_from_the_whole_blurred_image(scale):
    clean = picture(96, 84)
    whole = imresize(to_float(imresize(clean, 1 / scale)), scale)
    samples = patches(clean, kinds=["super_resolution"], scales=[scale], patch=13, augment=False)
    pieces = np.lib.stride_tricks.sliding_window_view(to_float(clean)[..., 0], (13, 13))
    places = set()
    for seed in range(60):
        sample = samples.draw(seed % 4, rng(seed))
        (place,) = np.argwhere(np.isclose(pieces, sample["clean"][0], atol=1e-6).all(axis=(2, 3)))
        top, left = place
        expected = whole[top : top + 13, left : left + 13, 0]
        np.testing.assert_allclose(sample["noisy"][0], expected, atol=1e-6)
        places.add((top % scale, left % scale))
    assert len(places) > 3


def test_the_blur_of_an_image_that_is_as_small_as_a_patch():
    sample = patches(picture(17, 18), kinds=["super_resolution"], patch=17, augment=False).draw(0, rng())
    assert sample["noisy"].shape == (1, 17, 17)
    assert 0.001 < np.abs(sample["noisy"] - sample["clean"]).mean() < 0.1


@pytest.mark.parametrize("augment", [False, True])
def test_noisy_and_clean_patches_are_aligned(augment):
    clean = [picture(), picture(30, 50, seed=4)]
    noisy = [255 - image for image in clean]
    samples = patches(*clean, noisy=noisy, augment=augment)
    for seed in range(30):
        sample = samples.draw(seed % 8, rng(seed))
        np.testing.assert_allclose(sample["noisy"], 1 - sample["clean"], atol=1e-6)
    made = patches(*clean, sigma=1.0, augment=augment)
    for seed in range(30):
        sample = made.draw(seed % 8, rng(seed))
        assert np.abs(sample["noisy"] - sample["clean"]).max() < 6 / 255


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"sigma": -1.0}, "--data.sigma -1.0 must not be negative"),
        ({"sigma": float("nan")}, "--data.sigma nan must not"),
        ({"sigma": [50.0, 10.0]}, r"--data.sigma \[50.0, 10.0\] is not a range; write one number or"),
        ({"sigma": [1.0]}, "--data.sigma .* is not a range"),
        ({"photons": [-1.0, 4.0]}, "--data.photons .* must not be negative"),
        ({"kinds": ["poisson_gaussian"], "photons": 0.0}, "--data.photons 0.0 must be more than 0"),
        ({"kinds": ["poisson_gaussian"], "photons": [0.0, 9.0]}, "--data.photons .* must be more than 0"),
        ({"kinds": []}, "--data.kinds is empty"),
        ({"scales": [1, 2]}, r"--data.scales \[1, 2\]: use whole numbers from 2"),
        ({"quality": [0, 50]}, "--data.quality .* within 1 to 100"),
        ({"quality": [50]}, "--data.quality .* is not a range"),
        ({"test_quality": [10, 101]}, "--data.test_quality .* within 1 to 100"),
        ({"test_sigma": []}, "--data.test_sigma .* one level or more"),
        ({"test_sigma": [-5.0]}, "--data.test_sigma .* none below 0"),
        ({"patch": 0}, "--data.patch 0 is too small"),
        ({"patches": 0}, "--data.patches 0 is too small"),
        ({"resize": [1.0, 0.0]}, "--data.resize .* above 0"),
        ({"resize": []}, "--data.resize .* one factor or more"),
    ],
)
def test_numbers_that_no_degradation_can_use_are_one_line(options, said):
    with pytest.raises(ConfigError, match=said) as caught:
        check(DataConfig(**options))
    assert "\n" not in str(caught.value)


def test_usual_numbers_pass():
    check(DataConfig())
    check(DataConfig(sigma=[0.0, 55.0], test_sigma=[0.0], resize=[1.0, 0.7]))
