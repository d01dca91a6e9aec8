"""Random changes of training patches: what they have in common, and the simple ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from core.errors import ConfigError
from core.registry import Registry

if TYPE_CHECKING:
    from tasks.segmentation.config import AugmentConfig
    from tasks.segmentation.planning.plan import Plan

Read = Callable[[tuple[int, ...]], tuple[Tensor, Tensor]]
"""Gives image ``(C, *size)`` and labels ``(*size)`` of a box of any size about the centre of a patch."""


class Augmentation:
    """No change (kind ``none``), and the base of the others.

    Args:
        config: Which changes.
        plan: Patch and channels.
        intensity: Whether values are changed too; pre-training moves voxels alone (arXiv:2410.23132).
    """

    def __init__(self, config: AugmentConfig, plan: Plan, intensity: bool = True) -> None:
        self.config, self.patch, self.intensity = config, plan.patch_size, intensity
        axes = range(plan.dims) if config.mirror is None else config.mirror
        if not set(axes) <= set(range(plan.dims)):
            known = ", ".join(map(str, range(plan.dims)))
            raise ConfigError(
                f"--augment.mirror: {config.mirror}: the axes of this plan's patches are {known}"
            )
        self.axes = sorted(set(axes))

    def __call__(self, read: Read, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Returns a patch: image ``(C, *patch)`` and labels ``(*patch)``.

        Args:
            read: Gives the voxels about the patch's centre. What rotates or shrinks asks for more than a patch.
            rng: The only source of randomness.
        """
        return read(self.patch)

    def mirror(self, image: Tensor, labels: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Mirrors each axis that may be mirrored with a probability of one half."""
        axes = [axis - len(self.patch) for axis in self.axes if rng.random() < 0.5]
        return image.flip(axes), labels.flip(axes)


class Mirror(Augmentation):
    """Mirroring alone (kind ``mirror``)."""

    def __call__(self, read: Read, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """See :meth:`Augmentation.__call__`."""
        return self.mirror(*read(self.patch), rng)


AUGMENTATIONS: Registry[Callable[[AugmentConfig, Plan, bool], Augmentation]] = Registry("augmentation")
AUGMENTATIONS.register("none")(Augmentation)
AUGMENTATIONS.register("mirror")(Mirror)


# MONAI and albumentations take seconds to import, so they are imported where they are asked for.
@AUGMENTATIONS.register("nnunet")
def _nnunet(config: AugmentConfig, plan: Plan, intensity: bool) -> Augmentation:
    from tasks.segmentation.augment import NNUNetAugmentation

    return NNUNetAugmentation(config, plan, intensity)


@AUGMENTATIONS.register("flips")
def _flips(config: AugmentConfig, plan: Plan, intensity: bool) -> Augmentation:
    from tasks.segmentation.flips import Flips

    return Flips(config, plan, intensity)
