"""Noise on the segmentation of a coarser model, which the second model of a cascade also reads.

Without it that model copies what it is given: on training cases, the coarser model is better than it will be.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

LARGEST = 0.15
"""Share of a patch from which a component is not removed."""


def change_shape(maps: np.ndarray, rng: np.random.Generator) -> None:
    """Dilates, erodes, closes or opens each class at random, in place.

    Args:
        maps: ``(K, *spatial)`` booleans, one map for each class. What a class gains, the others lose.
        rng: The only source of randomness.
    """
    for k in rng.permutation(len(maps)):
        if not maps[k].any():
            continue
        radius = int(rng.integers(1, 9))
        steps = ((radius,), (-radius,), (radius, -radius), (-radius, radius))[rng.integers(4)]
        changed = maps[k]
        for step in steps:
            changed = _grow(changed, step)
        maps[:, changed & ~maps[k]] = False
        maps[k] = changed


def _grow(mask: np.ndarray, radius: int) -> np.ndarray:
    """Dilates by a ball, or erodes where the radius is negative.

    By distances, whose time does not depend on the radius; a ball of radius 8 has two thousand voxels.
    """
    if mask.all() or not mask.any():
        return mask
    if radius > 0:
        return ndimage.distance_transform_edt(~mask) <= radius
    return ndimage.distance_transform_edt(mask) > -radius


def remove_component(maps: np.ndarray, rng: np.random.Generator) -> None:
    """Removes one connected component of each class at random, in place; large ones stay.

    Args:
        maps: ``(K, *spatial)`` booleans.
        rng: The only source of randomness.
    """
    for mask in maps:
        components, _ = ndimage.label(mask)
        sizes = np.bincount(components.ravel())
        small = 1 + np.flatnonzero(sizes[1:] < LARGEST * mask.size)
        if len(small):
            mask[components == rng.choice(small)] = False
