"""What is wrong with an image: degradations of training patches, and the conditions of a test."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from core.data.images.degrade import add_clipped, add_gaussian, add_poisson_gaussian, jpeg
from core.data.images.files import from_float, peak, to_float
from core.data.images.patches import Patches, check_patches
from core.data.images.quality import Protocol, luma
from core.data.images.resize import imresize, modcrop
from core.errors import ConfigError
from core.registry import Registry
from tasks.denoising.config import DataConfig

if TYPE_CHECKING:
    from tasks.denoising.data import ImageSet

Degrade = Callable[[np.ndarray, np.random.Generator, DataConfig], np.ndarray]

DEGRADATIONS: Registry[Degrade] = Registry("degradation")
"""Name to a function of a clean image ``(H, W, C)`` in its file's type, returning float32 in [0, 1]."""


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
    """Returns the bicubic enlargement of ``(H, W, C)`` made smaller by ``scale``, float32 in [0, 1].

    Sides that are no multiple of the scale are first continued by mirroring: small pixels must lie on whole blocks of
    large ones, or the two images are shifted against each other.
    """
    height, width = clean.shape[:2]
    whole = np.pad(clean, ((0, -height % scale), (0, -width % scale), (0, 0)), mode="symmetric")
    small = imresize(whole, 1 / scale).astype(np.float64)
    # In double, as MATLAB enlarges; to_float would round to single precision before.
    large = imresize(small / peak(clean.dtype), whole.shape[:2])
    return large[:height, :width].astype(np.float32)


