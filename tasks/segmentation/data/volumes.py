"""Reads images, volumes and label maps, and writes label maps that lie where the image does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np

from core.errors import ConfigError, DataError
from tasks.segmentation.data import itk, nifti, pictures, stacks
from tasks.segmentation.data.cases import Geometry
from tasks.segmentation.data.place import ENDINGS, difference, ending_of, stem

__all__ = [
    "ENDINGS",
    "VOLUME_ENDINGS",
    "header",
    "label_ending",
    "read_image",
    "read_labels",
    "read_mask",
    "stem",
    "write_labels",
]

WHOLE_TOLERANCE = 1e-3
"""Distance from a whole number that counts as rounding; NIfTI stores labels as scaled numbers at times."""
T = TypeVar("T")


class Format(Protocol):
    """A kind of files."""

    def read(self, path: Path, labels: bool = False) -> tuple[np.ndarray, Geometry]:
        """Returns ``(C, Z, Y, X)`` and where it lies."""

    def header(self, path: Path) -> Geometry:
        """Returns where the voxels lie."""

    def write(self, path: Path, labels: np.ndarray, geometry: Geometry) -> None:
        """Writes a label map."""


_NIFTI, _ITK, _STACKS = (".nii.gz", ".nii"), (".nrrd", ".mha", ".gipl"), (".tif", ".tiff", ".npy")
VOLUME_ENDINGS = (*_NIFTI, *_ITK)
"""Formats that know where voxels lie."""
_PICTURES: Format = pictures
FORMATS: dict[str, Format] = {
    **dict.fromkeys(ENDINGS, _PICTURES),
    **dict.fromkeys(_NIFTI, nifti),
    **dict.fromkeys(_ITK, itk),
    **dict.fromkeys(_STACKS, stacks),
}


def read_image(paths: Sequence[Path], channels: Sequence[int] | None = None) -> tuple[np.ndarray, Geometry]:
    """Reads an image or a volume.

    Args:
        paths: One file with all channels, or one for each channel.
        channels: Which channels are kept, from 0; all by default.

    Returns:
        ``(C, Z, Y, X)`` float32 with the values of the files, and where the voxels of the first file lie. The order
        of the axes is that of SimpleITK's arrays.

    Raises:
        DataError: A file is missing, damaged or no image, or the files of the channels do not fit together.
    """
    parts: list[np.ndarray] = []
    geometry: Geometry | None = None
    for path in paths:
        values, where = _guarded(path, _read_image)
        if geometry is not None and (found := difference(geometry, where)):
            raise DataError(
                f"{path}: {found.replace('the image', paths[0].name)}; give channels of one size and place"
            )
        geometry = geometry or where
        parts.append(values)
    assert geometry is not None
    image = np.concatenate(parts) if len(parts) > 1 else parts[0]
    if channels is not None:
        if max(channels) >= len(image):
            raise DataError(
                f"{paths[0]}: has {len(image)} channels, but number {max(channels)} is wanted (from 0)"
            )
        image = image[list(channels)]
    # Values beyond float32 become infinite, which is told when the case is looked at.
    with np.errstate(over="ignore"):
        return np.require(image, np.float32, ["C", "W"]), geometry


def read_labels(path: Path) -> tuple[np.ndarray, Geometry]:
    """Reads a label map ``(Z, Y, X)`` int32 with the numbers of the file.

    Raises:
        DataError: It cannot be read, has several channels, or holds other than whole numbers from 0 on.
    """
    values, geometry = _guarded(path, _read_labels)
    if len(values) != 1:
        raise DataError(
            f"{path}: a label map has one value for each voxel, this one {len(values)} (4-D file)"
        )
    return _whole(path, values[0]), geometry


def read_mask(path: Path) -> tuple[np.ndarray, Geometry]:
    """Reads a field of view ``(Z, Y, X)`` of booleans: all that is not 0."""
    values, geometry = read_labels(path)
    return values > 0, geometry


def header(paths: Sequence[Path]) -> Geometry:
    """Returns where the voxels of a case lie, without reading them where the format allows.

    Raises:
        DataError: The first file is missing or damaged.
    """
    return _guarded(paths[0], _header)


def write_labels(path: Path, labels: np.ndarray, geometry: Geometry) -> None:
    """Writes a label map ``(Z, Y, X)`` of an unsigned type, which the file keeps, that lies where the image does.

    The file appears at once and complete. Missing folders are made.

    Raises:
        ConfigError: The ending is unknown, the format cannot hold these labels, or the place cannot be written.
    """
    ending = ending_of(path)
    if not ending:
        raise ConfigError(f"{path}: unknown ending; use one of {', '.join(ENDINGS)}")
    try:
        FORMATS[ending].write(path, np.ascontiguousarray(labels), geometry)
    # What SimpleITK raises.
    except RuntimeError as error:
        raise ConfigError(
            f"{path}: cannot be written ({_reason(error)}); choose another place or ending"
        ) from None


def label_ending(ending: str) -> str:
    """Returns the ending for labels of an image with this one: the same, or ``.png`` where labels do not survive."""
    return ".png" if ending in (*pictures.LOSSY, ".webp", ".gif", ".ppm", ".pgm", ".bmp", "") else ending


def _read_image(path: Path) -> tuple[np.ndarray, Geometry]:
    return _checked(path).read(path)


def _read_labels(path: Path) -> tuple[np.ndarray, Geometry]:
    return _checked(path).read(path, labels=True)


def _header(path: Path) -> Geometry:
    return _checked(path).header(path)


def _checked(path: Path) -> Format:
    if ending_of(path) not in FORMATS:
        raise DataError(f"{path}: unknown ending; give files of {', '.join(ENDINGS)}")
    return FORMATS[ending_of(path)]


def _guarded(path: Path, use: Callable[[Path], T]) -> T:
    try:
        return use(path)
    except DataError:
        raise
    except FileNotFoundError:
        raise DataError(f"{path}: there is no such file") from None
    # Libraries raise many types on damaged files, and all of them mean the same to the user.
    except Exception as error:
        if not path.exists():
            raise DataError(f"{path}: there is no such file") from None
        raise DataError(
            f"{path}: cannot be read ({_reason(error)}); damaged or cut short, copy it again"
        ) from None


def _reason(error: Exception) -> str:
    # ITK's texts are long, and the last line says what it is about.
    lines = [line.strip() for line in str(error).strip().splitlines() if line.strip()]
    text = (lines[-1] if isinstance(error, RuntimeError) else lines[0]) if lines else type(error).__name__
    return text[:120]


def _whole(path: Path, values: np.ndarray) -> np.ndarray:
    if values.dtype.kind == "f":
        if not np.isfinite(values).all():
            raise DataError(f"{path}: the label map holds NaN or infinite values; write whole numbers")
        rounded = np.rint(values)
        wrong = np.abs(values - rounded) > WHOLE_TOLERANCE
        if wrong.any():
            raise DataError(f"{path}: the label {values[wrong][0]:g} is no whole number; save class numbers")
        values = rounded
    least, most = values.min(), values.max()
    if least < 0 or most > np.iinfo(np.int32).max:
        raise DataError(
            f"{path}: the label {least if least < 0 else most:g} is out of range; labels start at 0"
        )
    return np.require(values, np.int32, ["C", "W"])
