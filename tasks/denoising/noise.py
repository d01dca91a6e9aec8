"""What is wrong with an image: degradations of training patches, and the conditions of a test."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from core.data.images.degrade import add_clipped, add_gaussian, add_poisson_gaussian, jpeg
from core.data.images.files import from_float, to_float
from core.data.images.patches import Patches
from core.data.images.resize import imresize, modcrop
from core.errors import ConfigError
from core.registry import Registry
from tasks.denoising.config import DataConfig

if TYPE_CHECKING:
    from tasks.denoising.data import ImageSet

Degrade = Callable[[np.ndarray, np.random.Generator, DataConfig], np.ndarray]

DEGRADATIONS: Registry[Degrade] = Registry("degradation")
"""Name to a function of a clean patch ``(H, W, C)`` in its file's type, returning float32 in [0, 1]."""


def between(rng: np.random.Generator, value: float | list[float]) -> float:
    """Draws from ``[low, high]``; a number is itself."""
    return float(rng.uniform(value[0], value[1])) if isinstance(value, list) else float(value)


@DEGRADATIONS.register("gaussian")
def _gaussian(clean: np.ndarray, rng: np.random.Generator, config: DataConfig) -> np.ndarray:
    return add_gaussian(to_float(clean), between(rng, config.sigma), rng)


@DEGRADATIONS.register("clipped")
def _clipped(clean: np.ndarray, rng: np.random.Generator, config: DataConfig) -> np.ndarray:
    return add_clipped(to_float(clean), between(rng, config.sigma), rng)


@DEGRADATIONS.register("poisson_gaussian")
def _poisson(clean: np.ndarray, rng: np.random.Generator, config: DataConfig) -> np.ndarray:
    photons, sigma = between(rng, config.photons), between(rng, config.sigma)
    return add_poisson_gaussian(to_float(clean), photons, sigma, rng)


@DEGRADATIONS.register("super_resolution")
def _super_resolution(clean: np.ndarray, rng: np.random.Generator, config: DataConfig) -> np.ndarray:
    return blurred(clean, int(rng.choice(config.scales)))


@DEGRADATIONS.register("jpeg")
def _jpeg(clean: np.ndarray, rng: np.random.Generator, config: DataConfig) -> np.ndarray:
    low, high = config.quality
    return to_float(jpeg(from_float(to_float(clean), np.uint8), int(rng.integers(low, high + 1))))


def blurred(clean: np.ndarray, scale: int) -> np.ndarray:
    """Returns the bicubic enlargement of the image made smaller by ``scale``, float32 in [0, 1]."""
    small = imresize(clean, 1 / scale)
    return to_float(imresize(to_float(small), clean.shape[:2])).astype(np.float32)


def check(config: DataConfig) -> None:
    """Raises ``ConfigError`` for numbers that no degradation can use."""
    for name in ("sigma", "photons"):
        value = getattr(config, name)
        numbers = value if isinstance(value, list) else [value]
        if isinstance(value, list) and (len(value) != 2 or value[0] > value[1]):
            raise ConfigError(f"--data.{name} {value} is not a range; write one number or [low, high]")
        if any(not 0 <= number < float("inf") for number in numbers):
            raise ConfigError(f"--data.{name} {value} must not be negative")
    if not config.kinds:
        raise ConfigError("--data.kinds is empty; name one degradation or more")
    if "poisson_gaussian" in config.kinds and 0 in np.ravel(config.photons):
        raise ConfigError(f"--data.photons {config.photons} must be more than 0")
    if config.test_sigma is not None and (not config.test_sigma or min(config.test_sigma) < 0):
        raise ConfigError(f"--data.test_sigma {config.test_sigma}: give one level or more, none below 0")
    if not all(1 <= quality <= 100 for quality in config.test_quality):
        raise ConfigError(f"--data.test_quality {config.test_quality}: use numbers within 1 to 100")
    for name, least in (("patch", 1), ("patches", 1)):
        if getattr(config, name) < least:
            raise ConfigError(f"--data.{name} {getattr(config, name)} is too small; use {least} or more")
    if not config.resize or min(config.resize) <= 0:
        raise ConfigError(f"--data.resize {config.resize}: give one factor or more, all above 0")
    if any(scale < 2 for scale in config.scales):
        raise ConfigError(f"--data.scales {config.scales}: use whole numbers from 2")
    if len(config.quality) != 2 or not 1 <= config.quality[0] <= config.quality[1] <= 100:
        raise ConfigError(
            f"--data.quality {config.quality} is not a range; write [low, high] within 1 to 100"
        )


