"""Which places of a network learn which object: dynamic soft label assignment (RTMDet, section 3.3)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from tasks.detection.boxes import iou_matrix

RADIUS = 3.0
"""Cells from the centre of an object at which the distance costs 1; each further one costs ten times as much."""
MOST = 13
"""An object has as many places as the sum of its largest IoUs, of which so many are taken."""
IOU_WEIGHT = 3.0
EPS = 1e-7


@torch.no_grad()
def assign(
    logits: Tensor,
    boxes: Tensor,
    priors: Tensor,
    gt_boxes: Tensor,
    gt_labels: Tensor,
    centres: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    r"""Gives the objects of one image their places (Lyu et al., arXiv:2212.07784, equations 1 to 4).

    Places inside of at least one object are candidates. Place p costs object g

    .. math:: C = C_{cls} - 3 \ln(IoU + 10^{-7}) + 10^{d / s - 3}

    with the distance d of the place from the object's centre and the stride s. Object g takes the
    ``max(1, floor(sum of its 13 largest IoUs))`` candidates that cost it least; a place that several take goes to the
    object, of all, that it costs least.

    The class cost is the quality focal loss of all classes against a one-hot target times the IoU. As published it is
    a tensor of places, objects and classes. Here it is ``N[p] - n[p, y] + own[p, g]``: all classes as negatives, less
    the object's class y as a negative, and with it as a positive. This is the same sum without that tensor.

    Args:
        logits: ``(P, C)`` float32.
        boxes: ``(P, 4)`` float32, the predicted boxes, pixels.
        priors: ``(P, 3)``: x, y and stride of the places, pixels.
        gt_boxes: ``(G, 4)``, pixels; G may be 0.
        gt_labels: ``(G,)`` int64.
        centres: ``(G, 2)`` centres of mass of the objects, pixels; by default the middles of their boxes.

    Returns:
        ``(P,)`` int64, the object of each place or -1, and ``(P,)`` float32, the IoU with it, 0 where there is none.
    """
    matched = torch.full((len(priors),), -1, device=logits.device)
    quality = torch.zeros(len(priors), device=logits.device)
    candidates = _inside_any(priors, gt_boxes).nonzero()[:, 0]
    if not len(candidates):
        return matched, quality
    if centres is None:
        centres = (gt_boxes[:, :2] + gt_boxes[:, 2:]) / 2
    iou = iou_matrix(gt_boxes, boxes[candidates])
    cost = _class_cost(logits[candidates], gt_labels, iou)
    cost += _iou_cost(iou)
    cost += _centre_cost(priors[candidates], centres)
    best = _match(cost, iou)
    positive = (best >= 0).nonzero()[:, 0]
    places, objects = candidates[positive], best[positive]
    matched[places] = objects
    quality[places] = iou[objects, positive]
    return matched, quality


def _inside_any(priors: Tensor, boxes: Tensor) -> Tensor:
    """Returns ``(P,)``: whether a place lies inside of a box, not on its edge."""
    x, y = priors[:, 0], priors[:, 1]
    left, top, right, bottom = boxes[..., None].unbind(1)
    return ((x > left) & (x < right) & (y > top) & (y < bottom)).any(0)


def _class_cost(logits: Tensor, labels: Tensor, iou: Tensor) -> Tensor:
    """Returns ``(G, P)`` quality focal losses, see :func:`assign`."""
    negative = F.softplus(logits) * logits.sigmoid().square()
    own = logits.T[labels]
    cost = F.binary_cross_entropy_with_logits(own, iou, reduction="none")
    cost *= own.sigmoid_().sub_(iou).square_()
    cost -= negative.T[labels]
    cost += negative.sum(1)
    return cost


def _iou_cost(iou: Tensor) -> Tensor:
    return (iou + EPS).log_().mul_(-IOU_WEIGHT)


def _centre_cost(priors: Tensor, centres: Tensor) -> Tensor:
    """Returns ``(G, P)``."""
    square = (priors[:, 0] - centres[:, :1]).square_()
    square += (priors[:, 1] - centres[:, 1:]).square_()
    return torch.pow(10.0, square.sqrt_().div_(priors[:, 2]).sub_(RADIUS))


def _match(cost: Tensor, iou: Tensor) -> Tensor:
    """Returns ``(P,)`` int64, the object of each candidate or -1, of costs and IoUs ``(G, P)``."""
    most = min(MOST, cost.shape[1])
    wanted = iou.topk(most).values.sum(1).int().clamp(min=1)
    cheapest = cost.topk(most, largest=False).indices
    # One topk for all objects, of which each then takes its own number.
    taken = torch.arange(most, device=cost.device) < wanted[:, None]
    objects, places = taken.nonzero()[:, 0], cheapest[taken]
    best = torch.full((cost.shape[1],), -1, device=cost.device)
    best[places] = objects
    several = (places.bincount(minlength=len(best)) > 1).nonzero()[:, 0]
    best[several] = cost[:, several].argmin(0)
    return best
