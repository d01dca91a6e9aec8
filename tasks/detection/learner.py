"""Detectors with their losses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.errors import ConfigError
from core.registry import Registry
from core.train.distributed import mean_over_ranks
from core.train.learner import Learner
from tasks.detection.assigner import assign
from tasks.detection.boxes import iou_matrix
from tasks.detection.losses import MASK_WEIGHT, detection_losses, dice_loss
from tasks.detection.preprocess import normalise

MASK_STRIDE = 4
"""Pixels from one value of a mask to the next; the first stands for the pixel in the middle, at half of it."""
MASK_VALUES = 2**26
"""Most values of predicted masks in a batch, 256 MB as float32: 2,621 places at 640 pixels, 10,485 at 320."""

Validate = Callable[[nn.Module], dict[str, float]]
LEARNERS: Registry[type[DetectionLearner]] = Registry("detection model")


class DetectionLearner(Learner):
    """What all detectors share.

    A batch has ``image`` ``(B, 3, S, S)`` RGB of 0 to 255, ``boxes`` ``(K, 4)`` in pixels of it, ``labels`` ``(K,)``,
    and ``owner`` ``(K,)``, the image of each object.

    Args:
        model: Network, see :mod:`tasks.detection.models`.
        validate: Scores a network: ``map`` and whatever else is to be in the curves; ``None`` without images for it.
    """

    model: Any  # each learner calls what only its own network has

    def __init__(self, model: nn.Module, validate: Validate | None = None) -> None:
        super().__init__(model)
        self._score = validate

    def loss_and_metrics(self, batch: dict[str, Any]) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns the loss of a batch, and its terms."""
        outputs = self.model(normalise(batch["image"], self.model))
        with torch.autocast(batch["image"].device.type, enabled=False):
            terms, metrics = self.terms(outputs, batch)
        metrics = {name: term.detach() for name, term in terms.items()} | metrics
        return torch.stack(list(terms.values())).sum(), metrics

    def terms(self, outputs: Any, batch: dict[str, Any]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Returns the terms whose sum is the loss, and further scalars, of what the network gives."""
        raise NotImplementedError

    def validate(self) -> tuple[float, dict[str, float]]:
        """Returns the negative mAP of the validation images, and all that was measured.

        Raises:
            ConfigError: There are no validation images.
        """
        if self._score is None:
            raise ConfigError("there are no images to validate on; set --data.validation_share above 0")
        metrics = self._score(self.model)
        return -metrics["map"], metrics


@LEARNERS.register("rtmdet")
class RTMDetLearner(DetectionLearner):
    """RTMDet with dynamic soft labels, quality focal loss and GIoU."""

    def terms(self, outputs: Any, batch: dict[str, Any]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Returns the losses of classes and boxes, and how many places of an image learn an object."""
        logits, boxes, priors = self.model.flatten(outputs)
        matched, quality = assign_batch(logits, boxes, priors, batch)
        losses = detection_losses(logits, boxes, matched, quality, batch["boxes"], batch["labels"])
        return losses, _positives(matched)


@LEARNERS.register("rtmdet_ins")
class RTMDetInsLearner(DetectionLearner):
    """RTMDet-Ins: as RTMDet, and the Dice loss of masks.

    A batch also has ``masks`` ``(K, S / 4, S / 4)``, every fourth pixel from the third on, and ``has_mask`` ``(K,)``.
    """

    def terms(self, outputs: Any, batch: dict[str, Any]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Returns the losses of classes, boxes and masks, and how many places of an image learn an object."""
        logits, boxes, priors, kernels = self.model.flatten(outputs)
        centres = mass_centres(batch["masks"], batch["boxes"])
        matched, quality = assign_batch(logits, boxes, priors, batch, centres)
        losses = detection_losses(logits, boxes, matched, quality, batch["boxes"], batch["labels"])
        losses["loss_mask"] = self._mask_loss(outputs.prototypes.float(), kernels, priors, matched, batch)
        return losses, _positives(matched)

    def _mask_loss(
        self, prototypes: Tensor, kernels: Tensor, priors: Tensor, matched: Tensor, batch: dict[str, Any]
    ) -> Tensor:
        """Returns the mean Dice loss of the places whose object has a mask, at a quarter of the resolution.

        Above :data:`MASK_VALUES` it is the mean of as many places as that allows, evenly chosen.
        """
        masks = batch["masks"]
        images, places = (matched >= 0).nonzero(as_tuple=True)
        kept = batch["has_mask"][matched[images, places]].nonzero()[:, 0]
        most = MASK_VALUES // (masks.shape[1] * masks.shape[2])
        if len(kept) > most:
            kept = kept[torch.arange(most, device=kept.device) * len(kept) // most]
        images, places = images[kept], places[kept]
        # Every parameter has a gradient, as distributed training asks, where no place has a mask.
        loss = 0 * (prototypes.sum() + kernels.sum())
        for i in range(len(matched)):
            own = places[images == i]
            if len(own):
                logits = self.model.mask_logits(prototypes[i], kernels[i, own], priors[own])
                logits = F.interpolate(logits[None], size=masks.shape[1:], mode="bilinear")[0]
                loss = loss + dice_loss(logits, masks[matched[i, own]].float()).sum()
        number = mean_over_ranks(loss.new_tensor(float(len(kept)))).clamp(min=1)
        return MASK_WEIGHT * loss / number


@LEARNERS.register("ssdlite")
class SSDLiteLearner(DetectionLearner):
    """torchvision's SSDLite with its own loss: smooth L1, and cross entropy with hard negatives."""

    def terms(self, outputs: Any, batch: dict[str, Any]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Returns the losses of classes and boxes, and how many anchors of an image learn an object."""
        ssd, anchors = self.model.ssd, outputs["anchors"]
        raw = {name: outputs[name].float() for name in ("bbox_regression", "cls_logits")}
        targets, matched = [], []
        for i in range(len(raw["cls_logits"])):
            own = batch["owner"] == i
            boxes = batch["boxes"][own]
            # torchvision's class 0 is the background.
            targets.append({"boxes": boxes, "labels": batch["labels"][own] + 1})
            none = torch.full((len(anchors),), -1, device=anchors.device)
            matched.append(ssd.proposal_matcher(iou_matrix(boxes, anchors)) if len(boxes) else none)
        losses = ssd.compute_loss(targets, raw, [anchors] * len(targets), matched)
        return {
            "loss_cls": losses["classification"],
            "loss_box": losses["bbox_regression"],
        }, _positives(torch.stack(matched))


def assign_batch(
    logits: Tensor, boxes: Tensor, priors: Tensor, batch: dict[str, Any], centres: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Gives the objects of a batch their places, see :func:`tasks.detection.assigner.assign`.

    Args:
        logits: ``(B, P, C)``.
        boxes: ``(B, P, 4)``, pixels.
        priors: ``(P, 3)``, pixels.
        batch: ``boxes``, ``labels`` and ``owner``.
        centres: ``(K, 2)`` centres of mass, pixels; by default the middles of the boxes.

    Returns:
        ``(B, P)`` int64, the object of each place among those of the batch or -1, and ``(B, P)`` float32, its quality.
    """
    matched, quality = [], []
    for i in range(len(logits)):
        own = (batch["owner"] == i).nonzero()[:, 0]
        middle = None if centres is None else centres[own]
        best, iou = assign(logits[i], boxes[i], priors, batch["boxes"][own], batch["labels"][own], middle)
        found = best >= 0
        best[found] = own[best[found]]
        matched.append(best)
        quality.append(iou)
    return torch.stack(matched), torch.stack(quality)


def mass_centres(masks: Tensor, boxes: Tensor) -> Tensor:
    """Returns the centres of mass ``(K, 2)`` of masks, pixels; the middle of its box for an object whose mask is empty.

    Args:
        masks: ``(K, S / 4, S / 4)`` of 0 and 1, every fourth pixel from the third on.
        boxes: ``(K, 4)``, pixels.
    """
    columns, rows = masks.sum(1), masks.sum(2)
    area = rows.sum(1, keepdim=True)
    places = [
        MASK_STRIDE * (torch.arange(sums.shape[1], device=masks.device) + 0.5) for sums in (columns, rows)
    ]
    sums = torch.stack([columns.float() @ places[0], rows.float() @ places[1]], 1)
    return torch.where(area > 0, sums / area.clamp(min=1), (boxes[:, :2] + boxes[:, 2:]) / 2)


def _positives(matched: Tensor) -> dict[str, Tensor]:
    return {"positives": (matched >= 0).sum() / len(matched)}
