"""A segmentation network with its loss."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from core.data.loader import Samples
from core.train.learner import Learner
from tasks.segmentation.labels import IGNORE, Labels
from tasks.segmentation.losses import DeepSupervisionLoss, DiceCE, TargetMaps
from tasks.segmentation.samples import fixed_batches

KEPT = 0.9
"""Share of the old value in the running mean of the pseudo-Dice (nnU-Net)."""


class SegmentationLearner(Learner):
    """A segmentation network with its loss.

    Args:
        model: Maps images ``(B, C, *patch)`` to logits ``(B, O, *patch)``, or to a list of them in training.
        labels: What label maps mean.
        batch_dice: Whether the Dice loss is of the whole batch.
        dice: Whether there is a Dice loss beside the cross entropy.
        validation: Patches without augmentation that the pseudo-Dice is of; ``None`` for none.
        batches: How many batches of them.
        batch_size: Patches in such a batch.
        seed: Seed of these patches, which are the same at every validation.
    """

    def __init__(
        self,
        model: nn.Module,
        labels: Labels,
        *,
        batch_dice: bool,
        dice: bool = True,
        validation: Samples | None = None,
        batches: int = 0,
        batch_size: int = 1,
        seed: int = 0,
    ) -> None:
        super().__init__(model)
        self.labels, self.validation = labels, validation
        self.batches, self.batch_size, self.seed = batches, batch_size, seed
        self.loss = DeepSupervisionLoss(DiceCE(labels, batch_dice, dice))
        self.maps = TargetMaps(labels)
        # In the checkpoint, so that a resumed run goes on with it; below 0 before the first validation.
        self.pseudo_dice: Tensor
        self.register_buffer("pseudo_dice", torch.tensor(-1.0, dtype=torch.float64))
        self._held_out: list[dict[str, Tensor]] | None = None

    def loss_and_metrics(self, batch: dict[str, Any]) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns the loss of a batch, and its terms."""
        terms = self.loss.terms(self.model(batch["image"]), batch["labels"])
        return torch.stack(list(terms.values())).sum(), {name: term.detach() for name, term in terms.items()}

    def validate(self) -> tuple[float, dict[str, float]]:
        """Returns 1 minus the running mean of the pseudo-Dice, and what it is made of.

        The pseudo-Dice of a class or region is that of all validation patches together, as if they were one image. A
        target that is neither there nor predicted has none. Its mean is smoothed over the validations (nnU-Net).

        Without cases to validate on it is infinite, and there is nothing to log.
        """
        if self.validation is None:
            return math.inf, {}
        if self._held_out is None:
            self._held_out = fixed_batches(self.validation, self.batches, self.batch_size, self.seed)
        device = self.pseudo_dice.device
        losses, counts = [], torch.zeros(2, len(self.labels.targets), dtype=torch.int64, device=device)
        for batch in self._held_out:
            target = batch["labels"].to(device)
            logits = self.model(batch["image"].to(device))
            losses.append(self.loss(logits, target))
            counts += self._counts(logits, target)
        both, sums = counts.cpu()
        dice = {
            name: (2 * b / s).item()
            for (name, _), b, s in zip(self.labels.targets, both, sums, strict=True)
            if s
        }
        mean = sum(dice.values()) / max(len(dice), 1)
        first = self.pseudo_dice < 0
        self.pseudo_dice.copy_(mean if first else KEPT * self.pseudo_dice + (1 - KEPT) * mean)
        smooth = self.pseudo_dice.item()
        loss = torch.stack(losses).mean().item()
        parts = {f"pseudo_dice_{name}": value for name, value in dice.items()}
        return 1 - smooth, {"loss": loss, "pseudo_dice": mean, "pseudo_dice_ema": smooth, **parts}

    def _counts(self, logits: Tensor, target: Tensor) -> Tensor:
        """Returns ``(2, T)`` voxels: those of prediction and truth at once, and the sum of those of each."""
        counted = (target != IGNORE)[:, None]
        truth = self.maps(target) & counted
        predicted = (logits > 0 if self.labels.regions else self.maps(logits.argmax(1))) & counted
        axes = [0, *range(2, logits.ndim)]
        return torch.stack([(truth & predicted).sum(axes), truth.sum(axes) + predicted.sum(axes)])
