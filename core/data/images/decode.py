"""Bytes of an image file to arrays; :func:`core.data.images.files.read_picture` is the entry."""

from __future__ import annotations

import io
import logging
import re
import warnings
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tifffile
from PIL import Image

from core.errors import DataError

Decoded = tuple[np.ndarray, np.ndarray | None, bytes | None]

FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "TIFF", "PPM")
TIFF_SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
ORIENTATION = 274
"""Number of the orientation tag in EXIF and TIFF."""
PREMULTIPLIED, STRAIGHT = 1, 2
"""Kinds of alpha in the ExtraSamples tag of TIFF 6.0, section 18."""

logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # the error says it

# Pillow's modes to the ones we keep; alpha is split off afterwards.
MODES = {"1": "L", "L": "L", "LA": "LA", "La": "LA", "RGB": "RGB", "RGBA": "RGBA", "RGBa": "RGBA"}
KEPT = {"I;16": np.uint16, "I;16B": np.uint16, "I;16L": np.uint16, "F": np.float32}


def decode(data: bytes, path: Path) -> Decoded:
    """Decodes a file by its content.

    Args:
        data: The whole file, not empty.
        path: Where it came from, for errors.

    Returns:
        Pixels ``(H, W, C)`` uint8, uint16 or float32; alpha ``(H, W)`` or ``None``; colour profile or ``None``.

    Raises:
        DataError: The content cannot be used.
    """
    with warnings.catch_warnings():
        # What decoders warn about (odd metadata, large but allowed sizes) is not for users.
        warnings.simplefilter("ignore")
        try:
            pixels, alpha, icc = _decoder(data)(data, path)
        except DataError:
            raise
        except Image.DecompressionBombError:
            limit = 2 * (Image.MAX_IMAGE_PIXELS or 0) // 10**6
            raise DataError(
                f"{path}: has more than {limit} million pixels; cut it, or save it as TIFF"
            ) from None
        except Image.UnidentifiedImageError:
            names = "PNG, JPEG, BMP, WebP, TIFF, PGM, PPM or .npy"
            raise DataError(f"{path}: is not an image ({names}); give an image file") from None
        # Decoders raise many types on damaged files, and all of them mean the same to the user.
        except Exception as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise DataError(f"{path}: cannot be decoded ({reason[:120]}); save it again") from None
    return _typed(pixels, path), None if alpha is None else _typed(alpha, path), icc


def _decoder(data: bytes) -> Any:
    if data.startswith(b"\x93NUMPY"):
        return _npy
    if data[:4] in TIFF_SIGNATURES:
        return _tiff
    if data.startswith(b"\x89PNG") and data[24:25] == b"\x10":
        return _png16
    if _pnm_header(data) is not None:
        return _pnm16
    return _pillow


def _typed(values: np.ndarray, path: Path) -> np.ndarray:
    if values.dtype == bool:
        values = values.astype(np.uint8) * np.uint8(255)
    kind = np.dtype(np.float32) if values.dtype.kind == "f" else values.dtype.newbyteorder("=")
    if kind not in (np.uint8, np.uint16, np.float32):
        raise DataError(f"{path}: holds {kind} values; convert them to uint8, uint16 or float32")
    # Decoders hand out read-only views, which torch warns about.
    return np.require(values, kind, ["C", "W"])


def _orient(values: np.ndarray, code: int) -> np.ndarray:
    """Turns stored rows and columns upright; codes 1 to 8 as in TIFF 6.0, section 8."""
    if code >= 5:
        values = values.swapaxes(0, 1)
    # For 5 to 8 the axes were exchanged first, so that these are flips of the upright image.
    if code in (2, 3, 6, 7):
        values = values[:, ::-1]
    if code in (3, 4, 7, 8):
        values = values[::-1]
    return values


def _split(values: np.ndarray, alpha: bool, code: int, icc: bytes | None) -> Decoded:
    values = _orient(values if values.ndim == 3 else values[..., None], code)
    return (values[..., :-1], values[..., -1], icc) if alpha else (values, None, icc)


def _pillow(data: bytes, path: Path) -> Decoded:
    with Image.open(io.BytesIO(data), formats=FORMATS) as image:
        # Phones store a preview behind the picture as MPO; the first is the picture.
        frames = getattr(image, "n_frames", 1)
        if frames > 1 and image.format != "MPO":
            raise DataError(
                f"{path}: has {frames} frames or pages; save the one you want to a file of its own"
            )
        icc, mode = image.info.get("icc_profile"), image.mode
        if mode in KEPT:
            values, alpha = np.asarray(image).astype(KEPT[mode]), False
        elif mode == "I":
            raise DataError(f"{path}: holds int32 values; convert them to uint8, uint16 or float32")
        else:
            image.load()
            target = MODES.get(mode, "RGB")
            if image.has_transparency_data:
                target = "LA" if target in ("L", "LA") else "RGBA"
            values, alpha = np.asarray(image.convert(target)), target.endswith("A")
            # The profile of CMYK or Lab inks does not describe the RGB they became.
            icc = icc if mode in MODES or mode in ("P", "PA") else None
        # Pillow turns TIFF upright by itself, and then forgets the tag.
        return _split(values, alpha, int(image.getexif().get(ORIENTATION, 1)), icc)


