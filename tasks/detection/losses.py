"""The losses of RTMDet (Lyu et al., arXiv:2212.07784, sections 3.3 and 3.4), in float32."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import generalized_box_iou_loss

from core.train.distributed import mean_over_ranks

BOX_WEIGHT = 2.0
MASK_WEIGHT = 2.0
DICE_EPS = 5e-6


def quality_focal_loss(logits: Tensor, quality: Tensor) -> Tensor:
    """Returns the quality focal loss with beta 2 of each logit (Li et al., arXiv:2006.04388, equation 2).

    Args:
        logits: Any shape.
        quality: The same shape: the IoU of a positive at its own class, 0 elsewhere.
    """
    return (
        F.binary_cross_entropy_with_logits(logits, quality, reduction="none")
        * (quality - logits.sigmoid()).square()
    )


def dice_loss(logits: Tensor, masks: Tensor) -> Tensor:
    """Returns the Dice loss with squares below the fraction of each mask (V-Net, arXiv:1606.04797, section 3).

    Args:
        logits: ``(N, H, W)``.
        masks: ``(N, H, W)`` of 0 and 1, float.

    Returns:
        ``(N,)``.
    """
    predicted, masks = logits.sigmoid().flatten(1), masks.flatten(1)
    both = (predicted * masks).sum(1)
    sums = predicted.square().sum(1) + masks.square().sum(1) + 2 * DICE_EPS
    return 1 - 2 * both / sums


def detection_losses(
    logits: Tensor, boxes: Tensor, matched: Tensor, quality: Tensor, gt_boxes: Tensor, gt_labels: Tensor
) -> dict[str, Tensor]:
    """Returns the losses of classes and boxes of a batch.

    Both are sums divided by the sum of qualities, the mean over processes and at least 1: a batch without objects has
    a finite loss. Each place's box loss, GIoU, is weighted by its quality.

    Args:
        logits: ``(B, P, C)`` float32.
        boxes: ``(B, P, 4)`` float32, pixels.
        matched: ``(B, P)`` int64, the object of each place among those of the batch, or -1.
        quality: ``(B, P)`` float32, see :func:`tasks.detection.assigner.assign`.
        gt_boxes: ``(K, 4)``, pixels.
        gt_labels: ``(K,)`` int64.

    Returns:
        ``loss_cls`` and ``loss_box``, to be added.
    """
    images, places = (matched >= 0).nonzero(as_tuple=True)
    objects, weights = matched[images, places], quality[images, places]
    targets = logits.new_zeros(logits.shape)
    targets[images, places, gt_labels[objects]] = weights
    total = mean_over_ranks(quality.sum()).clamp(min=1)
    giou = generalized_box_iou_loss(boxes[images, places], gt_boxes[objects])
    return {
        "loss_cls": quality_focal_loss(logits, targets).sum() / total,
        "loss_box": BOX_WEIGHT * (giou * weights).sum() / total,
    }
