"""What a label map means: classes, regions made of classes, and what counts for nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

IGNORE = -1
"""Value of voxels that count for nothing, in label maps of this task."""
OBJECT, CORE = "object", "core"
"""Regions of data whose labels number objects."""


@dataclass(frozen=True)
class Labels:
    """Classes of a data set.

    A label map in memory holds 0 (background), 1, ... as the order of ``names``, and :data:`IGNORE`.

    Attributes:
        names: Classes; the first is the background.
        values: What stands for each class in files; 0 and 255 in many masks.
        ignore: What stands in files for voxels that count for nothing; ``None`` where every voxel counts.
        regions: Name and classes of each region, where overlapping regions are learned and not classes (sigmoid).
        order: Class that each region gives to its voxels, later ones over earlier ones (``regions_class_order``).
        instances: Whether the files number objects; then the regions are :data:`OBJECT` and :data:`CORE`.
    """

    names: tuple[str, ...]
    values: tuple[int, ...]
    ignore: int | None = None
    regions: tuple[tuple[str, tuple[int, ...]], ...] = ()
    order: tuple[int, ...] = ()
    instances: bool = False

    @property
    def outputs(self) -> int:
        """Channels of a network: one for each region, or else one for each class."""
        return len(self.regions) or len(self.names)

    @property
    def output_names(self) -> list[str]:
        """Names of the outputs of a network."""
        return [name for name, _ in self.regions] or list(self.names)

    @property
    def targets(self) -> list[tuple[str, tuple[int, ...]]]:
        """What is scored: name and classes of each region, or else of each class but the background."""
        return list(self.regions) or [(name, (i,)) for i, name in enumerate(self.names) if i]

    def binary(self) -> Labels:
        """Returns the same with one output where there is a single class beside the background."""
        if self.regions or len(self.names) != 2:
            return self
        return replace(self, regions=((self.names[1], (1,)),), order=(1,))

    def region_maps(self, labels: np.ndarray) -> np.ndarray:
        """Returns ``(T, *spatial)`` booleans of a label map ``(*spatial)``, one for each of :attr:`targets`."""
        return np.stack([np.isin(labels, classes) for _, classes in self.targets])

    def to_file(self, labels: np.ndarray) -> np.ndarray:
        """Returns a label map with the values that stand in files, of the smallest unsigned type."""
        largest = max(*self.values, self.ignore or 0)
        kind = np.uint8 if largest < 256 else np.uint16 if largest < 65536 else np.uint32
        # The last entry is that of -1.
        table = np.array([*self.values, self.ignore or 0], kind)
        return table[labels]

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values for JSON."""
        return asdict(self)

    @staticmethod
    def from_dict(stored: Mapping[str, Any]) -> Labels:
        """Returns what :meth:`to_dict` gave."""
        return Labels(
            tuple(stored["names"]),
            tuple(stored["values"]),
            stored["ignore"],
            tuple((name, tuple(classes)) for name, classes in stored["regions"]),
            tuple(stored["order"]),
            stored["instances"],
        )


def object_labels(name: str = OBJECT) -> Labels:
    """Returns the labels of objects: class 1 is their edge, class 2 their core."""
    return Labels(("background", "edge", CORE), (0, 1, 2), None, ((name, (1, 2)), (CORE, (2,))), (1, 2), True)
