"""Random changes that images of a sample share, by albumentations."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

# Its import would otherwise look for a newer version on the network.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

import albumentations as A


class Symmetries:
    """One of the eight symmetries of the square, the same for all images of a sample.

    They are the flips and quarter turns that DnCNN, RIDNet, RCAN and CARN are trained with.
    """

    def __init__(self) -> None:
        targets = {"image1": "image", "image2": "image"}
        # Images of one sample differ in size where one is an enlargement of the other.
        self.compose: Any = A.Compose([A.D4(p=1.0)], additional_targets=targets, is_check_shapes=False)

    def __call__(self, rng: np.random.Generator, *images: np.ndarray) -> list[np.ndarray]:
        """Turns up to three images ``(H, W, C)`` alike; their sides may differ by a common factor."""
        self.compose.set_random_seed(int(rng.integers(2**31)))
        names = ["image", "image1", "image2"][: len(images)]
        turned = self.compose(**dict(zip(names, images, strict=True)))
        return [np.ascontiguousarray(turned[name]) for name in names]
