"""Where a preprocessed case lies in its file."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Frame:
    """What brings a prediction back to the voxels of the file. All but ``shape`` is along the axes after the transpose.

    Attributes:
        shape: ``(Z, Y, X)`` of the file.
        transpose: Axis of the file that becomes each axis.
        box: First voxel, and the first one behind, of what was kept by the crop.
        spacing: Of the file, mm.
        new_spacing: After resampling, mm.
        new_shape: Of the preprocessed image, voxels.
    """

    shape: tuple[int, int, int]
    transpose: tuple[int, int, int]
    box: tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
    spacing: tuple[float, float, float]
    new_spacing: tuple[float, float, float]
    new_shape: tuple[int, int, int]

    @property
    def cropped(self) -> tuple[int, int, int]:
        """Shape after the crop, before resampling, voxels."""
        z, y, x = (stop - start for start, stop in self.box)
        return z, y, x

    def to_crop(self, array: np.ndarray) -> np.ndarray:
        """Returns the view of ``(..., Z, Y, X)`` as in the file that was kept, ``(..., *cropped)``."""
        lead = array.ndim - 3
        axes = [*range(lead), *(lead + axis for axis in self.transpose)]
        z, y, x = (slice(*ends) for ends in self.box)
        return array.transpose(axes)[..., z, y, x]
