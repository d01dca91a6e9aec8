"""Where voxels lie: endings of files, affine matrices, comparison of two files."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from core.errors import ConfigError
from tasks.segmentation.data.cases import Geometry

ENDINGS = (
    *(".nii.gz", ".nii", ".nrrd", ".mha", ".gipl"),
    *(".png", ".tif", ".tiff", ".bmp", ".jpg", ".jpeg", ".webp", ".gif", ".pgm", ".ppm", ".npy"),
)
"""Endings of the files that are read, in lower case."""
SPACING_TOLERANCE = 1e-3
"""Relative difference of two spacings that counts as rounding."""
PLACE_TOLERANCE = 0.1
"""Distance, in voxels, between corners of two files that counts as rounding of their headers."""


def ending_of(path: Path) -> str:
    """Returns the known ending of a file in lower case, ``.nii.gz`` for one; empty for other files."""
    name = path.name.lower()
    return next((ending for ending in ENDINGS if name.endswith(ending)), "")


def stem(path: Path) -> str:
    """Returns the name of a file without its ending: ``case`` for ``case.nii.gz``."""
    ending = ending_of(path)
    return path.name[: -len(ending)] if ending else path.stem


def affine_of(geometry: Geometry) -> tuple[tuple[float, ...], ...]:
    """Returns the matrix from indices ``(x, y, z, 1)`` to mm, to the right, the front and the top (RAS)."""
    if "affine" in geometry.header:
        return geometry.header["affine"]
    z, y, x = geometry.spacing
    return ((x, 0.0, 0.0, 0.0), (0.0, y, 0.0, 0.0), (0.0, 0.0, z, 0.0), (0.0, 0.0, 0.0, 1.0))


def difference(first: Geometry, second: Geometry) -> str | None:
    """Says how a file lies elsewhere than another one, or returns ``None`` where both fit.

    Shapes must be equal. Spacings may differ by 0.1 %, and corners by a tenth of a voxel, since programs round what
    they write into headers. Where one file knows no place, as pictures, only shapes are compared.
    """
    if first.shape != second.shape:
        sizes = ["x".join(map(str, each.shape)) for each in (first, second)]
        return f"has {sizes[1]} voxels, the image {sizes[0]} (z, y, x)"
    if not ("affine" in first.header and "affine" in second.header):
        return None
    if not np.allclose(first.spacing, second.spacing, rtol=SPACING_TOLERANCE, atol=0):
        sizes = ["x".join(f"{size:g}" for size in each.spacing) for each in (first, second)]
        return f"has spacing {sizes[1]}, the image {sizes[0]} mm (z, y, x)"
    corners = np.array(
        [(*corner, 1) for corner in itertools.product(*((0, n - 1) for n in first.shape[::-1]))]
    )
    moved = corners @ np.array(affine_of(first)).T - corners @ np.array(affine_of(second)).T
    farthest = float(np.linalg.norm(moved, axis=1).max())
    if farthest > PLACE_TOLERANCE * min(first.spacing):
        return f"lies {farthest:.3g} mm away from the image by its affine matrix (origin or direction differ)"
    return None


def replace_file(path: Path, write: Callable[[Path], Any]) -> None:
    """Lets a function write a file, which then appears at once and complete; missing folders are made.

    Raises:
        ConfigError: It cannot be written there.
    """
    # With the ending at the end: writers choose the format by it.
    temporary = path.with_name(f".{stem(path)}.{os.getpid()}.part{path.name[len(stem(path)) :]}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(temporary)
        os.replace(temporary, path)
    except OSError as error:
        reason = error.strerror or error
        raise ConfigError(f"{path}: cannot be written ({reason}); choose another place") from None
    finally:
        with suppress(OSError):
            temporary.unlink()
