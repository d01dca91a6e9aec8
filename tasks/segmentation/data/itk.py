"""NRRD, MetaImage and GIPL files (``.nrrd``, ``.mha``, ``.gipl``), by SimpleITK."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from core.errors import DataError
from tasks.segmentation.data.cases import FLAT, Geometry
from tasks.segmentation.data.place import affine_of, ending_of, replace_file

TO_RAS = np.diag([-1.0, -1.0, 1.0])
"""ITK's axes point to the left and the back of a patient, NIfTI's to the right and the front."""


def read(path: Path, labels: bool = False) -> tuple[np.ndarray, Geometry]:
    """Returns ``(C, Z, Y, X)`` in the type of the file, and where the voxels lie.

    Components of a voxel are channels, and so is the last axis of a 4-D file.
    """
    sitk = _library()
    image = sitk.ReadImage(str(path))
    if "complex" in image.GetPixelIDTypeAsString():
        raise DataError(f"{path}: holds complex values; save one number for each voxel")
    values = sitk.GetArrayFromImage(image)
    dims, components = image.GetDimension(), image.GetNumberOfComponentsPerPixel()
    if components > 1:
        values = np.moveaxis(values, -1, 0)
    elif dims < 4:
        values = values[None]
    if (dims == 4 and components > 1) or dims > 4:
        raise DataError(f"{path}: has {dims} axes; give volumes of three axes")
    if dims == 2:
        values = values[:, None]
    return values, _geometry(path, image)


def header(path: Path) -> Geometry:
    """Returns where the voxels lie, without reading them."""
    reader = _library().ImageFileReader()
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    return _geometry(path, reader)


def write(path: Path, labels: np.ndarray, geometry: Geometry) -> None:
    """Writes a label map ``(Z, Y, X)`` that lies where the image does."""
    sitk = _library()
    dims = 2 if geometry.header.get("dims") == 2 else 3
    image = sitk.GetImageFromArray(labels[0] if dims == 2 else labels)
    if "itk" in geometry.header:
        origin, spacing, direction = geometry.header["itk"]
    else:
        affine = np.array(affine_of(geometry))
        spacing = np.array(geometry.spacing[::-1][:dims], float)
        axes = affine[:dims, :dims] / np.linalg.norm(affine[:dims, :dims], axis=0)
        direction = (TO_RAS[:dims, :dims] @ axes).ravel().tolist()
        origin = (TO_RAS[:dims, :dims] @ affine[:dims, 3]).tolist()
        spacing = spacing.tolist()
    image.SetOrigin(origin)
    image.SetSpacing(spacing)
    image.SetDirection(direction)
    # ITK's own errors are long and of a type of theirs.
    replace_file(path, lambda temporary: sitk.WriteImage(image, str(temporary), True))


def _library() -> Any:
    import SimpleITK

    # Its warnings go to the terminal by themselves; what matters to users is checked here.
    SimpleITK.ProcessObject.SetGlobalWarningDisplay(False)
    return SimpleITK


def _geometry(path: Path, image: Any) -> Geometry:
    """Of an image, or of a reader that has read a header: both have the same methods."""
    dims = image.GetDimension()
    size, spacing, origin = (tuple(each) for each in (image.GetSize(), image.GetSpacing(), image.GetOrigin()))
    axes = min(dims, 3)
    direction = np.array(image.GetDirection()).reshape(dims, dims)[:axes, :axes]
    affine = np.eye(4)
    affine[:axes, :axes] = TO_RAS[:axes, :axes] @ direction * np.array(spacing[:axes])
    affine[:axes, 3] = TO_RAS[:axes, :axes] @ np.array(origin[:axes])
    sizes = [float(each) for each in spacing[:axes]] + [FLAT * max(spacing)] * (3 - axes)
    shape = (*size[:axes], 1)[:3]
    details = {
        "affine": tuple(tuple(float(value) for value in row) for row in affine),
        "itk": (origin[:axes], spacing[:axes], tuple(float(value) for value in direction.ravel())),
        "dims": axes,
    }
    where = (int(shape[2]), int(shape[1]), int(shape[0]))
    return Geometry(where, (sizes[2], sizes[1], sizes[0]), ending_of(path), details)
