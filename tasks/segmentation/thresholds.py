"""Segmentation by a threshold of a filtered image; filter and level are the best of many on training images."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np

from tasks.segmentation.data.cases import Voxels
from tasks.segmentation.labels import IGNORE

RADII = (3, 7, 15)
"""Of the discs of top-hat filters, pixels."""
BACKGROUND = 15.0
"""Standard deviation of the Gaussian that is taken for the background, pixels."""
LEVELS = 200
"""Levels that are tried, quantiles of the values."""
PIXELS = 40_000
"""Pixels of an image that a choice is made on."""


def _top_hat(image: np.ndarray, radius: int) -> np.ndarray:
    # Of the inverted image it is the black top-hat of the image.
    import cv2

    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    return cv2.morphologyEx(image, cv2.MORPH_TOPHAT, disc)


def _without_background(image: np.ndarray) -> np.ndarray:
    import cv2

    return image - cv2.GaussianBlur(image, (0, 0), BACKGROUND)


FILTERS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "none": np.asarray,
    **{f"top-hat {radius}": partial(_top_hat, radius=radius) for radius in RADII},
    "background": _without_background,
}
"""Functions of an image ``(Y, X)`` float32 that bring out what is bright."""


def _from_otsu(values: np.ndarray, counted: np.ndarray) -> np.ndarray:
    return values - otsu_level(counted)


def _shares(values: np.ndarray, counted: np.ndarray) -> np.ndarray:
    return np.searchsorted(np.sort(counted), values) / counted.size


def _unchanged(values: np.ndarray, counted: np.ndarray) -> np.ndarray:
    return values


OTSU = "from Otsu's level"
SCALES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "value": _unchanged,
    "share of the image": _shares,
    OTSU: _from_otsu,
}
"""What levels are of: functions of values of any shape and of the values ``(N,)`` of an image that count."""


POLARITIES = ("smaller", "bright", "dark")
"""Whether the class is brighter or darker than what is around it. It is smaller where that differs from image to
image: then it is the side of Otsu's threshold with fewer voxels."""


@dataclass(frozen=True)
class Rule:
    """A threshold.

    Attributes:
        channel: Of the image, from 0.
        polarity: One of :data:`POLARITIES`.
        filter: One of :data:`FILTERS`.
        scale: One of :data:`SCALES`.
        level: Filtered and scaled values above it are the class.
    """

    channel: int
    polarity: str
    filter: str
    scale: str
    level: float = 0.0

    def margin(self, image: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
        """Returns by how much voxels are above the level, ``(Z, Y, X)``.

        Args:
            image: ``(C, Z, Y, X)``.
            mask: ``(Z, Y, X)`` bool, the voxels that count.
        """
        planes = image[self.channel]
        if is_dark(planes.ravel() if mask is None else planes[mask], self.polarity):
            planes = -planes
        filtered = np.stack([FILTERS[self.filter](plane) for plane in planes])
        counted = filtered.ravel() if mask is None else filtered[mask]
        return SCALES[self.scale](filtered, counted) - self.level


def is_dark(values: np.ndarray, polarity: str) -> bool:
    """Whether the class is what is dark among the values ``(N,)`` of an image."""
    return polarity == "dark" or (polarity == "smaller" and bool(np.mean(values > otsu_level(values)) > 0.5))


def otsu_rules(channels: int) -> list[Rule]:
    """Returns Otsu's threshold for each channel and polarity."""
    return [Rule(channel, polarity, "none", OTSU) for channel in range(channels) for polarity in POLARITIES]


def choose_rule(cases: Iterable[tuple[Voxels, np.ndarray]]) -> Rule:
    """Returns the rule with the best mean Dice over images.

    Every channel, polarity, filter and scale is tried.

    Args:
        cases: Images and where the class is, ``(1, Y, X)`` bool.
    """
    values: dict[tuple[int, str, str, str], list[np.ndarray]] = {}
    truths = []
    rng = np.random.default_rng(0)
    for voxels, truth in cases:
        assert voxels.labels is not None
        counted = voxels.labels[0] != IGNORE
        if voxels.mask is not None:
            counted &= voxels.mask[0]
        pixels = np.flatnonzero(counted)
        pixels = rng.choice(pixels, min(PIXELS, len(pixels)), replace=False)
        truths.append(truth[0].ravel()[pixels])
        for key, chosen in _candidates(voxels.image, pixels):
            values.setdefault(key, []).append(chosen)
    best, rule = -1.0, None
    for candidate, parts in values.items():
        dice, level = best_level(parts, truths)
        if dice > best:
            best, rule = dice, Rule(*candidate, level)
    assert rule is not None
    return rule


def best_level(values: list[np.ndarray], truths: list[np.ndarray]) -> tuple[float, float]:
    """Returns the best mean Dice of ``values > level`` and its level, among quantiles of all values.

    Args:
        values: ``(N,)`` of each image.
        truths: ``(N,)`` bool of each; those without the class say nothing and are left out.
    """
    levels = np.unique(np.quantile(np.concatenate(values), np.linspace(0, 1, LEVELS)))
    total = np.zeros(len(levels))
    for each, truth in zip(values, truths, strict=True):
        if truth.any():
            # In bin i are the values above i levels.
            bins = np.searchsorted(levels, each)
            counts = (np.bincount(bins, weights, len(levels) + 1) for weights in (truth, None))
            hits, found = (count[::-1].cumsum()[::-1][1:] for count in counts)
            total += 2 * hits / (found + np.count_nonzero(truth))
    total /= max(1, sum(truth.any() for truth in truths))
    return float(total.max()), float(levels[total.argmax()])


def otsu_level(values: np.ndarray) -> float:
    """Returns Otsu's threshold (IEEE Trans. SMC 1979) of values of any shape."""
    from skimage.filters import threshold_otsu

    return float(threshold_otsu(values))


def _candidates(
    image: np.ndarray, pixels: np.ndarray
) -> Iterator[tuple[tuple[int, str, str, str], np.ndarray]]:
    for channel, planes in enumerate(image):
        dark = {polarity: is_dark(planes[0].ravel()[pixels], polarity) for polarity in POLARITIES}
        for name, filtered in FILTERS.items():
            found = {
                sign: filtered(-planes[0] if sign else planes[0]).ravel()[pixels] for sign in (False, True)
            }
            for scale, scaled in SCALES.items():
                values = {sign: scaled(each, each) for sign, each in found.items()}
                for polarity, sign in dark.items():
                    yield (channel, polarity, name, scale), values[sign]
