"""Four images in one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tasks.detection.augment.geometry import Canvas, Tile
from tasks.detection.preprocess import fitting_scale, scaled_size

IMAGES = 4
CENTRE = (0.5, 1.5)
"""Where the images meet, of the side of the network's input."""


def mosaic(
    images: Sequence[int],
    sources: Sequence[tuple[int, int]],
    side: int,
    ratio: float,
    rng: np.random.Generator,
) -> Canvas:
    """Returns a canvas on which four images meet in a point (YOLOv4, arXiv:2004.10934, section 3.3).

    The canvas is twice the input, each image is fitted into the input, and all is scaled by ``ratio``. As only a part
    of it will be seen, and drawing is what takes time, nothing is drawn yet, nor in steps: places are those at which
    mmdetection's Mosaic and RandomResize put the images.

    Args:
        images: Numbers of the images: top left, top right, bottom left, bottom right.
        sources: Width and height of each, pixels.
        side: The network's input, pixels.
        ratio: Size of the canvas against twice the input.
        rng: Draws where they meet.
    """
    whole = scaled_size(2 * side, 2 * side, ratio)[0]
    x, y = (int(share * side * ratio + 0.5) for share in rng.uniform(*CENTRE, 2))
    tiles = []
    for number, (image, source) in enumerate(zip(images, sources, strict=True)):
        width, height = scaled_size(*source, ratio * fitting_scale(*source, side))
        left = x if number % 2 else x - width
        top = y if number >= 2 else y - height
        tiles.append(Tile(image, source, (width, height), left, top))
    return Canvas(whole, whole, tiles)
