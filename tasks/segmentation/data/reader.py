"""Reads the voxels of a case again, as the data set means them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from core.errors import DataError
from tasks.segmentation.data.cases import Case, Geometry, Voxels
from tasks.segmentation.data.scan import match_channel_count
from tasks.segmentation.data.volumes import read_image, read_labels, read_mask
from tasks.segmentation.labels import IGNORE, Labels


@dataclass(frozen=True)
class CaseReader:
    """Reads cases of a data set.

    Attributes:
        labels: What label maps mean.
        wanted: Channels that images are brought to.
        channels: Which of them are used.
    """

    labels: Labels
    wanted: int
    channels: tuple[int, ...]

    def read(self, case: Case) -> Voxels:
        """Reads a case.

        Raises:
            DataError: Its files have changed since they were looked at.
        """
        image, geometry = read_image(case.images)
        image = match_channel_count(image, self.wanted, case.name)
        if self.channels != tuple(range(self.wanted)):
            image = image[list(self.channels)]
        stored = _like(geometry, read_labels(case.label), case.name) if case.label else None
        mask = _like(geometry, read_mask(case.mask), case.name) if case.mask else None
        if stored is not None and self.labels.instances:
            from tasks.segmentation.objects import objects_to_classes

            return Voxels(image, objects_to_classes(stored), mask, stored, case.geometry)
        labels = None if stored is None else to_classes(stored, self.labels, case.name)
        return Voxels(image, labels, mask, None, case.geometry)


def to_classes(stored: np.ndarray, labels: Labels, name: str) -> np.ndarray:
    """Turns the values of a label file into classes.

    Args:
        stored: Integers of any shape, from 0 on.
        labels: What they mean.
        name: Of the case, for the error.

    Returns:
        int16 of the same shape: classes, and ``IGNORE``.

    Raises:
        DataError: A value means nothing.
    """
    known = [*labels.values, *([] if labels.ignore is None else [labels.ignore])]
    unknown = IGNORE - 1
    table = np.full(max(known) + 2, unknown, np.int16)
    table[list(labels.values)] = np.arange(len(labels.values))
    if labels.ignore is not None:
        table[labels.ignore] = IGNORE
    classes = table[np.minimum(stored, len(table) - 1)]
    if (classes == unknown).any():
        value = stored[classes == unknown].flat[0]
        raise DataError(f"{name}: the label {value} is out of range; known are {', '.join(map(str, known))}")
    return classes


def _like(geometry: Geometry, read: tuple[np.ndarray, Geometry], name: str) -> np.ndarray:
    if read[1].shape != geometry.shape:
        raise DataError(f"{name}: its files have changed since they were looked at; start again")
    return read[0]
