"""NIfTI files (``.nii``, ``.nii.gz``), by nibabel."""

from __future__ import annotations

import gzip
import io
from pathlib import Path
from typing import Any

import numpy as np

from core.errors import DataError
from tasks.segmentation.data.cases import FLAT, Geometry
from tasks.segmentation.data.place import affine_of, ending_of, replace_file

HEADER_BYTES = 540
"""Size of the larger of the two headers, that of NIfTI-2; the first is of 348 bytes."""


def read(path: Path, labels: bool = False) -> tuple[np.ndarray, Geometry]:
    """Returns ``(C, Z, Y, X)`` in the type of the file, and where the voxels lie.

    The last axis of a 4-D file is the channel, as in the Medical Segmentation Decathlon.
    """
    content = path.read_bytes()
    if path.name.lower().endswith(".gz"):
        # At once and to the end, so that the checksum is compared; nibabel stops after the last voxel.
        content = gzip.decompress(content)
    image = _image_class(content).from_bytes(content)
    values = np.asanyarray(image.dataobj)
    if values.dtype.kind not in "uif":
        raise DataError(f"{path}: holds {values.dtype} values; save one number for each voxel")
    shape, channels = _shape(path, values.shape)
    return values.reshape((*shape, channels)).transpose(3, 2, 1, 0), _geometry(path, image.header)


def header(path: Path) -> Geometry:
    """Returns where the voxels lie, without reading them."""
    with gzip.open(path) if path.name.lower().endswith(".gz") else path.open("rb") as file:
        start = file.read(HEADER_BYTES)
    kind = _image_class(start).header_class
    first = kind.from_fileobj(io.BytesIO(start), check=False)
    # As in the header of an image in memory, which says nothing about the file's bytes.
    first["vox_offset"] = 0
    first.set_slope_inter(None, None)
    return _geometry(path, first)


def write(path: Path, labels: np.ndarray, geometry: Geometry) -> None:
    """Writes a label map ``(Z, Y, X)`` with the header of the image, as far as it is about space."""
    stored = geometry.header.get("nifti")
    values = labels.transpose(2, 1, 0)
    if stored is None:
        image = _image_class(b"")(values, np.array(affine_of(geometry)))
        image.header.set_xyzt_units("mm")
    else:
        kind = _image_class(stored)
        old = kind.header_class(stored)
        values = values[..., 0] if geometry.header["dims"] == 2 else values
        old.set_data_shape(values.shape)
        # No affine of our own: both forms of the header stay as they are, bit for bit.
        image = kind(values, None, old)
        for field in ("cal_max", "cal_min"):
            image.header[field] = 0
        image.header.set_intent("none")
    image.header.set_data_dtype(labels.dtype)
    image.header.set_slope_inter(1, 0)
    content = image.to_bytes()
    if path.name.lower().endswith(".gz"):
        content = gzip.compress(content, 6, mtime=0)
    replace_file(path, lambda temporary: temporary.write_bytes(content))


def _image_class(content: bytes) -> Any:
    import nibabel

    second = 540 in (int.from_bytes(content[:4], "little"), int.from_bytes(content[:4], "big"))
    return nibabel.Nifti2Image if second else nibabel.Nifti1Image


def _shape(path: Path, shape: tuple[int, ...]) -> tuple[tuple[int, int, int], int]:
    """Returns ``(X, Y, Z)`` and the number of channels."""
    # Files of vectors have an axis of time, of length one, before that of the components.
    sizes = [*shape[:3], *(size for size in shape[3:] if size != 1)]
    if len(sizes) > 4 or not np.prod(shape):
        raise DataError(f"{path}: has shape {'x'.join(map(str, shape))}; give volumes of three axes")
    x, y, z = (*sizes[:3], 1, 1)[:3]
    return (x, y, z), sizes[3] if len(sizes) == 4 else 1


def _geometry(path: Path, header: Any) -> Geometry:
    shape, _ = _shape(path, header.get_data_shape())
    zooms = [float(size) for size in header.get_zooms()[:3]]
    dims = len(header.get_data_shape())
    if dims == 2:
        zooms.append(FLAT * max(zooms))
    affine = tuple(tuple(float(value) for value in row) for row in header.get_best_affine())
    details = {"affine": affine, "nifti": header.binaryblock, "dims": dims}
    spacing = (zooms[2], zooms[1], zooms[0])
    return Geometry((shape[2], shape[1], shape[0]), spacing, ending_of(path), details)
