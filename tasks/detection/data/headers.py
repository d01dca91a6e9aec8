"""Sizes of image files, read without decoding those that are whole."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tifffile
from PIL import Image
from rich.console import Console
from rich.progress import track

from core.data.images.decode import FORMATS, ORIENTATION, TIFF_SIGNATURES

THREADS = 8
"""Headers are read at once by this many threads, which mostly wait for the disk."""
PROGRESS_FROM = 2000
"""Number of files above which a progress bar is worth its line."""

ENDS = {"JPEG": b"\xff\xd9", "PNG": b"IEND\xaeB`\x82"}
"""Last bytes of a whole file. One that ends otherwise may still be whole, which decoding it tells."""


class Header(NamedTuple):
    """What the first bytes of an image file tell.

    Attributes:
        width: Columns as stored.
        height: Rows as stored.
        orientation: Code 1 to 8 of EXIF and TIFF: how the stored pixels are to be turned; 1 is upright.
    """

    width: int
    height: int
    orientation: int

    @property
    def upright(self) -> tuple[int, int]:
        """Width and height of the image after it was turned."""
        return (self.height, self.width) if self.orientation >= 5 else (self.width, self.height)


def read_header(path: Path) -> Header | None:
    """Returns the size of an image, or ``None`` where the file is missing, damaged, cut off or no image."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # Decoders raise many types on damaged files, and all of them mean the same here.
        try:
            header = _read(path)
        except Exception:
            return None
    return header if header.width > 0 and header.height > 0 else None


def read_headers(paths: Sequence[Path]) -> list[Header | None]:
    """Returns :func:`read_header` of each file, with a progress bar where there are many."""
    with ThreadPoolExecutor(THREADS) as pool:
        headers = pool.map(read_header, paths)
        if len(paths) <= PROGRESS_FROM:
            return list(headers)
        console = Console(stderr=True)
        return list(track(headers, "reading image sizes", len(paths), console=console, transient=True))


def _read(path: Path) -> Header:
    with path.open("rb") as file:
        signature = file.read(6)
    if signature.startswith(b"\x93NUMPY"):
        height, width = np.load(path, mmap_mode="r", allow_pickle=False).shape[:2]
        return Header(width, height, 1)
    if signature[:4] in TIFF_SIGNATURES:
        with tifffile.TiffFile(path) as tiff:
            page = tiff.series[0].keyframe
            tag = page.tags.get("Orientation")
            return Header(page.imagewidth, page.imagelength, _known(tag.value if tag is not None else 1))
    with Image.open(path, formats=FORMATS) as image:
        if not _ends_with(path, ENDS.get(image.format or "", b"")):
            # Raises if it is cut off.
            with Image.open(path, formats=FORMATS) as whole:
                whole.load()
        return Header(*image.size, _known(image.getexif().get(ORIENTATION, 1)))


def _ends_with(path: Path, end: bytes) -> bool:
    """Whether a file ends with some bytes; ``False`` where it is not known with which it should."""
    if not end:
        return False
    with path.open("rb") as file:
        file.seek(-len(end), os.SEEK_END)
        return file.read() == end


def _known(code: object) -> int:
    return code if isinstance(code, int) and 1 <= code <= 8 else 1


def turn_points(points: np.ndarray, header: Header) -> np.ndarray:
    """Moves points of the stored image to where they are in the upright one.

    Args:
        points: ``(N, 2)``, x and y, pixels from the corner of the stored image.
        header: Size as stored, and how the image is turned (TIFF 6.0, section 8).

    Returns:
        ``(N, 2)`` in pixels from the corner of the upright image.
    """
    x, y = points[:, 0], points[:, 1]
    code = header.orientation
    if code >= 5:
        x, y = y, x
    width, height = header.upright
    if code in (2, 3, 6, 7):
        x = width - x
    if code in (3, 4, 7, 8):
        y = height - y
    return np.stack([x, y], axis=1)
