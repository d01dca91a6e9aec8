import math
from fractions import Fraction

import numpy as np
import pytest

from core.data.images.resize import RESIZERS, imresize, modcrop
from core.errors import ConfigError

RANDOM = np.random.default_rng(0).integers(0, 256, (13, 11, 3)).astype(np.uint8)


def keys(x):
    x = abs(x)
    if x <= 1:
        return Fraction(3, 2) * x**3 - Fraction(5, 2) * x**2 + 1
    if x <= 2:
        return Fraction(-1, 2) * x**3 + Fraction(5, 2) * x**2 - 4 * x + 2
    return Fraction(0)


def exact_line(line, size, scale):
    """One axis in exact fractions, from the definition: a kernel around each output's centre, mirrored borders."""
    stretch = min(scale, Fraction(1))
    result = []
    for x in range(size):
        centre = (x + Fraction(1, 2)) / scale - Fraction(1, 2)
        reach = 2 / stretch
        positions = range(math.floor(centre - reach), math.ceil(centre + reach) + 1)
        weights = [keys(stretch * (centre - i)) for i in positions]
        values = []
        for i in positions:
            while not 0 <= i < len(line):
                i = -1 - i if i < 0 else 2 * len(line) - 1 - i
            values.append(int(line[i]))
        total = sum(w * v for w, v in zip(weights, values, strict=True)) / sum(weights)
        result.append(min(max(math.floor(total + Fraction(1, 2)), 0), 255))
    return result


def exact(image, scale, rows_first=True):
    height, width = (math.ceil(size * scale) for size in image.shape[:2])
    result = image
    for axis in (0, 1) if rows_first else (1, 0):
        size = (height, width)[axis]
        result = np.apply_along_axis(exact_line, axis, result, size, scale)
    return result


@pytest.mark.parametrize("scale", [Fraction(1, 2), Fraction(1, 4), Fraction(2), Fraction(4)])
def test_equals_exact_arithmetic(scale):
    ours = imresize(RANDOM, float(scale))
    assert ours.dtype == np.uint8
    np.testing.assert_array_equal(ours, exact(RANDOM, scale))


@pytest.mark.parametrize("scale", [Fraction(1, 3), Fraction(3, 2)])
def test_nearly_equals_exact_arithmetic(scale):
    # Weights of thirds have no exact float, so that a few exact halves fall to the other side.
    differ = np.abs(imresize(RANDOM, float(scale)).astype(int) - exact(RANDOM, scale))
    assert differ.max() <= 2 and (differ > 0).mean() < 0.01


def test_rows_come_first():
    # Both orders agree up to the rounding between the passes, which this image shows.
    other = exact(RANDOM, Fraction(1, 2), rows_first=False)
    assert (imresize(RANDOM, 0.5) != other).any()


def test_smaller_scale_comes_first():
    wide = imresize(RANDOM, (13, 4))
    np.testing.assert_array_equal(wide, imresize(RANDOM.swapaxes(0, 1), (4, 13)).swapaxes(0, 1))
    both = imresize(RANDOM, (10, 4))
    np.testing.assert_array_equal(both, imresize(imresize(RANDOM, (13, 4)), (10, 4)))
    assert (both != imresize(imresize(RANDOM, (10, 11)), (10, 4))).any()


def test_hand_values():
    step = np.zeros((1, 16, 1))
    step[0, 8:] = 128
    # Output 3 has its centre at 6.5; pixels 8, 9 and 10 are 1.5, 2.5 and 3.5 away and have the weights
    # h(0.75) / 2 = 29/256, h(1.25) / 2 = -9/256 and h(1.75) / 2 = -3/256: 128 * 17/256 = 8.5.
    want = [0, 0, -1.5, 8.5, 119.5, 129.5, 128, 128]
    np.testing.assert_allclose(imresize(step, (1, 8))[0, :, 0], want, atol=1e-12)


