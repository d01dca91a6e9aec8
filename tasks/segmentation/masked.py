"""Pre-training without labels: blocks of a patch are masked, and the network fills them in.

The masked autoencoder of Wald et al. (arXiv:2410.23132): blocks are set to 0, skip connections stay, and the squared
error counts on masked voxels alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from core.data.loader import Samples
from core.errors import ConfigError
from core.train.learner import Learner
from tasks.segmentation.config import MaskedConfig
from tasks.segmentation.samples import fixed_batches


def block_mask(patch: Sequence[int], masked: MaskedConfig, rng: np.random.Generator) -> Tensor:
    """Draws which voxels of a patch are masked ``(*patch)``: whole blocks of a grid from the first voxel on.

    A block that the patch ends within is never masked. Of n whole blocks, ``floor(ratio n)`` are.

    Raises:
        ConfigError: Not one block would be masked.
    """
    if masked.block < 1 or not 0 < masked.ratio < 1:
        raise ConfigError(
            f"--masked.block {masked.block} must be 1 or more, and --masked.ratio {masked.ratio} between 0 and 1"
        )
    grid = [side // masked.block for side in patch]
    chosen = int(masked.ratio * np.prod(grid))
    if not chosen:
        sides = " x ".join(map(str, patch))
        raise ConfigError(
            f"--masked.block {masked.block}, --masked.ratio {masked.ratio}: no block would be masked in a patch of "
            f"{sides} voxels; make the block smaller"
        )
    blocks = np.zeros(grid, bool)
    blocks.flat[rng.choice(blocks.size, chosen, replace=False)] = True
    mask = np.zeros(tuple(patch), bool)
    whole = tuple(slice(n * masked.block) for n in grid)
    mask[whole] = np.kron(blocks, np.ones((masked.block,) * len(grid), bool))
    return torch.from_numpy(mask)


def masked_batch(image: Tensor, mask: Tensor) -> Tensor:
    """Returns images ``(B, C, *patch)`` with 0 where the mask ``(B, *patch)`` is true."""
    return image * ~mask[:, None]


def explained_variance(predicted: Tensor, target: Tensor, masked: Tensor) -> float:
    """Returns 1 minus squared error over variance, both of the masked voxels of all channels together.

    Args:
        predicted: ``(B, C, *patch)``.
        target: The whole images ``(B, C, *patch)``.
        masked: ``(B, *patch)``, true where voxels were hidden.

    Returns:
        1 for a perfect reconstruction, 0 for the mean value everywhere.
    """
    where = masked[:, None].expand_as(target)
    truth = target[where].double()
    error = (predicted[where].double() - truth).square().mean()
    return float(1 - error / truth.var(correction=0).clamp(min=1e-12))


class MaskedSamples:
    """Patches with a mask of their own: :class:`core.data.loader.Samples`.

    Args:
        samples: Gives the patches.
        patch: Their size, voxels.
        masked: How much is masked.

    Raises:
        ConfigError: A block does not fit into a patch.
    """

    def __init__(self, samples: Samples, patch: Sequence[int], masked: MaskedConfig) -> None:
        self.samples, self.patch, self.masked = samples, tuple(patch), masked
        block_mask(patch, masked, np.random.default_rng(0))  # raises before the training starts

    def __len__(self) -> int:
        return len(self.samples)

    def draw(self, index: int, rng: np.random.Generator) -> dict[str, Any]:
        """Returns ``image (C, *patch)``, ``mask (*patch)`` and the case's name."""
        sample = self.samples.draw(index, rng)
        mask = block_mask(self.patch, self.masked, rng)
        return {"image": sample["image"], "mask": mask, "ids": sample["ids"]}


class MaskedLearner(Learner):
    """A network that fills in masked blocks.

    Args:
        model: Maps images ``(B, C, *patch)`` to images of the same size; without deep supervision.
        validation: Patches without augmentation, and masks, that the error is measured on; ``None`` for none.
        batches: How many batches of them.
        batch_size: Patches in such a batch.
        seed: Seed of these patches and masks, which are the same at every validation.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        validation: MaskedSamples | None = None,
        batches: int = 0,
        batch_size: int = 1,
        seed: int = 0,
    ) -> None:
        super().__init__(model)
        self.validation, self.batches, self.batch_size, self.seed = validation, batches, batch_size, seed
        self._held_out: list[dict[str, Tensor]] | None = None

    def loss_and_metrics(self, batch: dict[str, Any]) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns the mean squared error on the masked voxels of a batch."""
        image, mask = batch["image"], batch["mask"]
        filled = self.model(masked_batch(image, mask)).float()
        square = (filled - image).square() * mask[:, None]
        return square.sum() / (mask.sum() * image.shape[1]), {}

    def validate(self) -> tuple[float, dict[str, float]]:
        """Returns the mean squared error on masked voxels, and it with the share of variance that is explained.

        Without cases to validate on it is infinite, and there is nothing to log.
        """
        if self.validation is None:
            return math.inf, {}
        if self._held_out is None:
            self._held_out = fixed_batches(self.validation, self.batches, self.batch_size, self.seed)
        device = next(self.model.parameters()).device
        filled = torch.cat(
            [
                self.model(masked_batch(batch["image"], batch["mask"]).to(device)).float().cpu()
                for batch in self._held_out
            ]
        )
        image = torch.cat([batch["image"] for batch in self._held_out])
        mask = torch.cat([batch["mask"] for batch in self._held_out])
        where = mask[:, None].expand_as(image)
        error = (filled[where] - image[where]).square().mean().item()
        return error, {"mse": error, "explained": explained_variance(filled, image, mask)}
