"""Images and what is to be found in them, in arrays."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from core.files import MadeFolder


@dataclass(frozen=True)
class Polygons:
    """Outlines of objects; an object has any number of rings, whose union it is.

    Attributes:
        points: ``(P, 2)`` float32, x and y, pixels.
        rings: ``(R + 1,)`` int64; ring r is ``points[rings[r] : rings[r + 1]]``.
        objects: ``(K + 1,)`` int64; object k has the rings ``objects[k]`` to ``objects[k + 1]``, of which there may be
            none: then it has a box and no mask.
    """

    points: np.ndarray
    rings: np.ndarray
    objects: np.ndarray

    def of(self, k: int) -> list[np.ndarray]:
        """Returns the rings of an object, each ``(N, 2)``."""
        first, last = self.objects[k : k + 2]
        return [self.points[self.rings[r] : self.rings[r + 1]] for r in range(first, last)]


@dataclass(frozen=True)
class Targets:
    """What is to be found in one image.

    Attributes:
        boxes: ``(K, 4)`` float32: left, top, right, bottom, pixels from the corner of the image, which is upright.
        labels: ``(K,)`` int64, positions in the list of classes.
        crowd: ``(K,)`` bool: COCO's iscrowd and VOC's difficult; not learned, and neither right nor wrong when found.
        area: ``(K,)`` float32, pixels: of the mask where there is one, else of the box.
        rings: Outlines of each object, lists of ``(N, 2)`` float32; ``None`` where the set has no outlines.
    """

    boxes: np.ndarray
    labels: np.ndarray
    crowd: np.ndarray
    area: np.ndarray
    rings: list[list[np.ndarray]] | None = None


@dataclass(frozen=True)
class ImageSet:
    """Images on disk and their objects, without a Python object for each: loader processes share the arrays.

    Attributes:
        root: Folder that the names lie in.
        names: ``(N,)`` str array, paths below ``root``.
        sizes: ``(N, 2)`` int32, width and height of the upright image, pixels.
        ids: ``(N,)`` int64, numbers of the images in the COCO sense: the file's own, or from 1.
        start: ``(N + 1,)`` int64; the objects of image i are ``start[i]`` to ``start[i + 1]``.
        boxes: ``(K, 4)`` float32, see :class:`Targets`.
        labels: ``(K,)`` int64.
        crowd: ``(K,)`` bool.
        area: ``(K,)`` float32.
        polygons: Outlines; ``None`` where the set has none.
    """

    root: Path
    names: np.ndarray
    sizes: np.ndarray
    ids: np.ndarray
    start: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray
    crowd: np.ndarray
    area: np.ndarray
    polygons: Polygons | None = None

    def __len__(self) -> int:
        return len(self.names)

    def path(self, i: int) -> Path:
        """Returns the file of an image."""
        return self.root / str(self.names[i])

    def targets(self, i: int) -> Targets:
        """Returns what is to be found in image ``i``."""
        first, last = int(self.start[i]), int(self.start[i + 1])
        part = slice(first, last)
        rings = None if self.polygons is None else [self.polygons.of(k) for k in range(first, last)]
        return Targets(self.boxes[part], self.labels[part], self.crowd[part], self.area[part], rings)


@dataclass
class DetectionData:
    """Checked data, see :class:`core.task.Dataset`.

    Attributes:
        name: Short name.
        classes: Names of the classes; labels are positions in it.
        category_ids: COCO's number of each class: the file's own, or from 1.
        train: To learn from; empty where only ``test_path`` was given.
        validation: For curves and early stopping; may be empty.
        test: Held out.
        notes: What was dropped, mended or assumed, one line each.
        digest: SHA-256 of the content of the test images and their objects, the classes, and the split.
        folder: Of made images; it is removed with this object.
    """

    name: str
    classes: list[str]
    category_ids: list[int]
    train: ImageSet
    validation: ImageSet
    test: ImageSet
    digest: str
    notes: list[str] = field(default_factory=list)
    folder: MadeFolder | None = None

    @property
    def size(self) -> int:
        """Number of images."""
        return len(self.train) + len(self.validation) + len(self.test)
