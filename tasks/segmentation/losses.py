"""Soft Dice with cross entropy, of exclusive classes or of overlapping regions (nnU-Net's loss)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tasks.segmentation.labels import IGNORE, Labels

SMOOTH = 1e-5
"""Added to both sides of the fraction, so that a class that is absent and not predicted has a Dice of 1."""


class TargetMaps(nn.Module):
    """Turns label maps into one map of 0 and 1 for each of ``labels.targets``.

    Args:
        labels: What label maps mean.
    """

    def __init__(self, labels: Labels) -> None:
        super().__init__()
        classes = np.arange(len(labels.names))
        self.table: Tensor
        # One row for each class; what is ignored is read as background, and masked by whoever calls.
        self.register_buffer(
            "table", torch.from_numpy(labels.region_maps(classes).T.copy()), persistent=False
        )

    def forward(self, target: Tensor) -> Tensor:
        """Returns ``(B, T, *spatial)`` booleans of labels ``(B, *spatial)``."""
        return self.table[target.clamp(min=0)].movedim(-1, 1)


class DiceCE(nn.Module):
    """Cross entropy minus soft Dice; voxels of ``IGNORE`` count in neither.

    Exclusive classes: softmax, the Dice of all classes but the background. Regions: sigmoid, the Dice of all regions,
    and binary cross entropy. The Dice of a class is ``(2 sum(p g) + s) / (sum(p) + sum(g) + s)``; the loss lies above
    -1. A batch in which all is ignored has loss 0. Computed in float32.

    Args:
        labels: What label maps mean.
        batch_dice: Sum over the whole batch, and not over each patch, before dividing.
        dice: Whether there is a Dice term; else cross entropy alone.
    """

    def __init__(self, labels: Labels, batch_dice: bool, dice: bool = True) -> None:
        super().__init__()
        self.regions, self.batch_dice, self.dice = bool(labels.regions), batch_dice, dice
        self.maps = TargetMaps(labels)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Returns the loss, a scalar, of logits ``(B, O, *spatial)`` and labels ``(B, *spatial)``."""
        return torch.stack(list(self.terms(logits, target).values())).sum()

    def terms(self, logits: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Returns the terms whose sum is the loss."""
        with torch.autocast(logits.device.type, enabled=False):
            logits = logits.float()
            maps, counted = self.maps(target).float(), (target != IGNORE)[:, None]
            terms = {"cross_entropy": self._cross_entropy(logits, target, maps, counted)}
            if self.dice:
                terms["dice_loss"] = self._dice_loss(logits, maps, counted)
        return terms

    def _cross_entropy(self, logits: Tensor, target: Tensor, maps: Tensor, counted: Tensor) -> Tensor:
        if self.regions:
            each = F.binary_cross_entropy_with_logits(logits, maps, reduction="none")
            return (each * counted).sum() / (counted.sum() * logits.shape[1]).clamp(min=1)
        total = F.cross_entropy(logits, target, ignore_index=IGNORE, reduction="sum")
        return total / counted.sum().clamp(min=1)

    def _dice_loss(self, logits: Tensor, maps: Tensor, counted: Tensor) -> Tensor:
        predicted = (logits.sigmoid() if self.regions else logits.softmax(1)[:, 1:]) * counted
        maps = maps * counted
        axes = [*([0] if self.batch_dice else []), *range(2, logits.ndim)]
        both, sums = (predicted * maps).sum(axes), predicted.sum(axes) + maps.sum(axes)
        dice = (2 * both + SMOOTH) / (sums + SMOOTH).clamp(min=1e-8)
        return -dice.mean() * counted.any()


class DeepSupervisionLoss(nn.Module):
    """The loss of outputs at several resolutions: weights 1, 1/2, 1/4, ..., 0 for the coarsest, which sum to 1.

    Args:
        loss: Loss of one output.
    """

    def __init__(self, loss: DiceCE) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, outputs: Tensor | Sequence[Tensor], target: Tensor) -> Tensor:
        """Returns the loss of one output, or of several, the finest first, against labels ``(B, *spatial)``."""
        return torch.stack(list(self.terms(outputs, target).values())).sum()

    def terms(self, outputs: Tensor | Sequence[Tensor], target: Tensor) -> dict[str, Tensor]:
        """Returns the terms whose sum is the loss."""
        if isinstance(outputs, Tensor):
            return self.loss.terms(outputs, target)
        total: dict[str, Tensor] = {}
        for weight, logits in zip(supervision_weights(len(outputs)), outputs, strict=True):
            if weight:
                for name, term in self.loss.terms(logits, shrink(target, logits.shape[2:])).items():
                    total[name] = total.get(name, 0) + weight * term
            else:
                # Several processes wait for a gradient of every parameter, also of the coarsest output's.
                total["cross_entropy"] = total["cross_entropy"] + 0 * logits.float().sum()
        return total


def supervision_weights(outputs: int) -> list[float]:
    """Returns the weight of each output, the finest first."""
    weights = [0.5**i for i in range(outputs)]
    if outputs > 1:
        weights[-1] = 0.0
    return [weight / sum(weights) for weight in weights]


def shrink(target: Tensor, size: Sequence[int]) -> Tensor:
    """Returns labels ``(B, *size)`` of ``(B, *spatial)``, those of the nearest voxels."""
    if target.shape[1:] == torch.Size(size):
        return target
    # Interpolation takes floats alone; labels are small enough to be exact.
    return F.interpolate(target[:, None].float(), tuple(size), mode="nearest-exact")[:, 0].long()
