"""Reads and writes image files without losing bits, alpha or the colour profile."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from core.data.images.decode import decode
from core.data.images.encode import WRITERS, check_fits
from core.errors import ConfigError, DataError

ENDINGS: tuple[str, ...] = tuple(WRITERS)
"""Endings of the files that are read and written, in lower case."""
BRIGHTEST = 2.0
"""Largest float value that can be a bright spot above white; beyond it, white is not 1."""


@dataclass(frozen=True)
class Picture:
    """One image file, decoded.

    Attributes:
        pixels: ``(H, W, C)`` uint8, uint16 or float32; C = 1 gray, 3 RGB, or any; without alpha.
        alpha: ``(H, W)`` of the same type, straight (not premultiplied), or ``None``.
        icc: Colour profile as stored in the file; it is written back.
    """

    pixels: np.ndarray
    alpha: np.ndarray | None = None
    icc: bytes | None = None


def read_picture(path: Path) -> Picture:
    """Reads PNG, JPEG, BMP, WebP, TIFF, PGM, PPM or ``.npy``; the content decides, not the ending.

    The EXIF orientation is applied. Palettes become RGB, 1-bit becomes 8-bit gray, CMYK becomes RGB, alpha is
    split off. 16-bit and float values are kept; in float white is 1.

    Args:
        path: The file; an array in ``.npy`` is ``(H, W)`` or ``(H, W, C)``.

    Returns:
        The decoded image.

    Raises:
        DataError: The file is missing, empty, damaged, no image, animated, of several pages, too large, of
            another number type, or holds NaN, infinity or float values far above 1.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"{path}: there is no such file") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); give an image file") from None
    if not data:
        raise DataError(f"{path}: the file is empty (0 bytes); copy it again")
    pixels, alpha, icc = decode(data, path)
    if pixels.dtype == np.float32 and not np.isfinite(pixels).all():
        bad = int(pixels.size - np.isfinite(pixels).sum())
        raise DataError(f"{path}: {bad} of {pixels.size} values are NaN or infinite; replace them")
    if pixels.dtype == np.float32 and pixels.max() > BRIGHTEST:
        raise DataError(
            f"{path}: float values from {pixels.min():g} to {pixels.max():g}, but white is 1; divide them by the"
            " value of white, such as 255 or 65535"
        )
    return Picture(pixels, alpha, icc)


def write_picture(path: Path, picture: Picture) -> None:
    """Writes an image in the format of the path's ending, lossless where the format can be.

    The file appears at once and complete (temporary file, then rename). Missing folders are made. JPEG is
    written at quality 95 without chroma subsampling.

    Args:
        path: The file; its ending is one of :data:`ENDINGS`.
        picture: What to write.

    Raises:
        ConfigError: The ending is unknown, the format cannot hold this image, or the folder cannot be written.
    """
    pixels, alpha = picture.pixels, picture.alpha
    writer = check_fits(path, pixels.dtype, pixels.shape[2], alpha is not None, max(pixels.shape[:2]))
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            writer(file, pixels, alpha, _fitting(picture.icc, pixels.shape[2]))
        os.replace(temporary, path)
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be written ({error.strerror or error}); choose another place"
        ) from None
    # What else an encoder cannot do.
    except ValueError as error:
        raise ConfigError(f"{path}: cannot be written ({error}); use .png or .tif") from None
    finally:
        with suppress(OSError):
            temporary.unlink()


def _fitting(icc: bytes | None, channels: int) -> bytes | None:
    # Bytes 16 to 19 of a profile name its colour space (ICC.1:2022, table 17). An image that became gray or
    # RGB after reading must not carry the profile of the other.
    if icc and icc[16:20] == {1: b"GRAY", 3: b"RGB "}.get(channels):
        return icc
    return None


def peak(dtype: np.dtype | type) -> float:
    """Returns the value of white: 255 for uint8, 65535 for uint16, 1 for float."""
    kind = np.dtype(dtype)
    return float(np.iinfo(kind).max) if kind.kind == "u" else 1.0


def to_float(pixels: np.ndarray) -> np.ndarray:
    """Scales uint8 or uint16 to float32 in [0, 1]; float values stay as they are."""
    if pixels.dtype.kind == "f":
        return pixels.astype(np.float32, copy=False)
    return pixels.astype(np.float32) / np.float32(peak(pixels.dtype))


def from_float(values: np.ndarray, dtype: np.dtype | type) -> np.ndarray:
    """Turns float values in [0, 1] into ``dtype``: clipped, scaled, rounded half up.

    Args:
        values: Float of any shape.
        dtype: uint8, uint16 or float32; float32 is a cast without clipping.

    Returns:
        The same shape in ``dtype``.
    """
    if np.dtype(dtype).kind == "f":
        return values.astype(dtype, copy=False)
    return np.floor(np.clip(values, 0, 1) * peak(dtype) + 0.5).astype(dtype)


def match_channels(pixels: np.ndarray, channels: int, where: str) -> np.ndarray:
    """Gives an image the channels that a network wants, for loading training and test data.

    Args:
        pixels: ``(H, W, C)``.
        channels: Wanted C. RGB becomes gray by the luma of ITU-R BT.601 (rounded half up for whole numbers),
            gray becomes RGB by repeating.
        where: The file, for the error.

    Returns:
        ``(H, W, channels)`` of the same type.

    Raises:
        DataError: There is no rule from C to ``channels``.
    """
    have = pixels.shape[2]
    if have == channels:
        return pixels
    if have == 1 and channels == 3:
        return np.repeat(pixels, 3, axis=2)
    if have == 3 and channels == 1:
        # Its module imports torch, which who only reads and writes files can do without.
        from core.colour import BT601

        if pixels.dtype.kind == "f":
            return pixels @ np.array(BT601, pixels.dtype)[:, None] / 1000
        # In whole numbers, since sums of floats miss exact halves.
        return ((pixels.astype(np.int64) @ np.array(BT601)[:, None] + 500) // 1000).astype(pixels.dtype)
    raise DataError(
        f"{where}: has {have} channels, but {channels} are wanted; give images of {channels} channels"
    )
