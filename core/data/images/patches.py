"""Random patches of images: the samples of restoration tasks."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from core.data.images.augment import Symmetries
from core.data.images.folder import SHOWN
from core.errors import ConfigError, DataError

Derive = Callable[[slice, slice], np.ndarray]
"""Maps rows and columns of an image to a patch that is made from more than these pixels."""


def check_patches(patch: int, patches: int) -> None:
    """Raises ``ConfigError`` for a side or a number of patches below 1."""
    for name, value in (("patch", patch), ("patches", patches)):
        if value < 1:
            raise ConfigError(f"--data.{name} {value} is too small; use 1 or more")


def large_enough(
    names: Sequence[str], images: Sequence[np.ndarray], size: int
) -> tuple[list[int], list[str]]:
    """Finds the images that hold a patch.

    Returns:
        Their positions, and notes on the others. Where no image is large enough all positions are returned, since
        :class:`Patches` then names one.
    """
    keep = [i for i, image in enumerate(images) if min(image.shape[:2]) >= size]
    if not keep:
        return list(range(len(names))), []
    sides = {
        name: f"{image.shape[1]}x{image.shape[0]}"
        for name, image in zip(names, images, strict=True)
        if min(image.shape[:2]) < size
    }
    notes = [
        f"{name}: left out, {side} pixels are fewer than {size} on a side" for name, side in sides.items()
    ]
    more = len(notes) - SHOWN
    return keep, notes[:SHOWN] + ([f"{more} more left out for such reasons"] if more > 0 else [])


class Patches:
    """Aligned random patches of images that may come in several versions, such as noisy and clean, or small and large.

    Args:
        names: Name of each image.
        versions: One list of images ``(H, W, C)`` for each version. The sides of a version are a whole multiple of
            those of the first.
        size: Side of a patch of the first version, pixels.
        per_image: Patches of each image in an epoch.
        augment: Turn and flip patches at random.

    Raises:
        DataError: An image is smaller than a patch.
    """

    def __init__(
        self,
        names: Sequence[str],
        versions: Sequence[Sequence[np.ndarray]],
        size: int,
        per_image: int,
        augment: bool = True,
    ) -> None:
        self.names, self.versions, self.size, self.per_image = names, versions, size, per_image
        self.symmetries = Symmetries() if augment else None
        for name, image in zip(names, versions[0], strict=True):
            if min(image.shape[:2]) < size:
                sides = f"{image.shape[1]}x{image.shape[0]}"
                raise DataError(
                    f"{name} has {sides} pixels, less than a patch of {size}; lower --data.patch or leave it out"
                )

    def __len__(self) -> int:
        return len(self.names) * self.per_image

    def crop(self, index: int, rng: np.random.Generator, derive: Derive | None = None) -> list[np.ndarray]:
        """Returns a random patch ``(k size, k size, C)`` of each version of image ``index // per_image``.

        Args:
            index: Sample, from 0.
            rng: Source of place and symmetry.
            derive: Makes one version more from the patch's rows and columns in the first; it stands last.
        """
        images = [version[index // self.per_image] for version in self.versions]
        height, width = images[0].shape[:2]
        top = int(rng.integers(height - self.size + 1))
        left = int(rng.integers(width - self.size + 1))
        patches = []
        for image in images:
            k = image.shape[0] // height
            rows = slice(k * top, k * (top + self.size))
            patches.append(image[rows, k * left : k * (left + self.size)])
        if derive is not None:
            patches.append(derive(slice(top, top + self.size), slice(left, left + self.size)))
        return self.symmetries(rng, *patches) if self.symmetries else patches

    def name(self, index: int) -> str:
        """Name of the image that sample ``index`` is cut from."""
        return self.names[index // self.per_image]
