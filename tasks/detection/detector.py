"""A trained network, applied to images: from pixels to objects."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.compress.folding import deploy
from core.errors import ConfigError
from core.registry import nearest
from core.train.hardware import choose_device
from tasks.detection.postprocess import Limits, select
from tasks.detection.preprocess import fit, normalise, scaled_size
from tasks.detection.results import Detections
from tasks.detection.rle import encode_resized
from tasks.detection.tiles import Part, merge, parts_of

MASKS_AT_ONCE = 16
"""Masks that are enlarged together."""
SHOWN = 10
"""Classes that a message names."""


class _Found(NamedTuple):
    """What was found in an image or tile: objects, its factor, and prototypes, kernels and places of the masks."""

    objects: Detections
    scale: float
    drawn_from: tuple[Tensor, Tensor, Tensor] | None


class Detector:
    """Finds objects with a trained network.

    Args:
        network: Trained network of this task; a copy in its form for inference is used.
        classes: Names of the classes.
        category_ids: COCO's number of each class.
        image_size: Side of the square that images are fitted into, pixels.
        metadata: Of its package.

    Attributes:
        network: The copy.
        classes: Names of the classes.
        category_ids: COCO's number of each class.
        image_size: Side of the square.
        metadata: Of the package.
        masks: Whether objects have masks.
    """

    def __init__(
        self,
        network: nn.Module,
        classes: Sequence[str],
        category_ids: Sequence[int],
        image_size: int,
        metadata: Mapping[str, Any],
    ) -> None:
        self.device = choose_device("auto")
        # Channels-last took 3 to 25 % off the time of every network that was tried on the CPU.
        self.network: Any = deploy(network.eval()).to(self.device).to(memory_format=torch.channels_last)
        self.classes, self.category_ids = list(classes), [int(number) for number in category_ids]
        self.image_size = image_size
        self.metadata = dict(metadata)
        self.masks = hasattr(network, "mask_logits")

    def detect(
        self,
        images: Sequence[np.ndarray],
        score: float = 0.3,
        iou: float = 0.65,
        max_detections: int = 300,
        multi_label: bool = False,
        agnostic: bool = False,
        tile: int = 0,
        overlap: float = 0.2,
        batch: int = 8,
        image_size: int | None = None,
        classes: Sequence[str] | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> list[Detections]:
        """Finds the objects in images.

        Args:
            images: RGB ``(H, W, 3)`` uint8 of any size.
            score: A box counts above this score.
            iou: Of two boxes of one class that overlap by more than this, the one with the lower score goes.
            max_detections: Most boxes in an image.
            multi_label: Every class of a place above the score counts, not only the best one.
            agnostic: Let boxes of different classes suppress each other too.
            tile: Side of the parts that larger images are also searched in, pixels of the image; 0 is off.
            overlap: Share of a tile that the next one repeats.
            batch: Images or tiles that are computed together.
            image_size: Side of the square that images, or tiles, are fitted into; the model's when not given.
            classes: Names of the classes to report; all when not given.
            progress: Told how many images or tiles are done, of how many.

        Returns:
            What was found in each image, the most certain first.

        Raises:
            ConfigError: A class is not one of the model's.
        """
        chosen = None if classes is None else self.positions(classes)
        limits = Limits(score, iou, max_detections, multi_label, agnostic, chosen)
        parts = [parts_of(image.shape[:2], tile, overlap) for image in images]
        total = sum(map(len, parts))
        crops = (
            image[top:bottom, left:right]
            for image, each in zip(images, parts, strict=True)
            for left, top, right, bottom in each
        )
        side = image_size or self.image_size
        found: list[_Found] = []
        while group := list(islice(crops, batch)):
            found += self._search(group, side, limits)
            if progress is not None:
                progress(len(found), total)
        answers = iter(found)
        return [
            self._joined(list(islice(answers, len(each))), each, image.shape[:2], side, limits)
            for image, each in zip(images, parts, strict=True)
        ]

    def positions(self, names: Sequence[str]) -> list[int]:
        """Returns the labels of classes.

        Raises:
            ConfigError: A class is not one of the model's.
        """
        for name in names:
            if name not in self.classes:
                known = ", ".join(self.classes[:SHOWN]) + ", ..." * (len(self.classes) > SHOWN)
                raise ConfigError(
                    f"--classes: the model has no class {name!r}, only {known}.{nearest(name, self.classes)}"
                )
        return [self.classes.index(name) for name in names]

    @torch.inference_mode()
    def _search(self, images: Sequence[np.ndarray], size: int, limits: Limits) -> list[_Found]:
        """Finds the objects in images or tiles that are computed together, without drawing masks."""
        padded, scales = zip(*(fit(image, size) for image in images), strict=True)
        x = torch.from_numpy(np.stack(padded)).to(self.device).permute(0, 3, 1, 2)
        outputs = self.network(normalise(x, self.network))
        boxes, scores = (each.cpu().numpy() for each in self.network.decode(outputs))
        _, _, priors, kernels = self.network.flatten(outputs) if self.masks else (None,) * 4
        results = []
        for i, (image, scale) in enumerate(zip(images, scales, strict=True)):
            found, places = select(boxes[i], scores[i], scale, image.shape[:2], limits)
            drawn_from = None
            if self.masks:
                at = torch.from_numpy(places).to(self.device)
                drawn_from = (outputs.prototypes[i].float(), kernels[i, at], priors[at])
            results.append(_Found(found, scale, drawn_from))
        return results

    @torch.inference_mode()
    def _joined(
        self,
        found: Sequence[_Found],
        parts: Sequence[Part],
        size: tuple[int, int],
        side: int,
        limits: Limits,
    ) -> Detections:
        """Returns what was found in the parts of an image as one list, with masks of what is left."""
        merged, owners, positions = merge([each.objects for each in found], parts, size, limits)
        if not self.masks:
            return merged
        masks: dict[int, dict[str, Any]] = {}
        for i, (each, part) in enumerate(zip(found, parts, strict=True)):
            own = np.flatnonzero(owners == i)
            assert each.drawn_from is not None
            prototypes, kernels, priors = each.drawn_from
            chosen = torch.from_numpy(positions[own]).to(self.device)
            logits = self.network.mask_logits(prototypes, kernels[chosen], priors[chosen])
            masks.update(zip(own.tolist(), _masks(logits, side, each.scale, part, size), strict=True))
        return Detections(
            merged.boxes, merged.scores, merged.labels, [masks[i] for i in range(len(merged))]
        )


def _masks(
    logits: Tensor, fitted: int, scale: float, part: Part, size: tuple[int, int]
) -> Iterator[dict[str, Any]]:
    """Yields masks of the image, as run lengths, for logits ``(N, h, w)`` of a part of it that was fitted.

    A pixel belongs to an object above a probability of 0.5, which is a logit of 0. As in mmdetection the logits are
    enlarged to the fitted part, cut to what is no padding, and resized to the part, bilinearly each time.

    Args:
        logits: Of the objects.
        fitted: Side of the square that the part was fitted into, pixels.
        scale: Factor of the fitted part.
        part: The part.
        size: Height and width of the image.
    """
    left, top, right, bottom = part
    width, height = scaled_size(right - left, bottom - top, scale)
    for group in logits.split(MASKS_AT_ONCE):
        cut = F.interpolate(group[:, None], (fitted, fitted), mode="bilinear")[..., :height, :width]
        # Resized across alone: to draw masks at their full height took most of the time of large images.
        wide = F.interpolate(cut, (height, right - left), mode="bilinear")[:, 0].cpu().numpy()
        yield from (encode_resized(each, bottom - top, left, top, size) for each in wide)
