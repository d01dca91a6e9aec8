"""Small image sets and detections for the tests of scores."""

from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np

from tasks.detection.config import DetScoringConfig
from tasks.detection.data.dataset import DetectionData, ImageSet, Polygons
from tasks.detection.data.select import subset
from tasks.detection.results import Detections

SIZE = (200, 160)
"""Width and height of the images."""


def image_set(objects, root=Path(), size=SIZE, outlines=False):
    """A set of images that have rows of left, top, right, bottom, label, and a flag for crowds."""
    rows = [np.array(each, float).reshape(-1, 6) for each in objects]
    every = np.concatenate(rows)
    start = np.concatenate([[0], np.cumsum([len(each) for each in rows])])
    boxes = every[:, :4].astype(np.float32)
    polygons = None
    if outlines:
        corners = boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 2)
        counts = np.arange(len(boxes) + 1)
        polygons = Polygons(corners, counts * 4, counts)
    return ImageSet(
        root,
        np.array([f"{i}.png" for i in range(len(rows))]),
        np.tile(np.array([size], np.int32), (len(rows), 1)),
        np.arange(len(rows)) + 7,
        start,
        boxes,
        every[:, 4].astype(np.int64),
        every[:, 5] > 0,
        (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]),
        polygons,
    )


def found_rows(rows, masks=None):
    """Detections of rows of left, top, right, bottom, label, score."""
    values = np.array(rows, float).reshape(-1, 6)
    order = np.argsort(-values[:, 5], kind="stable")
    values = values[order]
    kept = None if masks is None else [masks[i] for i in order]
    return Detections(
        values[:, :4].astype(np.float32),
        values[:, 5].astype(np.float32),
        values[:, 4].astype(np.int64),
        kept,
    )


def random_case(seed, images=12, classes=3, crowds=True):
    """A set with what a mediocre detector would find in it; the last image is empty."""
    rng = np.random.default_rng(seed)
    objects, found = [], []
    for i in range(images):
        count = 0 if i == images - 1 else int(rng.integers(1, 9))
        corner = rng.uniform(0, [150, 110], (count, 2))
        side = rng.uniform(4, 50, (count, 2))
        labels = rng.integers(0, classes, count)
        flags = (rng.random(count) < 0.2) & crowds
        boxes = np.concatenate([corner, corner + side], 1)
        objects.append(np.column_stack([boxes, labels, flags]))
        near = np.repeat(boxes, 3, 0) + rng.normal(0, 3, (3 * count, 4))
        near[:, 2:] = np.maximum(near[:, 2:], near[:, :2] + 1)
        other = rng.uniform(0, 100, (4, 2))
        far = np.concatenate([other, other + rng.uniform(5, 40, (4, 2))], 1)
        kinds = np.concatenate([np.repeat(labels, 3), rng.integers(0, classes, 4)])
        scores = rng.random(len(kinds)).round(2)
        found.append(found_rows(np.column_stack([np.concatenate([near, far]), kinds, scores])))
    return image_set(objects), found


def scoring_of(bootstrap=20, **options):
    """Configuration of a test."""
    return SimpleNamespace(scoring=DetScoringConfig(bootstrap=bootstrap, **options))


def data_of(train, test, classes=("disc", "box")):
    """Data of two sets."""
    numbers = list(range(1, len(classes) + 1))
    return DetectionData("made", list(classes), numbers, train, no_images(), test, "0" * 64)


def no_images():
    """A set without images."""
    return subset(image_set([[]]), [])


def draw_set(folder, count, seed):
    """A set of gray images with bright red discs and blue boxes, as files."""
    folder.mkdir()
    rng = np.random.default_rng(seed)
    objects = []
    for i in range(count):
        image = rng.normal(128, 2, (SIZE[1], SIZE[0], 3)).clip(0, 255).astype(np.uint8)
        rows = []
        for cell in rng.permutation(6)[:3]:
            x, y = 10 + 65 * (cell % 3), 10 + 75 * (cell // 3)
            side = int(rng.integers(20, 45))
            label = int(rng.integers(2))
            if label:
                cv2.rectangle(image, (x, y), (x + side - 1, y + side - 1), (40, 60, 220), -1)
            else:
                cv2.circle(image, (x + side // 2, y + side // 2), side // 2, (230, 50, 40), -1)
            # A circle of radius r covers 2 r + 1 pixels.
            rows.append([x, y, x + side + (not label), y + side + (not label), label, 0])
        cv2.imwrite(str(folder / f"{i}.png"), image[..., ::-1])
        objects.append(rows)
    return image_set(objects, folder)
