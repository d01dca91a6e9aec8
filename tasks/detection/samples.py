"""Training samples: an image alone or with others, and the objects in it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from core.data.loader import Place
from tasks.detection.augment.colour import shift_hsv
from tasks.detection.augment.geometry import (
    Canvas,
    Objects,
    Picture,
    Rectangle,
    draw,
    joined,
    mirrored,
    padded,
    plain,
    seen_objects,
)
from tasks.detection.augment.mixup import mixup
from tasks.detection.augment.mosaic import IMAGES, mosaic
from tasks.detection.augment.outlines import sampled_masks
from tasks.detection.config import AugmentConfig
from tasks.detection.data.dataset import ImageSet

TRIES = 10
"""Parts of a canvas that are drawn until one shows an object."""


class DetectionSamples:
    """Images changed at random in the two stages of RTMDet (arXiv:2212.07784, section 3.3).

    At first images are joined to mosaics and blended, with others out of those drawn last; the last epochs show plain
    ones. Both are scaled, cut, shifted in colour and mirrored. A blended image has been mirrored before, so that it
    is not once more, as in mmdetection: that leaves the odds as they are, and ``flip: 0`` is obeyed.

    It is a :class:`core.data.loader.PlacedSamples`.

    Args:
        images: Images to learn from.
        read: Returns an image ``(H, W, 3)`` uint8 RGB by its number.
        size: The network's input, pixels.
        augment: How images are changed.
        plain_from: First epoch, from 0, without mosaics and mixup.
        masks: Whether outlines are learned.
    """

    def __init__(
        self,
        images: ImageSet,
        read: Callable[[int], np.ndarray],
        size: int,
        augment: AugmentConfig,
        plain_from: int,
        masks: bool,
    ) -> None:
        self.images = images if masks else replace(images, polygons=None)
        self.read, self.size, self.augment, self.masks = read, size, augment, masks
        self.plain_from, self.window = plain_from, augment.cache

    def __len__(self) -> int:
        return len(self.images)

    def draw_at(self, place: Place, rng: np.random.Generator) -> dict[str, Any]:
        """Returns a sample.

        Returns:
            ``image (3, S, S)`` uint8 RGB, ``boxes (K, 4)`` float32, ``labels (K,)`` int64 and the image's name; with
            masks also ``masks (K, S / 4, S / 4)`` uint8, taken at every fourth pixel, and ``has_mask (K,)`` bool,
            which tells where a mask is known and large enough to be seen at these pixels.
        """
        others = self._others(place)
        picture = self._picture(place.index, others, rng)
        if others and rng.random() < self.augment.mixup:
            picture = mixup(picture, self._picture(_one_of(others, rng), others, rng))
        objects = picture.objects
        sample = {
            "image": torch.from_numpy(np.ascontiguousarray(picture.image.transpose(2, 0, 1))),
            "boxes": torch.from_numpy(objects.boxes),
            "labels": torch.from_numpy(objects.labels),
            "ids": str(self.images.names[place.index]),
        }
        if objects.outlines is not None:
            masks = sampled_masks(objects.outlines, self.size)
            sample["masks"] = torch.from_numpy(masks)
            sample["has_mask"] = torch.from_numpy(masks.any(axis=(1, 2)))
        return sample

    @staticmethod
    def collate(samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Makes a batch of what :meth:`draw_at` returns.

        Returns:
            ``image (B, 3, S, S)``; the objects of all images one after another: ``boxes (K, 4)``, ``labels (K,)``, with
            masks ``masks`` and ``has_mask``, and ``owner (K,)`` int64, the image in the batch; and the list ``ids``.
        """
        counts = torch.tensor([len(sample["labels"]) for sample in samples])
        batch: dict[str, Any] = {
            "image": torch.stack([sample["image"] for sample in samples]),
            "owner": torch.arange(len(samples)).repeat_interleave(counts),
            "ids": [sample["ids"] for sample in samples],
        }
        for key in ("boxes", "labels", "masks", "has_mask"):
            if key in samples[0]:
                parts: list[Tensor] = [sample[key] for sample in samples]
                batch[key] = torch.cat(parts)
        return batch

    def _others(self, place: Place) -> Sequence[int]:
        """Returns the images to join with; none where images are shown alone."""
        if place.epoch >= self.plain_from:
            return ()
        if not self.window:
            return range(len(self.images))
        # At the very start there are too few, and the same ones would be seen over and over.
        return place.recent if len(place.recent) >= min(IMAGES, self.window) else ()

    def _picture(self, index: int, others: Sequence[int], rng: np.random.Generator) -> Picture:
        canvas = self._canvas(index, others, rng)
        view, objects = self._view(canvas, rng)
        image = shift_hsv(draw(canvas, view, self.size, self.read), self.augment.hsv, rng)
        picture = Picture(image, objects)
        if rng.random() < self.augment.flip:
            picture = mirrored(picture)
        if rng.random() < self.augment.flip_vertical:
            picture = mirrored(picture, vertical=True)
        return padded(picture, self.size)

    def _canvas(self, index: int, others: Sequence[int], rng: np.random.Generator) -> Canvas:
        smallest, largest = self.augment.scale
        ratio = rng.uniform(smallest, largest)
        if others and rng.random() < self.augment.mosaic:
            images = [index, *(_one_of(others, rng) for _ in range(IMAGES - 1))]
            return mosaic(images, [self._source(i) for i in images], self.size, ratio, rng)
        return plain(index, self._source(index), self.size, ratio)

    def _source(self, index: int) -> tuple[int, int]:
        width, height = self.images.sizes[index]
        return int(width), int(height)

    def _view(self, canvas: Canvas, rng: np.random.Generator) -> tuple[Rectangle, Objects]:
        """Draws which part of a canvas is seen, one with objects if it can be."""
        targets = [self.images.targets(tile.image) for tile in canvas.tiles]
        width, height = min(self.size, canvas.width), min(self.size, canvas.height)
        for _ in range(TRIES):
            left = int(rng.integers(canvas.width - width + 1))
            top = int(rng.integers(canvas.height - height + 1))
            view = left, top, left + width, top + height
            parts = zip(targets, canvas.tiles, strict=True)
            objects = joined(
                [seen_objects(known, tile, view, self.masks) for known, tile in parts], self.masks
            )
            if len(objects.boxes):
                break
        return view, objects


def _one_of(numbers: Sequence[int], rng: np.random.Generator) -> int:
    return numbers[int(rng.integers(len(numbers)))]
