"""The spacing that cases are brought to, and their sizes there (nnU-Net, Isensee et al. 2021)."""

from __future__ import annotations

import numpy as np

from tasks.segmentation.data.cases import FLAT
from tasks.segmentation.planning.fingerprint import Fingerprint
from tasks.segmentation.planning.topology import AXES, times

ANISOTROPY = 3
"""An axis this much coarser than the others, and this much shorter, is treated on its own."""


def target_spacing(fingerprint: Fingerprint) -> tuple[np.ndarray, str]:
    """Returns the spacing of full resolution, mm, and why it is that.

    It is the median along each axis. Where one axis is much coarser than the others and has much fewer voxels,
    its 10th percentile is taken, so that cases of fine slices do not lose too much.
    """
    spacings = np.array(fingerprint.spacings, float)
    spacing = np.percentile(spacings, 50, 0)
    shape = np.percentile(np.array(fingerprint.shapes), 50, 0)
    worst = int(np.argmax(spacing))
    others = [axis for axis in range(3) if axis != worst]
    coarsest = spacing[others].max()
    why = f"medians of {len(spacings)} cases"
    if spacing[0] == FLAT:
        return spacing, f"spacing {times(spacing[1:])} mm: {why}, which are images"
    if spacing[worst] > ANISOTROPY * coarsest and shape[worst] * ANISOTROPY < shape[others].min():
        tenth = np.percentile(spacings[:, worst], 10)
        why += (
            f"; axis {AXES[worst]} is more than {ANISOTROPY} times coarser and shorter than the others and "
        )
        if tenth < coarsest:
            # Just above, so that this axis stays the first.
            spacing[worst] = coarsest + 1e-5
            why += f"gets theirs, since the 10th percentile of its spacings, {tenth:.6g}, is even finer"
        else:
            spacing[worst] = tenth
            why += "gets the 10th percentile of its spacings"
    return spacing, f"spacing {times(spacing)} mm: {why}"


def median_shape(fingerprint: Fingerprint, spacing: np.ndarray) -> np.ndarray:
    """Returns the ``(3,)`` median size of the cases at a spacing; entries may end in .5."""
    shapes = [
        [round(old / new * voxels) for old, new, voxels in zip(before, spacing, shape, strict=True)]
        for before, shape in zip(np.array(fingerprint.spacings, float), fingerprint.shapes, strict=True)
    ]
    return np.median(np.array(shapes), 0)
