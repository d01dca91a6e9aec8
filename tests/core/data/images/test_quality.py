"""PSNR and SSIM against hand values and an independent computation."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest

from core.data.images.quality import Protocol, luma, variants
from core.errors import ConfigError, DataError


def picture(channels=3, size=(24, 31), seed=0):
    return np.random.default_rng(seed).integers(0, 256, (*size, channels)).astype(np.uint8)


def noisy(clean, sigma=12, seed=1):
    return clean / 255 + np.random.default_rng(seed).normal(0, sigma / 255, clean.shape)


def test_an_error_of_one_level_is_48_db():
    clean = np.full((4, 5, 3), 7, np.uint8)
    assert Protocol().psnr(clean + np.uint8(1), clean) == pytest.approx(20 * math.log10(255))
    clean16 = np.full((4, 5, 1), 7 * 257, np.uint16)
    assert Protocol().psnr(clean16 + np.uint16(257), clean16) == pytest.approx(20 * math.log10(255))
    half = clean.copy()
    half[:2] += 2  # MSE of half the pixels: 4 / 2
    assert Protocol().psnr(half, clean) == pytest.approx(10 * math.log10(255**2 / 2))


@pytest.mark.parametrize(
    "protocol", [Protocol(), Protocol("y", 2), Protocol("y", 0, "none", True), Protocol(rounding="truncate")]
)
def test_equal_images(protocol):
    clean = picture()
    for same in (clean, clean.astype(np.float32) / np.float32(255), clean / 255):
        assert protocol.psnr(same, clean) == math.inf
        assert protocol.ssim(same, clean) == pytest.approx(1)


def test_rounding_of_the_restored_image():
    clean = np.full((12, 12, 1), 100, np.uint8)
    restored = np.full((12, 12, 1), 100.5 / 255)
    assert Protocol(rounding="round").psnr(restored, clean) == pytest.approx(20 * math.log10(255))
    assert Protocol(rounding="truncate").psnr(restored, clean) == math.inf
    assert Protocol(rounding="none").psnr(restored, clean) == pytest.approx(20 * math.log10(255 / 0.5))


def test_every_rounding_clips():
    clean = np.zeros((12, 12, 1), np.uint8)
    clean[6:] = 255
    restored = np.where(clean > 0, 1.7, -0.4)
    for rounding in ("round", "truncate", "none"):
        assert Protocol(rounding=rounding).psnr(restored, clean) == math.inf


def test_the_luma_of_the_standard_colours():
    """Black, white, red, green and blue of MATLAB's rgb2ycbcr."""
    rgb = np.array([[[0, 0, 0], [255, 255, 255], [255, 0, 0], [0, 255, 0], [0, 0, 255]]], float)
    np.testing.assert_allclose(luma(rgb)[0, :, 0], [16, 235, 81.481, 144.553, 40.966])


def test_psnr_of_luma_by_hand():
    clean = np.zeros((3, 3, 3), np.uint8)
    green = clean.copy()
    green[..., 1] = 2  # luma 16 + 2 * 128.553 / 255 = 17.00826
    assert Protocol("y").psnr(green, clean) == pytest.approx(20 * math.log10(255 / 1.0082588))
    assert Protocol("y", y_rounding=True).psnr(green, clean) == pytest.approx(20 * math.log10(255))
    assert Protocol("rgb").psnr(green, clean) == pytest.approx(10 * math.log10(255**2 * 3 / 4))


def test_a_gray_image_is_its_own_luma():
    clean = picture(1)
    restored = noisy(clean)
    assert Protocol("y").psnr(restored, clean) == Protocol("rgb").psnr(restored, clean)
    assert Protocol("y").ssim(restored, clean) == Protocol("rgb").ssim(restored, clean)


def test_the_border_is_left_out():
    clean = picture()
    restored = clean.copy()
    restored[:3], restored[-3:], restored[:, :3], restored[:, -3:] = 0, 0, 0, 0
    assert Protocol(shave=3).psnr(restored, clean) == math.inf
    assert Protocol(shave=3).ssim(restored, clean) == pytest.approx(1)
    assert Protocol(shave=2).psnr(restored, clean) < 30


def slow_ssim(first, second):
    """The authors' ssim_index.m, window by window."""
    offsets = np.arange(-5, 6)
    window = np.exp(-(offsets[:, None] ** 2 + offsets[None] ** 2) / (2 * 1.5**2))
    window /= window.sum()
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    values = []
    for i in range(first.shape[0] - 10):
        for j in range(first.shape[1] - 10):
            a, b = first[i : i + 11, j : j + 11], second[i : i + 11, j : j + 11]
            mean_a, mean_b = (window * a).sum(), (window * b).sum()
            var_a = (window * (a - mean_a) ** 2).sum()
            var_b = (window * (b - mean_b) ** 2).sum()
            both = (window * (a - mean_a) * (b - mean_b)).sum()
            values.append(
                (2 * mean_a * mean_b + c1)
                * (2 * both + c2)
                / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))
            )
    return np.mean(values)


def test_ssim_is_the_authors():
    clean = picture()
    restored = noisy(clean, 40)
    eight = np.floor(np.clip(restored, 0, 1) * 255 + 0.5)
    expected = np.mean([slow_ssim(eight[..., c], clean[..., c].astype(float)) for c in range(3)])
    assert Protocol().ssim(restored, clean) == pytest.approx(expected, abs=1e-9)
    first, second = (luma(x.astype(float))[4:-4, 4:-4, 0] for x in (eight, clean))
    assert Protocol("y", 4).ssim(restored, clean) == pytest.approx(slow_ssim(first, second), abs=1e-9)


def test_ssim_needs_a_whole_window():
    assert not math.isnan(Protocol(shave=6).ssim(picture(size=(23, 40)), picture(size=(23, 40), seed=1)))
    assert math.isnan(Protocol(shave=7).ssim(picture(size=(23, 40)), picture(size=(23, 40), seed=1)))


def test_any_number_of_channels():
    clean = picture(5)
    restored = clean.copy()
    restored[..., 4] ^= 1
    assert Protocol().psnr(restored, clean) == pytest.approx(10 * math.log10(255**2 * 5))
    with pytest.raises(ConfigError, match="5 channels has no luma"):
        Protocol("y").psnr(restored, clean)


def test_what_cannot_be_compared():
    with pytest.raises(DataError, match="24x31x3 and the clean one 24x31x1"):
        Protocol().psnr(picture(3), picture(1))
    with pytest.raises(DataError, match="a border of 12 pixels leaves nothing of an image of 24x31x3"):
        Protocol(shave=12).ssim(picture(), picture())
    with pytest.raises(ConfigError, match="shave -1"):
        Protocol(shave=-1)


@pytest.mark.parametrize(
    ("protocol", "channels", "expected"),
    [
        (
            Protocol(),
            1,
            [Protocol(), Protocol(shave=4), Protocol(rounding="truncate"), Protocol(rounding="none")],
        ),
        (
            Protocol("y", 2),
            3,
            [
                Protocol("y", 2),
                Protocol("rgb", 2),
                Protocol("y", 0),
                Protocol("y", 2, "truncate"),
                Protocol("y", 2, "none"),
                Protocol("y", 2, y_rounding=True),
            ],
        ),
    ],
)
def test_variants_change_one_choice_each(protocol, channels, expected):
    found = variants(protocol, channels)
    assert next(iter(found)) == "as given"
    assert list(found.values()) == expected


def test_a_protocol_is_no_heavy_import():
    code = "import sys, core.data.images.quality; print({'numpy', 'skimage', 'torch'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
