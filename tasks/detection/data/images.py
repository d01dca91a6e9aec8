"""Image files as the networks see them: upright RGB, 8 bit; the last ones stay in memory."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np

from core.data.images.files import read_picture
from tasks.detection.data.dataset import ImageSet


def read_rgb(path: Path) -> np.ndarray:
    """Reads an image file as RGB ``(H, W, 3)`` uint8, upright.

    Gray is repeated, alpha is left out, of more than three channels the first three are taken. 16 bits are divided by
    257 and rounded; float values, in which white is 1, are cut to 0 and 1.

    Raises:
        DataError: The file is missing, damaged or no image.
    """
    pixels = read_picture(path).pixels
    pixels = pixels[..., :3] if pixels.shape[2] >= 3 else np.repeat(pixels[..., :1], 3, axis=2)
    if pixels.dtype == np.uint16:
        # 65535 = 255 * 257; in whole numbers, so that halves cannot be missed.
        pixels = ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)
    elif pixels.dtype != np.uint8:
        pixels = np.floor(pixels.clip(0, 1) * np.float32(255) + np.float32(0.5)).astype(np.uint8)
    return np.ascontiguousarray(pixels)


class ImageCache:
    """Reads the images of a set and keeps those that were used last.

    What is kept stays in the process: a copy that another process gets begins empty.

    Args:
        images: The set.
        gigabytes: Most that is kept, GB (10^9 bytes); 0 keeps nothing.
        most: Most images that are kept, for who needs no more; ``None`` for as many as there is room for.
    """

    def __init__(self, images: ImageSet, gigabytes: float, most: int | None = None) -> None:
        self.images = images
        self.room = round(gigabytes * 1e9)
        self.most = len(images) if most is None else most
        self._kept: OrderedDict[int, np.ndarray] = OrderedDict()
        self._bytes = 0

    def __call__(self, i: int) -> np.ndarray:
        """Returns image ``i``, ``(H, W, 3)`` uint8 RGB, which must not be written to.

        Raises:
            DataError: The file cannot be read (any more).
        """
        if i in self._kept:
            self._kept.move_to_end(i)
            return self._kept[i]
        image = read_rgb(self.images.path(i))
        image.flags.writeable = False
        if image.nbytes <= self.room:
            self._kept[i] = image
            self._bytes += image.nbytes
            while self._bytes > self.room or len(self._kept) > self.most:
                self._bytes -= self._kept.popitem(last=False)[1].nbytes
        return image

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_kept": OrderedDict(), "_bytes": 0}
