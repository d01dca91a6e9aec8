"""Small image sets on disk."""

import numpy as np
from PIL import Image

from tasks.detection.data.dataset import ImageSet, Polygons
from tasks.detection.data.read import Found


def write_images(root, names, size=(64, 48)):
    """Writes images that differ."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        seed = list(name.encode())
        pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)


def image_set(root, objects, size=(64, 48), write=True):
    """Makes a set.

    Args:
        root: Folder.
        objects: Name of an image to its objects: label, box, and perhaps rings and whether it is a crowd.
        size: Width and height.
        write: Whether the images are written.
    """
    if write:
        write_images(root, objects, size)
    rows = [(*row, *(None, False)[len(row) - 2 :]) for found in objects.values() for row in found]
    boxes = np.array([row[1] for row in rows], np.float32).reshape(-1, 4)
    outlined = [row[2] or [] for row in rows]
    polygons = None
    if any(outlined):
        rings = [np.array(ring, np.float32) for found in outlined for ring in found]
        polygons = Polygons(
            np.concatenate(rings),
            np.cumsum([0, *map(len, rings)]),
            np.cumsum([0, *map(len, outlined)]),
        )
    return ImageSet(
        root,
        np.array(list(objects)),
        np.tile(np.array([size], np.int32), (len(objects), 1)),
        np.arange(1, len(objects) + 1),
        np.cumsum([0, *map(len, objects.values())]),
        boxes,
        np.array([row[0] for row in rows], np.int64),
        np.array([row[3] for row in rows], bool),
        np.prod(boxes[:, 2:] - boxes[:, :2], 1),
        polygons,
    )


def found(parts, classes=("a", "b", "c"), ids=None):
    """Makes what a reader returns."""
    return Found(dict(parts), list(classes), list(ids or range(1, len(classes) + 1)), [], "coco")
