"""Arrays to the bytes of an image file; :func:`core.data.images.files.write_picture` is the entry."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np
import tifffile
from PIL import Image

from core.errors import ConfigError

Writer = Callable[[IO[bytes], np.ndarray, np.ndarray | None, bytes | None], None]


def check_fits(
    path: Path, dtype: np.dtype | type, channels: int, alpha: bool = False, side: int = 0
) -> Writer:
    """Tells whether the format of a path's ending can hold an image, before the image is computed.

    Args:
        path: Where the image will be written.
        dtype: uint8, uint16 or float32.
        channels: C of the pixels, without alpha.
        alpha: Whether there is an alpha plane.
        side: Larger of height and width in pixels.

    Returns:
        The function that writes it.

    Raises:
        ConfigError: It cannot; the text names an ending that can.
    """
    ending, kind = path.suffix.lower(), np.dtype(dtype).name
    if ending not in WRITERS:
        raise ConfigError(f"{path}: unknown ending {ending!r}; use one of {', '.join(WRITERS)}")
    writer, kinds, counts, takes_alpha, most = WRITERS[ending]
    if kind in kinds and (not counts or channels in counts) and (takes_alpha or not alpha):
        if most and side > most:
            raise ConfigError(
                f"{path}: {ending} holds at most {most} pixels on a side, not {side}; use .png or .tif"
            )
        return writer
    small = kind != "float32" and channels in (1, 3)
    what = (
        f"{channels} {'channel' if channels == 1 else 'channels'} of {kind}{' with alpha' if alpha else ''}"
    )
    use = ".png or .tif" if small else ".tif" if alpha else ".tif or .npy"
    raise ConfigError(f"{path}: {ending} cannot hold {what}; use {use}")


def _image(pixels: np.ndarray, alpha: np.ndarray | None) -> Image.Image:
    planes = pixels if alpha is None else np.concatenate([pixels, alpha[..., None]], axis=2)
    return Image.fromarray(planes[..., 0] if planes.shape[2] == 1 else np.ascontiguousarray(planes))


def _png(file: IO[bytes], pixels: np.ndarray, alpha: np.ndarray | None, icc: bytes | None) -> None:
    if pixels.dtype == np.uint8:
        _image(pixels, alpha).save(file, "PNG", icc_profile=icc)
        return
    # Pillow has no 16-bit colour, and OpenCV no gray with alpha and no profile. The format itself is short
    # (ISO/IEC 15948); filter 2, the difference to the row above, keeps files small.
    planes = pixels if alpha is None else np.concatenate([pixels, alpha[..., None]], axis=2)
    height, width, count = planes.shape
    rows = planes.astype(">u2").view(np.uint8).reshape(height, -1)
    filtered = np.full((height, rows.shape[1] + 1), 2, np.uint8)
    filtered[:, 1:] = np.diff(rows, axis=0, prepend=np.zeros_like(rows[:1]))
    colour = {1: 0, 2: 4, 3: 2, 4: 6}[count]
    file.write(b"\x89PNG\r\n\x1a\n")
    _chunk(file, b"IHDR", struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0))
    if icc:
        _chunk(file, b"iCCP", b"icc\0\0" + zlib.compress(icc))
    _chunk(file, b"IDAT", zlib.compress(filtered.tobytes()))
    _chunk(file, b"IEND", b"")


def _chunk(file: IO[bytes], name: bytes, content: bytes) -> None:
    checksum = zlib.crc32(name + content)
    file.write(struct.pack(">I", len(content)) + name + content + struct.pack(">I", checksum))


def _jpeg(file: IO[bytes], pixels: np.ndarray, alpha: np.ndarray | None, icc: bytes | None) -> None:
    _image(pixels, None).save(file, "JPEG", quality=95, subsampling=0, icc_profile=icc)


def _bmp(file: IO[bytes], pixels: np.ndarray, alpha: np.ndarray | None, icc: bytes | None) -> None:
    _image(pixels, None).save(file, "BMP")


def _webp(file: IO[bytes], pixels: np.ndarray, alpha: np.ndarray | None, icc: bytes | None) -> None:
    # `exact` keeps the colour of transparent pixels.
    _image(pixels, alpha).save(file, "WEBP", lossless=True, exact=True, icc_profile=icc or b"")


def _pnm(file: IO[bytes], pixels: np.ndarray, alpha: np.ndarray | None, icc: bytes | None) -> None:
    height, width, channels = pixels.shape
    maximum = np.iinfo(pixels.dtype).max
    file.write(f"P{5 if channels == 1 else 6}\n{width} {height}\n{maximum}\n".encode())
    file.write(pixels.astype(pixels.dtype.newbyteorder(">")).tobytes())


def _tiff(file: IO[bytes], pixels: np.ndarray, alpha: np.ndarray | None, icc: bytes | None) -> None:
    planes = pixels if alpha is None else np.concatenate([pixels, alpha[..., None]], axis=2)
    rgb = pixels.shape[2] == 3
    extra = planes.shape[2] - (3 if rgb else 1)
    options: dict[str, Any] = {"photometric": "rgb" if rgb else "minisblack", "iccprofile": icc}
    if extra:
        last = "unspecified" if alpha is None else "unassalpha"
        options |= {"planarconfig": "contig", "extrasamples": ["unspecified"] * (extra - 1) + [last]}
    tifffile.imwrite(
        file, planes if planes.shape[2] > 1 else planes[..., 0], compression="zlib", metadata=None, **options
    )


def _npy(file: IO[bytes], pixels: np.ndarray, alpha: np.ndarray | None, icc: bytes | None) -> None:
    np.save(file, pixels, allow_pickle=False)


_WHOLE = ("uint8", "uint16")
_ALL = ("uint8", "uint16", "float32")
# Ending to: writer, number types, channel counts (empty: any), alpha, largest side in pixels (0: any). The sides are
# those of libjpeg (JPEG_MAX_DIMENSION) and libwebp (WEBP_MAX_DIMENSION).
WRITERS: dict[str, tuple[Writer, tuple[str, ...], tuple[int, ...], bool, int]] = {
    ".png": (_png, _WHOLE, (1, 3), True, 0),
    ".jpg": (_jpeg, ("uint8",), (1, 3), False, 65500),
    ".jpeg": (_jpeg, ("uint8",), (1, 3), False, 65500),
    ".bmp": (_bmp, ("uint8",), (1, 3), False, 0),
    ".webp": (_webp, ("uint8",), (1, 3), True, 16383),
    ".tif": (_tiff, _ALL, (), True, 0),
    ".tiff": (_tiff, _ALL, (), True, 0),
    ".pgm": (_pnm, _WHOLE, (1,), False, 0),
    ".ppm": (_pnm, _WHOLE, (3,), False, 0),
    ".npy": (_npy, _ALL, (), False, 0),
}
