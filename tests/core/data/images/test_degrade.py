import io

import numpy as np
import pytest
from PIL import Image

from core.data.images.degrade import add_clipped, add_gaussian, add_poisson_gaussian, estimate_sigma, jpeg
from core.errors import ConfigError


def smooth(channels=3, size=64):
    x = np.linspace(0.3, 0.7, size)
    return np.repeat(((x[:, None] + x[None]) / 2)[..., None], channels, axis=2)


@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_loses_more_at_lower_quality(channels):
    image = np.random.default_rng(0).integers(0, 256, (32, 40, channels)).astype(np.uint8)
    errors = [np.abs(jpeg(image, quality).astype(int) - image).mean() for quality in (95, 40, 10)]
    assert errors == sorted(errors) and errors[0] > 0
    result = jpeg(image, 40)
    assert result.shape == image.shape and result.dtype == np.uint8 and result.flags.writeable


def test_jpeg_uses_the_tables_of_the_standard():
    stored = io.BytesIO()
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(stored, "JPEG", quality=50)
    # At quality 50 the luminance table is table K.1 of ITU-T T.81 itself.
    assert Image.open(stored).quantization[0][:8] == [16, 11, 10, 16, 24, 40, 51, 61]
    # The block's mean survives to within half a step of its DC coefficient: 16 / 8 / 2 = 1 level.
    flat = np.full((8, 8, 1), 77, np.uint8)
    assert np.abs(jpeg(flat, 50).astype(int) - 77).max() <= 1


@pytest.mark.parametrize("quality", [0, 101])
def test_jpeg_quality_out_of_range(quality):
    with pytest.raises(ConfigError, match="give 1 to 100"):
        jpeg(np.zeros((8, 8, 1), np.uint8), quality)


def test_gaussian_noise_has_its_level():
    clean = smooth()
    noisy = add_gaussian(clean, 25, np.random.default_rng(0))
    assert noisy.dtype == np.float32 and noisy.shape == clean.shape
    # 12 288 samples: three standard errors are 3 * 25 / sqrt(2 * 12288) = 0.48.
    assert 255 * (noisy - clean).std() == pytest.approx(25, abs=0.48)
    assert 255 * (noisy - clean).mean() == pytest.approx(0, abs=3 * 25 / np.sqrt(noisy.size))
    np.testing.assert_array_equal(noisy, add_gaussian(clean, 25, np.random.default_rng(0)))


def test_gaussian_noise_is_not_clipped_but_the_other_is():
    dark = np.zeros((32, 32, 1))
    assert add_gaussian(dark, 50, np.random.default_rng(0)).min() < -0.2
    clipped = add_clipped(dark, 50, np.random.default_rng(0))
    assert clipped.min() == 0 and clipped.dtype == np.float32
    np.testing.assert_allclose(255 * clipped, np.round(255 * clipped), atol=1e-4)
    # Half of the noise is cut off; the mean of the rest is sigma / sqrt(2 pi).
    assert 255 * clipped.mean() == pytest.approx(50 / np.sqrt(2 * np.pi), abs=3)


def test_sensor_noise_has_the_variance_of_the_model():
    for level in (0.1, 0.8):
        flat = np.full((100, 100, 1), level)
        noisy = add_poisson_gaussian(flat, 50, 5, np.random.default_rng(0))
        assert noisy.mean() == pytest.approx(level, abs=0.01)
        assert noisy.var() == pytest.approx(level / 50 + (5 / 255) ** 2, rel=0.06)


def test_sensor_noise_of_few_photons_is_discrete():
    noisy = add_poisson_gaussian(np.full((16, 16, 1), 0.5), 4, 0, np.random.default_rng(0))
    assert set(np.unique(noisy)) <= {k / 4 for k in range(20)}
    with pytest.raises(ConfigError, match="must be positive"):
        add_poisson_gaussian(smooth(), 0, 5, np.random.default_rng(0))


@pytest.mark.parametrize("channels", [1, 3, 5])
@pytest.mark.parametrize("sigma", [5, 25, 50])
def test_noise_level_is_estimated(channels, sigma):
    noisy = add_gaussian(smooth(channels), sigma, np.random.default_rng(0))
    assert estimate_sigma(noisy) == pytest.approx(sigma, rel=0.08)


def test_estimate_of_images_without_noise():
    assert estimate_sigma(np.full((16, 16, 3), 0.5)) == 0
    assert estimate_sigma(smooth()) < 0.5
    assert estimate_sigma(np.ones((1, 1, 1))) == 0


@pytest.mark.parametrize("shape", [(60, 3, 1), (3, 60, 3), (60, 1, 1), (1, 60, 1), (2, 2, 3)])
def test_narrow_images_have_an_estimate(shape):
    noise = np.random.default_rng(3).normal(0.5, 0.1, shape)
    # A warning of scikit-image, which takes three columns for colours, would be an error here.
    assert 0 <= estimate_sigma(noise) < 60
