"""Degradations with a known truth: noise and JPEG; and the estimate of an unknown noise level."""

from __future__ import annotations

import io
import warnings

import numpy as np
from PIL import Image

from core.data.images.files import from_float, to_float
from core.errors import ConfigError


def jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    """Compresses and decompresses an image with Pillow's encoder (IJG tables; colour is subsampled 4:2:0).

    Args:
        image: ``(H, W, C)`` uint8 with C = 1 or 3.
        quality: 1 to 100.

    Returns:
        ``(H, W, C)`` uint8.

    Raises:
        ConfigError: The quality is out of range.
    """
    if not 1 <= quality <= 100:
        raise ConfigError(f"JPEG quality {quality} is out of range; give 1 to 100")
    stored = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[2] == 1 else image).save(stored, "JPEG", quality=quality)
    with Image.open(stored) as decoded:
        return np.array(decoded).reshape(image.shape)


def add_gaussian(image: np.ndarray, sigma: float, rng: np.random.Generator) -> np.ndarray:
    """Adds white Gaussian noise, the degradation of the AWGN benchmarks (Zhang et al., TIP 2017, section III).

    Args:
        image: ``(H, W, C)`` float in [0, 1].
        sigma: Standard deviation in units of 0 to 255.
        rng: Source of the noise.

    Returns:
        ``(H, W, C)`` float32, not clipped.
    """
    noise = rng.standard_normal(image.shape, dtype=np.float32)
    return image.astype(np.float32) + np.float32(sigma / 255) * noise


def add_clipped(image: np.ndarray, sigma: float, rng: np.random.Generator) -> np.ndarray:
    """Adds Gaussian noise, then clips and rounds to 8 bit as a file would; another task than AWGN.

    Args:
        image: ``(H, W, C)`` float in [0, 1].
        sigma: Standard deviation in units of 0 to 255.
        rng: Source of the noise.

    Returns:
        ``(H, W, C)`` float32, multiples of 1/255 in [0, 1].
    """
    return to_float(from_float(add_gaussian(image, sigma, rng), np.uint8))


def add_poisson_gaussian(
    image: np.ndarray, photons: float, sigma: float, rng: np.random.Generator
) -> np.ndarray:
    """Adds the noise of a sensor: shot noise of counted photons and read noise.

    ``y = Poisson(photons * x) / photons + N(0, sigma)``, whose variance is ``x / photons + sigma^2``
    (Foi et al., TIP 17(10), 2008, section II).

    Args:
        image: ``(H, W, C)`` float; linear intensity, white at 1, negative values count as 0.
        photons: Mean count at white; fewer mean more noise.
        sigma: Read noise in units of 0 to 255.
        rng: Source of the noise.

    Returns:
        ``(H, W, C)`` float32, not clipped.

    Raises:
        ConfigError: ``photons`` is not positive.
    """
    if photons <= 0:
        raise ConfigError(f"the photon count {photons} must be positive")
    counts = rng.poisson(np.maximum(image, 0) * photons)
    return add_gaussian(counts / photons, sigma, rng)


def estimate_sigma(image: np.ndarray) -> float:
    """Estimates the noise level from the finest diagonal wavelet band.

    Median absolute deviation over 0.6745 (Donoho and Johnstone, Biometrika 81(3), 1994, section 4.2). Fine
    texture counts as noise, so that clean images give small positive values; correlated noise is missed.

    Args:
        image: ``(H, W, C)`` float in [0, 1].

    Returns:
        Standard deviation in units of 0 to 255, the mean over the channels; 0 for a constant image.
    """
    # Loads PyWavelets, which nothing else here needs.
    from skimage.restoration import estimate_sigma as wavelet_sigma

    with warnings.catch_warnings():
        # It takes four columns and fewer for colours.
        warnings.filterwarnings("ignore", "image is size", UserWarning)
        levels = [
            # The estimate is a median over the coefficients that are not zero, which a flat channel lacks.
            0.0 if np.ptp(image[..., c]) == 0 else wavelet_sigma(image[..., c])
            for c in range(image.shape[2])
        ]
    return 255 * float(np.mean(levels))
