"""Images on a canvas, the part of it that is seen, and the objects in that part."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from tasks.detection.augment.outlines import clip_ring
from tasks.detection.data.dataset import Targets
from tasks.detection.preprocess import PADDING, fitting_scale, scaled_size

SMALLEST = 1.0
"""Shortest side of a box that is learned, pixels."""

Rectangle = tuple[int, int, int, int]
"""Left, top, right and bottom, pixels."""


@dataclass(frozen=True)
class Objects:
    """What is to be learned in a picture.

    Attributes:
        boxes: ``(K, 4)`` float32: left, top, right, bottom, pixels.
        labels: ``(K,)`` int64.
        outlines: Rings of each object, ``(N, 2)`` float32; ``None`` where masks are not learned.
    """

    boxes: np.ndarray
    labels: np.ndarray
    outlines: list[list[np.ndarray]] | None = None


@dataclass(frozen=True)
class Picture:
    """A training image in the making.

    Attributes:
        image: ``(H, W, 3)`` uint8 RGB.
        objects: What is to be learned in it.
    """

    image: np.ndarray
    objects: Objects


@dataclass(frozen=True)
class Tile:
    """An image on a canvas.

    Attributes:
        image: Its number.
        source: Its own width and height, pixels.
        size: Width and height to which it is resized.
        left: Where it begins on the canvas; may lie outside.
        top: The same downwards.
    """

    image: int
    source: tuple[int, int]
    size: tuple[int, int]
    left: int
    top: int

    def seen(self, view: Rectangle) -> Rectangle | None:
        """Returns the part that a view shows, in pixels of the view; ``None`` if there is none."""
        left, top = max(self.left, view[0]), max(self.top, view[1])
        right, bottom = min(self.left + self.size[0], view[2]), min(self.top + self.size[1], view[3])
        if left >= right or top >= bottom:
            return None
        return left - view[0], top - view[1], right - view[0], bottom - view[1]


@dataclass(frozen=True)
class Canvas:
    """Images side by side, not drawn yet.

    Attributes:
        width: Pixels.
        height: Pixels.
        tiles: The images; what lies outside of the canvas is not seen.
    """

    width: int
    height: int
    tiles: list[Tile]


def plain(image: int, source: tuple[int, int], side: int, ratio: float) -> Canvas:
    """Returns a canvas with one image on it.

    Args:
        image: Number of the image.
        source: Its width and height, pixels.
        side: The network's input, pixels.
        ratio: Size against the image fitted into the input.
    """
    size = scaled_size(*source, ratio * fitting_scale(*source, side))
    return Canvas(*size, [Tile(image, source, size, 0, 0)])


def draw(canvas: Canvas, view: Rectangle, side: int, read: Callable[[int], np.ndarray]) -> np.ndarray:
    """Draws the part of a canvas that is seen.

    Args:
        canvas: Tells where the images lie.
        view: Part of it.
        side: The network's input, pixels.
        read: Returns an image ``(H, W, 3)`` uint8 by its number; called for images that are seen only.

    Returns:
        ``(H, W, 3)`` uint8 of the view's size.
    """
    drawn = np.full((view[3] - view[1], view[2] - view[0], 3), PADDING, np.uint8)
    for tile in canvas.tiles:
        seen = tile.seen(view)
        if seen is None:
            continue
        left, top, right, bottom = seen
        x, y = tile.left - view[0], tile.top - view[1]
        resized = _resized(read(tile.image), tile.size, side)
        drawn[top:bottom, left:right] = resized[top - y : bottom - y, left - x : right - x]
    return drawn


def _resized(image: np.ndarray, size: tuple[int, int], side: int) -> np.ndarray:
    height, width = image.shape[:2]
    fitted = scaled_size(width, height, fitting_scale(width, height, side))
    # By way of the fitted image, as in mmdetection: bilinear sampling in one large step would skip pixels.
    if size[0] < fitted[0] < width:
        image = cv2.resize(image, fitted, interpolation=cv2.INTER_LINEAR)
    return cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)


def seen_objects(targets: Targets, tile: Tile, view: Rectangle, masks: bool) -> Objects:
    """Returns the objects of a tile that a view shows, cut to what is seen.

    With masks, boxes are those of the visible part of the outlines. Crowds are not learned.

    Args:
        targets: Objects of the image.
        tile: Where it lies on the canvas.
        view: Part of the canvas.
        masks: Whether outlines are kept.
    """
    seen = tile.seen(view)
    if seen is None:
        return joined([], masks)
    low, high = np.array(seen[:2]), np.array(seen[2:])
    factor = np.array(tile.size) / tile.source
    shift = np.array([tile.left - view[0], tile.top - view[1]])
    boxes = np.clip(targets.boxes.reshape(-1, 2, 2) * factor + shift, low, high).reshape(-1, 4)
    outlines: list[list[np.ndarray]] = [[] for _ in boxes]
    if masks and targets.rings is not None:
        for k, rings in enumerate(targets.rings):
            if rings:
                outlines[k] = [clip_ring(ring * factor + shift, low, high) for ring in rings]
                boxes[k] = _bounds(outlines[k])
    sides = boxes[:, 2:] - boxes[:, :2]
    kept = np.flatnonzero((sides >= SMALLEST).all(axis=1) & ~targets.crowd)
    return Objects(
        boxes[kept].astype(np.float32), targets.labels[kept], [outlines[k] for k in kept] if masks else None
    )


def _bounds(rings: Sequence[np.ndarray]) -> np.ndarray:
    points = np.concatenate(rings)
    return np.concatenate([points.min(axis=0), points.max(axis=0)]) if len(points) else np.zeros(4)


def joined(parts: Sequence[Objects], masks: bool) -> Objects:
    """Returns the objects of several parts as those of one picture."""
    return Objects(
        np.concatenate([np.zeros((0, 4), np.float32), *(part.boxes for part in parts)]),
        np.concatenate([np.zeros(0, np.int64), *(part.labels for part in parts)]),
        [rings for part in parts for rings in part.outlines or []] if masks else None,
    )


def mirrored(picture: Picture, *, vertical: bool = False) -> Picture:
    """Returns the mirror image; vertically it stands on its head."""
    axis = int(vertical)
    side = picture.image.shape[1 - axis]
    objects = picture.objects
    boxes = objects.boxes.copy()
    boxes[:, [axis, axis + 2]] = side - objects.boxes[:, [axis + 2, axis]]
    outlines = objects.outlines
    if outlines is not None:
        offset, sign = np.zeros(2, np.float32), np.ones(2, np.float32)
        offset[axis], sign[axis] = side, -1
        outlines = [[offset + sign * ring for ring in rings] for rings in outlines]
    return Picture(cv2.flip(picture.image, 1 - axis), Objects(boxes, objects.labels, outlines))


def padded(picture: Picture, side: int) -> Picture:
    """Returns the picture as a square, padded on the right and below."""
    height, width = picture.image.shape[:2]
    if height == width == side:
        return picture
    square = np.full((side, side, 3), PADDING, np.uint8)
    square[:height, :width] = picture.image
    return Picture(square, picture.objects)
