"""Random patches of images: the samples of restoration tasks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from core.data.images.augment import Symmetries
from core.errors import DataError


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

    def crop(self, index: int, rng: np.random.Generator) -> list[np.ndarray]:
        """Returns a random patch ``(k size, k size, C)`` of each version of image ``index // per_image``."""
        images = [version[index // self.per_image] for version in self.versions]
        height, width = images[0].shape[:2]
        top = int(rng.integers(height - self.size + 1))
        left = int(rng.integers(width - self.size + 1))
        patches = []
        for image in images:
            k = image.shape[0] // height
            rows = slice(k * top, k * (top + self.size))
            patches.append(image[rows, k * left : k * (left + self.size)])
        return self.symmetries(rng, *patches) if self.symmetries else patches

    def name(self, index: int) -> str:
        """Name of the image that sample ``index`` is cut from."""
        return self.names[index // self.per_image]
