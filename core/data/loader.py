"""Batches from a map-style dataset, by number: an epoch's order depends on the seed and the epoch alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from core.errors import DataError
from core.train.distributed import World, environment_world
from core.train.seeds import generator


class EpochLoader:
    """A :class:`core.train.learner.BatchSource` over a map-style dataset.

    Args:
        dataset: Returns a dictionary of tensors for an index; its ``"ids"`` are shown in error messages.
        batch_size: Samples in a batch, over all processes; an incomplete last batch is dropped in training.
        seed: Seed of the order.
        workers: Loader processes; with 0 a resumed run is bit-equal to an uninterrupted one.
        world: This process's share, the environment's by default: every rank takes its slice of a batch.
    """

    def __init__(
        self, dataset: Dataset, batch_size: int, *, seed: int, workers: int = 0, world: World | None = None
    ) -> None:
        self.dataset, self.batch_size, self.seed, self.workers = dataset, batch_size, seed, workers
        self.world = world or environment_world()
        if batch_size % self.world.size:
            raise DataError(
                f"a batch of {batch_size} cannot be shared by {self.world.size} processes equally"
            )
        self.steps_per_epoch: int = len(dataset) // batch_size  # type: ignore[arg-type]
        if self.steps_per_epoch == 0:
            raise DataError(
                f"{len(dataset)} samples do not fill a batch of {batch_size}; "  # type: ignore[arg-type]
                f"set --train.batch_size to {len(dataset)} or less"  # type: ignore[arg-type]
            )

    def batches(self, start: int, device: torch.device) -> Iterator[dict[str, Any]]:
        """Yields batches from number ``start`` on, epoch after epoch, without end."""
        epoch, skip = divmod(start, self.steps_per_epoch)
        while True:
            loader = DataLoader(
                self.dataset,
                batch_sampler=self._indices(epoch, skip),
                num_workers=self.workers,
                pin_memory=device.type == "cuda",
                # The default draws from the global generator, which would shift dropout after a resume.
                generator=generator(self.seed, "workers", epoch),
            )
            for batch in loader:
                yield {
                    k: v.to(device, non_blocking=True) if torch.is_tensor(v) else v for k, v in batch.items()
                }
            epoch, skip = epoch + 1, 0

    def _indices(self, epoch: int, skip: int) -> list[list[int]]:
        order = torch.randperm(len(self.dataset), generator=generator(self.seed, "order", epoch))  # type: ignore[arg-type]
        whole = order[: self.steps_per_epoch * self.batch_size].view(self.steps_per_epoch, self.batch_size)
        return whole[skip:, self.world.rank :: self.world.size].tolist()
