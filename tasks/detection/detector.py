"""A trained network, applied to images: from pixels to objects."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.compress.folding import deploy
from core.errors import ConfigError
from core.registry import nearest
from core.train.hardware import choose_device
from tasks.detection.config import DetPredictConfig, DetScoringConfig
from tasks.detection.postprocess import Limits, select
from tasks.detection.preprocess import fit, normalise, scaled_size
from tasks.detection.results import Detections
from tasks.detection.rle import encode
from tasks.detection.tiles import Part, merge, parts_of

MASKS_AT_ONCE = 16
"""Masks that are enlarged together."""
SHOWN = 10
"""Classes that a message names."""


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
        draw_masks: bool = True,
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
            draw_masks: Draw the masks of a model that has them.

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
        found: list[Detections] = []
        while group := list(islice(crops, batch)):
            found += self._search(group, image_size or self.image_size, limits, draw_masks and self.masks)
            if progress is not None:
                progress(len(found), total)
        answers = iter(found)
        return [
            _joined(list(islice(answers, len(each))), each, image.shape[:2], limits)
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
    def _search(
        self, images: Sequence[np.ndarray], size: int, limits: Limits, masked: bool
    ) -> list[Detections]:
        """Finds the objects in images or tiles that are computed together."""
        padded, scales = zip(*(fit(image, size) for image in images), strict=True)
        x = torch.from_numpy(np.stack(padded)).to(self.device).permute(0, 3, 1, 2)
        outputs = self.network(normalise(x, self.network))
        boxes, scores = (each.cpu().numpy() for each in self.network.decode(outputs))
        draw = self._drawing(outputs) if masked else None
        results = []
        for i, (image, scale) in enumerate(zip(images, scales, strict=True)):
            found, places = select(boxes[i], scores[i], scale, image.shape[:2], limits)
            if draw is not None:
                logits = draw(i, torch.from_numpy(places).to(self.device))
                masks = [encode(mask) for mask in _masks(logits, size, scale, image.shape[:2])]
                found = Detections(found.boxes, found.scores, found.labels, masks)
            results.append(found)
        return results

    def _drawing(self, outputs: Any) -> Callable[[int, Tensor], Tensor]:
        """Returns what draws mask logits ``(N, h, w)`` in fitted image ``i`` of the objects at these places."""
        _, _, priors, kernels = self.network.flatten(outputs)

        def draw(i: int, places: Tensor) -> Tensor:
            return self.network.mask_logits(outputs.prototypes[i].float(), kernels[i, places], priors[places])

        return draw


def configured(
    detector: Detector, config: DetScoringConfig | DetPredictConfig
) -> Callable[..., list[Detections]]:
    """Returns :meth:`Detector.detect` with the options that scoring and predicting share."""
    return partial(
        detector.detect,
        score=config.score,
        iou=config.iou,
        max_detections=config.max_detections,
        agnostic=config.agnostic,
        tile=config.tile,
        overlap=config.overlap,
        batch=config.batch,
    )


def _joined(
    found: Sequence[Detections], parts: Sequence[Part], size: tuple[int, int], limits: Limits
) -> Detections:
    return found[0] if len(found) == 1 else merge(found, parts, size, limits)


def _masks(logits: Tensor, size: int, scale: float, shape: tuple[int, int]) -> Iterator[np.ndarray]:
    """Yields masks ``(H, W)`` bool of the image for logits ``(N, h, w)`` of the fitted one.

    A pixel belongs to an object above a probability of 0.5, which is a logit of 0. As in mmdetection the logits are
    enlarged to the fitted image, cut to what is no padding, and resized to the image, bilinearly each time.
    """
    width, height = scaled_size(shape[1], shape[0], scale)
    for group in logits.split(MASKS_AT_ONCE):
        fitted = F.interpolate(group[:, None], (size, size), mode="bilinear")[..., :height, :width]
        yield from (F.interpolate(fitted, shape, mode="bilinear")[:, 0] > 0).cpu().numpy()
