"""Pictures as cases of one slice: PNG, JPEG, BMP, WebP, GIF, PGM and PPM."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from core.data.images.files import Picture, read_picture, write_picture
from core.errors import ConfigError, DataError
from tasks.segmentation.data.cases import FLAT, Geometry
from tasks.segmentation.data.place import ending_of

LOSSY = (".jpg", ".jpeg")
"""Formats that change values, which labels do not survive."""
TURNED, ORIENTATION = (5, 6, 7, 8), 274
"""Values of EXIF's orientation that exchange rows and columns, and the number of the tag."""


def read(path: Path, labels: bool = False) -> tuple[np.ndarray, Geometry]:
    """Returns ``(C, 1, H, W)`` of uint8 or uint16 without alpha; of label maps the numbers as they are stored."""
    if labels:
        pixels = _stored(path)
    elif ending_of(path) == ".gif":
        pixels = _gif(path)
    else:
        pixels = read_picture(path).pixels
    return pixels.transpose(2, 0, 1)[:, None], _geometry(path, pixels.shape[0], pixels.shape[1])


def header(path: Path) -> Geometry:
    """Returns the size, without reading pixels."""
    with Image.open(path) as image:
        width, height = image.size
        if image.getexif().get(ORIENTATION, 1) in TURNED:
            width, height = height, width
    return _geometry(path, height, width)


def write(path: Path, labels: np.ndarray, geometry: Geometry) -> None:
    """Writes a label map ``(1, H, W)`` of uint8 or uint16."""
    if len(labels) != 1:
        raise ConfigError(f"{path}: {len(labels)} slices are no picture; use .nii.gz or .tif")
    if ending_of(path) in (*LOSSY, ".webp", ".gif"):
        raise ConfigError(f"{path}: labels do not survive {path.suffix}; use .png")
    write_picture(path, Picture(labels[0][..., None]))


def _geometry(path: Path, height: int, width: int) -> Geometry:
    return Geometry((1, height, width), (FLAT, 1.0, 1.0), ending_of(path))


def _stored(path: Path) -> np.ndarray:
    """Returns the numbers of a label map ``(H, W, 1)``."""
    if ending_of(path) in LOSSY:
        raise DataError(f"{path}: JPEG changes the values of labels; save them as PNG")
    with Image.open(path) as image:
        if (frames := getattr(image, "n_frames", 1)) > 1:
            raise DataError(f"{path}: has {frames} frames; save the one you want to a file of its own")
        # The palette of masks is often gray, and their pixels are 0 and 1 for 0 and 255; a palette of colours
        # names classes.
        if image.mode == "P" and _gray(np.array(image.convert("RGB"))):
            values = np.array(image.convert("L"))
        else:
            values = np.array(image)
        alpha = image.mode in ("LA", "RGBA", "La", "RGBa")
    if values.ndim == 3:
        values = values[..., :-1] if alpha else values
        if not _gray(values):
            raise DataError(
                f"{path}: is in colour; save the number of its class or object for each pixel, as gray PNG"
            )
        values = values[..., 0]
    return values.astype(np.uint8 if values.dtype == bool else values.dtype)[..., None]


def _gif(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        pixels = np.array(image.convert("RGB"))
    return pixels[..., :1] if _gray(pixels) else pixels


def _gray(pixels: np.ndarray) -> bool:
    return bool((pixels == pixels[..., :1]).all())
