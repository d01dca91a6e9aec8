"""nnU-Net's augmentation, with its order and probabilities (Isensee et al., Nature Methods 2021, supplement)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from tasks.segmentation import intensity as change
from tasks.segmentation.previous import change_shape, remove_component
from tasks.segmentation.spatial import affine_matrix, source_size, warp, warp_labels
from tasks.segmentation.transforms import Augmentation, Read

if TYPE_CHECKING:
    from tasks.segmentation.config import AugmentConfig
    from tasks.segmentation.planning.plan import Plan

ANISOTROPIC = 3
"""Ratio of sides above which a patch of volumes is turned in its slices alone."""


class NNUNetAugmentation(Augmentation):
    """Rotation, scale, noise, blur, brightness, contrast, resolution, gamma, mirroring (kind ``nnunet``).

    The last channels, where they are the segmentation of a coarser model, keep their values and are changed in shape.

    Args:
        config: Axes that are mirrored, and a factor on the probabilities.
        plan: Patch and channels.
        intensity: Whether values are changed too.
    """

    def __init__(self, config: AugmentConfig, plan: Plan, intensity: bool = True) -> None:
        super().__init__(config, plan, intensity)
        patch = plan.patch_size
        self.masked, self.previous = plan.masked_normalisation, plan.previous_classes
        self.slices = plan.dims == 3 and max(patch) / patch[0] > ANISOTROPIC
        self.planar = self.slices or plan.dims == 2
        if self.planar:
            narrow = plan.dims == 2 and max(patch) / min(patch) > 1.5
            self.angle = math.radians(15 if narrow else 180)
        else:
            self.angle = math.radians(30)

    def __call__(self, read: Read, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """See :meth:`Augmentation.__call__`."""
        image, labels = self.move(read, rng)
        scans = image.shape[0] - self.previous
        # Outside of the body the value is exactly 0 where channels are normalised inside of it, and stays so.
        outside = [image[c] == 0 if self.masked[c] else None for c in range(scans)]
        if self.intensity:
            self.change_values(image[:scans], rng)
        for channel, nothing in zip(image[:scans], outside, strict=True):
            if nothing is not None:
                channel[nothing] = 0
        image, labels = self.mirror(image, labels, rng)
        if self.previous:
            self.change_previous(image[scans:], rng)
        return image, labels

    def move(self, read: Read, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Returns a patch that is rotated with probability 0.2 and scaled with probability 0.2."""
        angles = [0.0] if self.planar else [0.0, 0.0, 0.0]
        scale = 1.0
        if rotate := self._chance(0.2, rng):
            angles = list(rng.uniform(-self.angle, self.angle, len(angles)))
        if zoom := self._chance(0.2, rng):
            scale = rng.uniform(0.7, 1.4)
        if not (rotate or zoom):
            return read(self.patch)
        matrix = affine_matrix(angles, scale)
        image, labels = read(source_size(matrix, self.patch))
        scans = image.shape[0] - self.previous
        moved = warp(image[:scans], matrix, self.patch)
        if self.previous:
            moved = torch.cat([moved, warp(image[scans:], matrix, self.patch, "nearest")])
        return moved, warp_labels(labels, matrix, self.patch)

    def change_values(self, image: Tensor, rng: np.random.Generator) -> None:
        """Changes the values of an image ``(C, *patch)`` in place."""
        dims = image.ndim - 1
        if self._chance(0.1, rng):
            noise = rng.standard_normal(tuple(image.shape), np.float32)
            image += float(rng.uniform(0, 0.1)) * torch.from_numpy(noise)
        if self._chance(0.2, rng):
            for channel in self._some(image, rng):
                channel.copy_(change.blur(channel, rng.uniform(0.5, 1, dims).tolist()))
        if self._chance(0.15, rng):
            for channel in image:
                channel *= _factor(0.75, 1.25, rng)
        if self._chance(0.15, rng):
            for channel in image:
                channel.copy_(change.contrast(channel, _factor(0.75, 1.25, rng)))
        if self._chance(0.25, rng):
            for channel in self._some(image, rng):
                channel.copy_(change.low_resolution(channel, rng.uniform(0.5, 1), self.slices))
        for probability, inverted in ((0.1, True), (0.3, False)):
            if self._chance(probability, rng):
                for channel in image:
                    channel.copy_(change.gamma(channel, _factor(0.7, 1.5, rng), inverted))

    def change_previous(self, maps: Tensor, rng: np.random.Generator) -> None:
        """Changes the segmentation of a coarser model ``(K, *patch)`` in place."""
        changed = maps.numpy() > 0.5
        if self._chance(0.4, rng):
            change_shape(changed, rng)
        if self._chance(0.2, rng):
            remove_component(changed, rng)
        maps.copy_(torch.from_numpy(changed))

    def _chance(self, probability: float, rng: np.random.Generator) -> bool:
        return rng.random() < probability * self.config.probability

    def _some(self, image: Tensor, rng: np.random.Generator) -> list[Tensor]:
        """Returns each channel with a probability of one half."""
        return [channel for channel in image if rng.random() < 0.5]


def _factor(low: float, high: float, rng: np.random.Generator) -> float:
    """Draws below and above 1 equally often, though the interval is longer above."""
    return float(rng.uniform(low, 1) if rng.random() < 0.5 else rng.uniform(1, high))