def blurred_part(clean: np.ndarray, scale: int, rows: slice, columns: slice) -> np.ndarray:
    """Returns rows and columns of :func:`blurred` of the whole image, at the cost of a part.

    A training patch is made so, and not from its own pixels: the border of a patch of 50 enlarged by 4 would be wrong
    in half of its pixels. Nor are whole images kept blurred: they would take four times the memory for each scale.
    """
    # The kernels reach two small pixels beyond a pixel when shrinking, and two more when enlarging.
    places, inside = [], []
    for part, length in ((rows, clean.shape[0]), (columns, clean.shape[1])):
        first = max(0, part.start // scale - 4) * scale
        last = min(length, (-(-part.stop // scale) + 4) * scale)
        places.append(slice(first, last))
        inside.append(slice(part.start - first, part.stop - first))
    return blurred(clean[places[0], places[1]], scale)[inside[0], inside[1]]


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
    if config.channels is not None and config.channels < 1:
        raise ConfigError(f"--data.channels {config.channels} must be 1 or more")
    check_patches(config.patch, config.patches)
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
        if len(self.patches.versions) > 1:
            clean, degraded = self.patches.crop(index, rng)
        else:
            clean, degraded = self._made(index, rng)
        return {
            "noisy": np.ascontiguousarray(to_float(degraded).transpose(2, 0, 1), dtype=np.float32),
            "clean": np.ascontiguousarray(to_float(clean).transpose(2, 0, 1), dtype=np.float32),
            "ids": self.patches.name(index),
        }

    def _made(self, index: int, rng: np.random.Generator) -> Sequence[np.ndarray]:
        kind = self.config.kinds[int(rng.integers(len(self.config.kinds)))]
        if kind == "super_resolution":
            image = self.patches.versions[0][index // self.patches.per_image]
            scale = int(rng.choice(self.config.scales))
            return self.patches.crop(index, rng, partial(blurred_part, image, scale))
        (clean,) = self.patches.crop(index, rng)
        return clean, DEGRADATIONS[kind](clean, rng, self.config)


@dataclass(frozen=True)
class Condition:
    """One way in which test images are degraded.

    Attributes:
        name: ``sigma 25``, ``x3``, ``jpeg 10`` or ``real``.
        sigma: Standard deviation of the noise in levels of 255; ``None`` where it is not known.
        degrade: Maps a clean image ``(H, W, C)`` in its file's type to a degraded one, float32 in [0, 1].
        scale: Images are cut to a multiple of it first, and as much of the border is not scored.
        takes_luma: Gray images of colour files are their luma in studio range, see :meth:`pair`.
    """

    name: str
    sigma: float | None
    degrade: Callable[[np.ndarray], np.ndarray]
    scale: int = 1
    takes_luma: bool = False

    def pair(self, clean: np.ndarray, colour: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Returns the degraded and the clean image, float32 in [0, 1].

        Args:
            clean: ``(H, W, C)``.
            colour: The RGB image ``(H, W, 3)`` that a gray one was made from. Enlargement and JPEG take its luma in
                studio range, as DnCNN-3's published test: for JPEG rounded to 8 bit, for enlargement not rounded,
                and made small and large in RGB.
        """
        if colour is None or not self.takes_luma:
            clean = modcrop(clean, self.scale)
            return self.degrade(clean), to_float(clean)
        if self.scale > 1:
            colour = modcrop(colour, self.scale)
            return studio_luma(self.degrade(colour)), studio_luma(to_float(colour))
        clean = from_float(studio_luma(to_float(colour)), np.uint8)
        return self.degrade(clean), to_float(clean)

    def protocol(self, protocol: Protocol) -> Protocol:
        """Returns how this condition is scored: for enlargement without the border, and not rounded to 8 bit."""
        if self.scale == 1:
            return protocol
        rounding = "none" if protocol.rounding == "round" else protocol.rounding
        return replace(protocol, shave=max(protocol.shave, self.scale), rounding=rounding)


def studio_luma(rgb: np.ndarray) -> np.ndarray:
    """Returns MATLAB's luma ``(H, W, 1)``, 16/255 to 235/255, of RGB ``(H, W, 3)`` in [0, 1], both float32."""
    return (luma(255 * rgb.astype(np.float64)) / 255).astype(np.float32)


def conditions(config: DataConfig) -> list[Condition]:
    """Returns the conditions of the test, by the kinds that the model is trained for."""
    found: list[Condition] = []
    for kind in config.kinds:
        if kind in ("gaussian", "clipped", "poisson_gaussian"):
            found += [c for level in noise_levels(config) for c in _noise_conditions(kind, level, config)]
        elif kind == "super_resolution":
            found += [Condition(f"x{s}", None, _Blur(s), s, takes_luma=True) for s in config.scales]
        else:
            found += [Condition(f"jpeg {q}", None, _Jpeg(q), takes_luma=True) for q in config.test_quality]
    return found


def noise_levels(config: DataConfig) -> Sequence[float]:
    """Returns the noise levels of the test."""
    if config.test_sigma is not None:
        return config.test_sigma
    return [15.0, 25.0, 50.0] if isinstance(config.sigma, list) else [config.sigma]


def _noise_conditions(kind: str, sigma: float, config: DataConfig) -> list[Condition]:
    if kind != "poisson_gaussian":
        name = {"gaussian": "sigma", "clipped": "clipped sigma"}[kind]
        return [Condition(f"{name} {sigma:g}", sigma, _Noise(kind, sigma, config.test_seed))]
    # The level differs from pixel to pixel: the baselines estimate it.
    ends = sorted(set(config.photons)) if isinstance(config.photons, list) else [config.photons]
    return [
        Condition(
            f"photons {photons:g} sigma {sigma:g}", None, _Noise(kind, sigma, config.test_seed, photons)
        )
        for photons in ends
    ]


@dataclass(frozen=True)
class _Noise:
    """Noise from the same seed for every image, as in the papers' tests (facts of the seed: below 0.01 dB)."""

    kind: str
    sigma: float
    seed: int
    photons: float = 0.0

    def __call__(self, clean: np.ndarray) -> np.ndarray:
        # The legacy generator: with seed 0 the noise is that of the PyTorch code that the authors published.
        legacy = np.random.RandomState(self.seed)
        noise = legacy.normal(0, self.sigma / 255, clean.shape)
        image = to_float(clean)
        if self.kind == "poisson_gaussian":
            image = legacy.poisson(np.maximum(image, 0) * self.photons) / self.photons
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
