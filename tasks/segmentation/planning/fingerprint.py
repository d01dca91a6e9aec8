"""What planning knows of a data set: sizes, spacings and intensities of its training cases."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from core.errors import DataError
from core.files import load_json
from tasks.segmentation.data.cases import FLAT, Scan
from tasks.segmentation.planning.plan import Intensities

STATISTICS = ("max", "mean", "median", "min", "percentile_00_5", "percentile_99_5", "std")


@dataclass
class Fingerprint:
    """Facts about training cases.

    Attributes:
        spacings: Of each case, mm, first axis first.
        shapes: Of each case after the crop to what is not zero, voxels.
        relative_size: Median share of the voxels that the crop left.
        intensities: Of each channel, :data:`STATISTICS` of the labelled voxels; empty where none are labelled.
    """

    spacings: list[tuple[float, float, float]]
    shapes: list[tuple[int, int, int]]
    relative_size: float
    intensities: list[dict[str, float]]

    @property
    def flat(self) -> bool:
        """Whether all cases are images."""
        return all(spacing[0] == FLAT for spacing in self.spacings)

    def to_json(self) -> dict[str, Any]:
        """Returns the content of nnU-Net's ``dataset_fingerprint.json``."""
        return {
            "foreground_intensity_properties_per_channel": {
                str(i): dict(each) for i, each in enumerate(self.intensities)
            },
            "median_relative_size_after_cropping": self.relative_size,
            "shapes_after_crop": [list(shape) for shape in self.shapes],
            "spacings": [list(spacing) for spacing in self.spacings],
        }

    @staticmethod
    def from_json(stored: dict[str, Any]) -> Fingerprint:
        """Returns what :meth:`to_json` or nnU-Net gave."""
        channels = stored["foreground_intensity_properties_per_channel"]
        return Fingerprint(
            [_three(each) for each in stored["spacings"]],
            [_three(each) for each in stored["shapes_after_crop"]],
            stored["median_relative_size_after_cropping"],
            [dict(channels[key]) for key in sorted(channels.keys(), key=int)],
        )


def _three(values: Sequence[Any]) -> tuple[Any, Any, Any]:
    first, second, third = values
    return first, second, third


def take_fingerprint(scans: Sequence[Scan], channels: int) -> Fingerprint:
    """Puts together what was seen of each case.

    Args:
        scans: Of the training cases.
        channels: Number of channels.
    """
    return Fingerprint(
        [_three([float(mm) for mm in scan.spacing]) for scan in scans],
        [_three([int(voxels) for voxels in scan.shape]) for scan in scans],
        float(np.median([scan.relative_size for scan in scans])),
        [
            _statistics(np.concatenate([scan.intensities[channel] for scan in scans]))
            for channel in range(channels)
        ],
    )


def _statistics(values: np.ndarray) -> dict[str, float]:
    """Returns statistics of ``(N,)`` intensities; none without intensities."""
    if not values.size:
        return {}
    values = values.astype(np.float64)
    low, middle, high = np.percentile(values, (0.5, 50, 99.5))
    results = (values.max(), values.mean(), middle, values.min(), low, high, values.std())
    return {name: float(value) for name, value in zip(STATISTICS, results, strict=True)}


def normalising(intensities: Sequence[dict[str, float]]) -> tuple[Intensities, ...]:
    """Returns what CT is normalised by, for each channel; 0 and 1 where no voxel is labelled."""
    return tuple(
        Intensities(each["mean"], each["std"], each["percentile_00_5"], each["percentile_99_5"])
        if each
        else Intensities(0.0, 1.0, 0.0, 0.0)
        for each in intensities
    )


def read_fingerprint(path: Path) -> Fingerprint:
    """Reads a ``dataset_fingerprint.json``.

    Raises:
        DataError: It cannot be read, lacks something, or holds sizes that no case has.
    """
    stored = read_json(path)
    try:
        fingerprint = Fingerprint.from_json(stored)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{path} is not a dataset_fingerprint.json of nnU-Net: {error!r}") from None
    if not fingerprint.shapes or len(fingerprint.shapes) != len(fingerprint.spacings):
        raise DataError(
            f"{path} holds {len(fingerprint.shapes)} shapes and {len(fingerprint.spacings)} spacings"
        )
    for spacing, shape in zip(fingerprint.spacings, fingerprint.shapes, strict=True):
        if not all(_is_number(mm) and 0 < mm < math.inf for mm in spacing):
            raise DataError(f"{path}: spacing {list(spacing)} must be three numbers of mm above 0")
        if not all(isinstance(voxels, int) and voxels >= 1 for voxels in shape):
            raise DataError(f"{path}: shape {list(shape)} must be three whole numbers from 1 on")
    if not (_is_number(fingerprint.relative_size) and 0 <= fingerprint.relative_size <= 1):
        raise DataError(
            f"{path}: median_relative_size_after_cropping {fingerprint.relative_size!r} must lie between 0 and 1"
        )
    for channel, known in enumerate(fingerprint.intensities):
        if known and not all(_is_number(known.get(name)) for name in STATISTICS):
            raise DataError(f"{path}: channel {channel} needs the numbers {', '.join(STATISTICS)}, or none")
    return fingerprint


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float)


def read_json(path: Path) -> dict[str, Any]:
    """Reads a JSON object.

    Raises:
        DataError: The file is missing, or is no JSON object.
    """
    try:
        stored = load_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise DataError(f"{path} is not JSON: {error}") from None
    if not isinstance(stored, dict):
        raise DataError(f"{path} holds no JSON object")
    return stored