class NoisyPatches:
    """Pairs of noisy and clean patches, see :class:`core.data.loader.Samples`.

    Args:
        images: Training images.
        config: Patches and degradations; each patch draws one kind and its own level.
    """

    def __init__(self, images: ImageSet, config: DataConfig) -> None:
        versions = [images.clean.images, *([images.noisy.images] if images.noisy else [])]
        self.config = config
        self.patches = Patches(images.clean.names, versions, config.patch, config.patches, config.augment)

    def __len__(self) -> int:
        return len(self.patches)

    def draw(self, index: int, rng: np.random.Generator) -> dict[str, Any]:
        """Returns ``noisy`` and ``clean``, float32 ``(C, patch, patch)`` in [0, 1]."""
        clean, *noisy = self.patches.crop(index, rng)
        if noisy:
            degraded = to_float(noisy[0])
        else:
            kind = self.config.kinds[int(rng.integers(len(self.config.kinds)))]
            degraded = DEGRADATIONS[kind](clean, rng, self.config)
        return {
            "noisy": np.ascontiguousarray(degraded.transpose(2, 0, 1), dtype=np.float32),
            "clean": np.ascontiguousarray(to_float(clean).transpose(2, 0, 1), dtype=np.float32),
            "ids": self.patches.name(index),
        }


@dataclass(frozen=True)
class Condition:
    """One way in which test images are degraded.

    Attributes:
        name: ``sigma 25``, ``x3``, ``jpeg 10`` or ``real``.
        sigma: Standard deviation of the noise in levels of 255; ``None`` where it is not known.
        degrade: Maps a clean image ``(H, W, C)`` in its file's type to a degraded one, float32 in [0, 1].
        scale: Images are cut to a multiple of it first.
    """

    name: str
    sigma: float | None
    degrade: Callable[[np.ndarray], np.ndarray]
    scale: int = 1

    def pair(self, clean: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns the degraded and the clean image, float32 in [0, 1]."""
        clean = modcrop(clean, self.scale)
        return self.degrade(clean), to_float(clean)


def conditions(config: DataConfig) -> list[Condition]:
    """Returns the conditions of the test, by the kinds that the model is trained for."""
    found: list[Condition] = []
    for kind in config.kinds:
        if kind in ("gaussian", "clipped", "poisson_gaussian"):
            found += [_noise_condition(kind, level, config) for level in noise_levels(config)]
        elif kind == "super_resolution":
            found += [Condition(f"x{s}", None, _Blur(s), s) for s in config.scales]
        else:
            found += [Condition(f"jpeg {q}", None, _Jpeg(q)) for q in config.test_quality]
    return found


def noise_levels(config: DataConfig) -> Sequence[float]:
    """Returns the noise levels of the test."""
    if config.test_sigma is not None:
        return config.test_sigma
    return [15.0, 25.0, 50.0] if isinstance(config.sigma, list) else [config.sigma]


def _noise_condition(kind: str, sigma: float, config: DataConfig) -> Condition:
    names = {"gaussian": "sigma", "clipped": "clipped sigma", "poisson_gaussian": "photons and sigma"}
    return Condition(f"{names[kind]} {sigma:g}", sigma, _Noise(kind, sigma, config))


@dataclass(frozen=True)
class _Noise:
    """Noise from the same seed for every image, as in the papers' tests (facts of the seed: below 0.01 dB)."""

    kind: str
    sigma: float
    config: DataConfig

    def __call__(self, clean: np.ndarray) -> np.ndarray:
        # The legacy generator: with seed 0 the noise is that of the PyTorch code that the authors published.
        legacy = np.random.RandomState(self.config.test_seed)
        noise = legacy.normal(0, self.sigma / 255, clean.shape)
        image = to_float(clean)
        if self.kind == "poisson_gaussian":
            photons = (
                self.config.photons if not isinstance(self.config.photons, list) else self.config.photons[1]
            )
            image = legacy.poisson(np.maximum(image, 0) * photons) / photons
        noisy = (image + noise).astype(np.float32)
        return to_float(from_float(noisy, np.uint8)) if self.kind == "clipped" else noisy


@dataclass(frozen=True)
class _Blur:
    scale: int

    def __call__(self, clean: np.ndarray) -> np.ndarray:
        return blurred(clean, self.scale)


@dataclass(frozen=True)
class _Jpeg:
    quality: int

    def __call__(self, clean: np.ndarray) -> np.ndarray:
        return to_float(jpeg(from_float(to_float(clean), np.uint8), self.quality))
