"""Objects that touch: learned as edge and core, told apart by a watershed."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

EDGE, CORE = 1, 2
"""Classes of :func:`tasks.segmentation.labels.object_labels`."""
DEPTH = 0.5
"""Where the core of an object begins, as a share of its inner radius."""


def objects_to_classes(numbers: np.ndarray) -> np.ndarray:
    """Turns numbers of objects into edge and core.

    The core is what lies deeper than half of the inner radius of its object, in its slice. So a gap of half a radius
    each is between the cores of neighbours that touch, which blurred probabilities do not bridge.

    Args:
        numbers: ``(Z, Y, X)`` integers, 0 outside of objects.

    Returns:
        ``(Z, Y, X)`` int16: 0 background, 1 edge, 2 core.
    """
    classes = np.where(numbers > 0, EDGE, 0).astype(np.int16)
    # Numbers may be large and far from each other.
    present, compact = np.unique(numbers, return_inverse=True)
    compact = compact.reshape(numbers.shape) + (0 if present[0] == 0 else 1)
    for number, box in enumerate(ndimage.find_objects(compact), start=1):
        # With one voxel around it; the end of the image is no edge of what it cuts.
        wider = (box[0], *(slice(max(side.start - 1, 0), side.stop + 1) for side in box[1:]))
        for slice_classes, own in zip(classes[wider], compact[wider] == number, strict=True):
            depth = ndimage.distance_transform_edt(own)
            slice_classes[own & (depth > DEPTH * depth.max())] = CORE
    return classes


def split_objects(object_probability: np.ndarray, core_probability: np.ndarray, least: int = 4) -> np.ndarray:
    """Tells objects apart.

    Each connected core is one object, and grows by a watershed on the object's probability to what belongs to objects.

    Args:
        object_probability: ``(Z, Y, X)`` of belonging to an object.
        core_probability: ``(Z, Y, X)`` of belonging to a core.
        least: Voxels; smaller cores are dropped.

    Returns:
        ``(Z, Y, X)`` int32 numbers of objects from 1 on, 0 outside.
    """
    from skimage.segmentation import watershed

    inside = object_probability > 0.5
    cores, count = ndimage.label((core_probability > 0.5) & inside)
    sizes = np.bincount(cores.ravel(), minlength=count + 1)
    large = sizes >= least
    large[0] = False
    markers = np.where(large, np.cumsum(large), 0)[cores]
    return watershed(-object_probability, markers, mask=inside).astype(np.int32)
