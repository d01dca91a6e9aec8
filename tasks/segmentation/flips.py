"""Flips, quarter turns, brightness and contrast of images, by albumentations."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from core.errors import ConfigError
from tasks.segmentation.transforms import Augmentation, Read

# Its import would otherwise look for a newer version on the network.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

import albumentations as A

if TYPE_CHECKING:
    from tasks.segmentation.config import AugmentConfig
    from tasks.segmentation.planning.plan import Plan


class Flips(Augmentation):
    """The symmetries of the patch, and half of the time other brightness and contrast (kind ``flips``).

    A square patch whose axes may all be mirrored takes one of eight symmetries; else axes are flipped alone.

    Args:
        config: Axes that are mirrored.
        plan: Patch and channels.
        intensity: Whether values are changed too.

    Raises:
        ConfigError: The plan is one of volumes.
    """

    def __init__(self, config: AugmentConfig, plan: Plan, intensity: bool = True) -> None:
        super().__init__(config, plan, intensity)
        if plan.dims != 2:
            raise ConfigError(
                "--augment.kind flips is for images and slices, this plan has volumes: use nnunet or mirror, "
                "or --plan.configuration 2d"
            )
        self.scans = len(plan.normalisation)
        whole = self.axes == [0, 1] and self.patch[0] == self.patch[1]
        single = {0: A.VerticalFlip, 1: A.HorizontalFlip}
        moves = [A.D4(p=1.0)] if whole else [single[axis](p=0.5) for axis in self.axes]
        # Each on its own: the members of one Compose share a seed, and would always flip together.
        self.moves: list[Any] = [A.Compose([move]) for move in moves]
        self.light: Any = A.Compose([A.RandomBrightnessContrast(p=0.5)])

    def __call__(self, read: Read, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """See :meth:`Augmentation.__call__`."""
        image, labels = read(self.patch)
        patch = {"image": np.ascontiguousarray(image.movedim(0, -1).numpy()), "mask": labels.numpy()}
        for move in self.moves:
            move.set_random_seed(int(rng.integers(2**31)))
            patch = move(**patch)
        pixels = patch["image"]
        if self.intensity:
            self.light.set_random_seed(int(rng.integers(2**31)))
            scans = pixels[..., : self.scans]
            # albumentations takes floats to be of 0..1 and cuts off the rest.
            low, width = scans.min(), np.ptp(scans) or np.float32(1)
            scans[...] = self.light(image=(scans - low) / width)["image"] * width + low
        mask = np.ascontiguousarray(patch["mask"])
        return torch.from_numpy(np.ascontiguousarray(pixels)).movedim(-1, 0), torch.from_numpy(mask)