def _png16(data: bytes, path: Path) -> Decoded:
    # Pillow reads 16-bit colour as 8 bit; it only checks the file and reads the metadata here.
    with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
        frames = getattr(image, "n_frames", 1)
        if frames > 1:
            raise DataError(f"{path}: has {frames} frames; save the one you want to a file of its own")
        image.load()
        icc, code = image.info.get("icc_profile"), int(image.getexif().get(ORIENTATION, 1))
    values = _opencv(data)
    # OpenCV gives gray with alpha as colour with alpha.
    if data[25] in (0, 4) and values.ndim == 3:
        values = values[..., [0, -1]]
    return _split(values, values.ndim == 3 and values.shape[2] in (2, 4), code, icc)


def _opencv(data: bytes) -> np.ndarray:
    values = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if values is None:
        raise ValueError("damaged or in an unknown compression")
    if values.ndim == 3 and values.shape[2] == 1:
        values = values[..., 0]
    if values.ndim == 3 and values.shape[2] >= 3:
        values = values[..., [2, 1, 0, *range(3, values.shape[2])]]
    return values


def _pnm_header(data: bytes) -> tuple[int, int, int, int, int] | None:
    """Channels, width, height, maximum and offset of a 16-bit PGM or PPM; ``None`` for any other file."""
    gap = rb"(?:\s|#[^\n]*\n)+"
    match = re.match(rb"P([56])" + gap + rb"(\d+)" + gap + rb"(\d+)" + gap + rb"(\d+)\s", data[:4096])
    if match is None or not 255 < int(match[4]) <= 65535:
        return None
    return (1 if match[1] == b"5" else 3), int(match[2]), int(match[3]), int(match[4]), match.end()


def _pnm16(data: bytes, path: Path) -> Decoded:
    # Pillow reads 16-bit PPM as 8 bit.
    header = _pnm_header(data)
    assert header is not None
    channels, width, height, maximum, offset = header
    count = width * height * channels
    if count == 0 or len(data) - offset < 2 * count:
        raise ValueError("image file is truncated")
    values = np.frombuffer(data, ">u2", count, offset).reshape(height, width, channels)
    if maximum != 65535:
        values = np.floor(np.minimum(values / maximum, 1) * 65535 + 0.5).astype(np.uint16)
    return values, None, None


def _npy(data: bytes, path: Path) -> Decoded:
    values = np.load(io.BytesIO(data), allow_pickle=False)
    if values.ndim not in (2, 3) or values.size == 0:
        raise DataError(f"{path}: has shape {values.shape}; save an array (H, W) or (H, W, C)")
    return _split(values, False, 1, None)


def _tiff(data: bytes, path: Path) -> Decoded:
    with tifffile.TiffFile(io.BytesIO(data)) as tiff:
        series = [item for item in tiff.series if not item.keyframe.is_reduced]
        if len(series) != 1:
            raise DataError(f"{path}: has {len(series)} images; save the one you want to a file of its own")
        page = series[0].keyframe
        sizes = zip(series[0].axes, series[0].shape, strict=True)
        # A side of one pixel is a side; any other axis of one is not there.
        kept = [(axis, size) for axis, size in sizes if size > 1 or axis in "YX"]
        axes = "".join(axis for axis, _ in kept)
        if min(series[0].shape, default=0) == 0:
            raise DataError(f"{path}: has no pixels; save it again")
        if axes not in ("YX", "YXS", "YXC", "SYX", "CYX"):
            count = len(series[0].pages)
            raise DataError(f"{path}: has {count} pages ({axes}); save the one you want to a file of its own")
        photometric = tifffile.PHOTOMETRIC(page.photometric).name
        extra = int(page.extrasamples[-1]) if page.extrasamples and axes != "YX" else 0
        if page.dtype in (np.uint8, bool) and photometric not in ("RGB", "MINISBLACK"):
            return _pillow(data, path)
        if extra == PREMULTIPLIED:
            raise DataError(f"{path}: its alpha is premultiplied; save it with straight alpha")
        tag = page.tags.get("InterColorProfile")
        try:
            values = series[0].asarray().reshape([size for _, size in kept])
        except ValueError as error:
            # tifffile needs another package for LZW and JPEG; Pillow and OpenCV bring libtiff.
            if "imagecodecs" not in str(error):
                raise
            if page.dtype in (np.uint8, bool):
                return _pillow(data, path)
            values = _opencv(data)
        else:
            if axes in ("SYX", "CYX"):
                values = np.moveaxis(values, 0, -1)
            if photometric == "MINISWHITE":
                values = np.iinfo(values.dtype).max - values
        orientation = page.tags.get("Orientation")
        code = int(orientation.value) if orientation is not None else 1
        return _split(values, extra == STRAIGHT, code, None if tag is None else bytes(tag.value))