def test_hand_values_without_antialiasing():
    line = np.array([0, 0, 0, 160, 160, 160, 0, 0], dtype=float).reshape(1, 8, 1)
    # Between two pixels the weights are (-1, 9, 9, -1) / 16.
    got = imresize(line, (1, 4), antialias=False)[0, :, 0]
    np.testing.assert_allclose(got, [0, 80, 170, -10], atol=1e-12)


def test_bilinear_enlargement():
    line = np.array([[[0.0], [4.0]]])
    np.testing.assert_allclose(imresize(line, (1, 4), "bilinear")[0, :, 0], [0, 1, 3, 4], atol=1e-12)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.float64])
def test_flat_stays_flat_and_keeps_its_type(dtype):
    for scale in (0.5, 1 / 3, 2.0, 0.37):
        flat = np.full((9, 10, 2), 200, dtype)
        small = imresize(flat, scale)
        assert small.dtype == dtype and small.shape == (math.ceil(9 * scale), math.ceil(10 * scale), 2)
        np.testing.assert_allclose(small, 200, rtol=1e-6)


def test_float_overshoots_where_uint8_is_clipped():
    edge = np.zeros((1, 12, 1))
    edge[:, 6:] = 1
    large = imresize(edge, (1, 24))
    assert large.max() > 1.02 and large.min() < -0.02
    assert set(np.unique(imresize((edge * 255).astype(np.uint8), (1, 24)))) >= {0, 255}


def test_tiny_images():
    one = np.full((1, 1, 3), 7, np.uint8)
    np.testing.assert_array_equal(imresize(one, 4), np.full((4, 4, 3), 7))
    assert imresize(RANDOM, 0.01).shape == (1, 1, 3)


def test_errors():
    with pytest.raises(ConfigError, match="no method 'lanczos'; use one of bicubic, bilinear"):
        imresize(RANDOM, 0.5, "lanczos")
    with pytest.raises(ConfigError, match="positive"):
        imresize(RANDOM, 0)


def test_modcrop():
    cut = modcrop(RANDOM, 4)
    np.testing.assert_array_equal(cut, RANDOM[:12, :8])


@pytest.mark.parametrize("name", RESIZERS)
@pytest.mark.parametrize(
    ("dtype", "channels"), [(np.uint8, 3), (np.uint8, 1), (np.uint16, 3), (np.float32, 1)]
)
def test_resizers_agree_on_smooth_images(name, dtype, channels):
    x = np.linspace(0.2, 0.8, 32)
    ramp = np.repeat((x[:, None] + x[None])[..., None] / 2, channels, axis=2)
    white = 1 if dtype == np.float32 else np.iinfo(dtype).max
    small = RESIZERS[name]((ramp * white).astype(dtype), 0.5)
    assert small.dtype == dtype and small.shape == (16, 16, channels)
    inner = ramp[:, :, 0].reshape(16, 2, 16, 2).mean(axis=(1, 3))[3:-3, 3:-3]
    np.testing.assert_allclose(small[3:-3, 3:-3, 0] / white, inner, atol=1.5 / 255)


def test_resizers_are_not_interchangeable():
    stripes = np.tile(np.array([0, 255], np.uint8), 16)[None, :, None].repeat(32, axis=0)
    # Antialiasing turns one-pixel stripes gray.
    assert abs(int(imresize(stripes, 0.5)[8, 8, 0]) - 127.5) < 2
    noise = np.random.default_rng(1).integers(0, 256, (32, 32, 1)).astype(np.uint8)
    small = {name: resize(noise, 0.25).astype(float) for name, resize in RESIZERS.items()}
    spread = {name: np.sqrt(np.mean((value - small["matlab"]) ** 2)) for name, value in small.items()}
    assert spread["cv2_cubic"] > 30 and 3 < spread["cv2_area"] < 30
    assert spread["pil_bicubic"] < 8 and spread["torch_antialias"] < 8
