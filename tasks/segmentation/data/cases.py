"""Cases and data sets. All arrays are ``(C, Z, Y, X)``; an image is a volume of one slice."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tasks.segmentation.labels import Labels

FLAT = 999.0
"""Spacing of the only slice of an image, as in nnU-Net."""


@dataclass(frozen=True)
class Geometry:
    """Where the voxels of a file lie, and what is needed to write another file like it.

    Attributes:
        shape: ``(Z, Y, X)`` voxels.
        spacing: Size of a voxel along these axes, mm; ``(999, 1, 1)`` for images.
        ending: Of the file: ``.nii.gz``, ``.png``.
        header: What the writer of that format needs: affine, origin, direction.
    """

    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    ending: str
    header: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Scan:
    """What one look at a training case told; it is kept where the voxels are not.

    Attributes:
        digest: Hex SHA-256 of voxels, labels and mask, of the spacing and of which channels are used.
        shape: After the crop to what is not zero.
        spacing: mm.
        relative_size: Share of the voxels that the crop left.
        intensities: ``(C, N)`` float32 values inside labelled classes, drawn with a seed from the name; N may be 0.
        classes: Voxels of each class by its index; empty without labels.
    """

    digest: str
    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    relative_size: float
    intensities: np.ndarray
    classes: dict[int, int]


@dataclass(frozen=True)
class Case:
    """One image or volume with its labels, on disk.

    Attributes:
        name: ``hippocampus_001``.
        images: One file for each channel, or one file with all channels.
        label: Label file; ``None`` where only images are known.
        mask: Field of view, outside of which nothing counts; ``None`` for all.
        geometry: Of the files.
        scan: What a look at it told.
    """

    name: str
    images: tuple[Path, ...]
    label: Path | None
    mask: Path | None
    geometry: Geometry
    scan: Scan


@dataclass
class Voxels:
    """A case in memory.

    Attributes:
        image: ``(C, Z, Y, X)`` float32 as in the files.
        labels: ``(Z, Y, X)`` int16 of classes and ``IGNORE``; ``None`` without labels.
        mask: ``(Z, Y, X)`` bool, the field of view; ``None`` for all.
        objects: ``(Z, Y, X)`` int32 numbers of objects, where labels number objects.
        geometry: Of the files.
    """

    image: np.ndarray
    labels: np.ndarray | None
    mask: np.ndarray | None
    objects: np.ndarray | None
    geometry: Geometry


@dataclass(frozen=True)
class Fold:
    """Positions of cases.

    Attributes:
        name: ``model``, or ``fold_0`` and so on.
        train: To learn from.
        validation: For the curves and the post-processing; in cross-validation the same as ``test``, as in nnU-Net.
        test: Held out.
    """

    name: str
    train: tuple[int, ...]
    validation: tuple[int, ...]
    test: tuple[int, ...]


@dataclass
class SegmentationData:
    """A :class:`core.task.Dataset` of cases.

    Attributes:
        name: Short name.
        cases: All cases, sorted by name.
        folds: Splits; one, named ``model``, without cross-validation.
        labels: What the label maps mean.
        channels: Names of the channels, which decide about their normalisation: ``MRI``, ``CT``, ``rgb_to_0_1``.
        read: Reads the voxels of a case.
        notes: What the loader dropped or assumed.
        folder: Holds files that were made for this data, such as the embedded sets; kept alive by it.
    """

    name: str
    cases: list[Case]
    folds: list[Fold]
    labels: Labels
    channels: list[str]
    read: Callable[[Case], Voxels]
    notes: list[str] = field(default_factory=list)
    folder: Any = None

    @property
    def size(self) -> int:
        """Number of cases."""
        return len(self.cases)

    @property
    def flat(self) -> bool:
        """Whether all cases are images."""
        return all(case.geometry.shape[0] == 1 for case in self.cases)

    @property
    def training(self) -> list[Case]:
        """The cases that some network learns from: those that are planned for."""
        used = {i for fold in self.folds for i in fold.train}
        return [self.cases[i] for i in sorted(used)]

    @property
    def digest(self) -> str:
        """Hex SHA-256 of the content of all cases, their meaning and the split."""
        total = hashlib.sha256(repr((self.labels, self.channels)).encode())
        for case in self.cases:
            total.update(f"{case.name}\0{case.scan.digest}".encode(errors="surrogateescape"))
        for fold in self.folds:
            # Which of the training cases are looked at for the curves does not change the test.
            total.update(repr((fold.name, sorted({*fold.train, *fold.validation}), fold.test)).encode())
        return total.hexdigest()
