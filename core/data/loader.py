"""Batches from a finite data set, by number: an epoch depends on the seed and the epoch's number alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from core.errors import DataError
from core.train.distributed import World, environment_world
from core.train.seeds import derive_seed, generator


class Samples(Protocol):
    """A finite data set whose samples may be drawn at random: crops, noise, augmentation."""

    def __len__(self) -> int:
        """Number of samples in an epoch."""

    def draw(self, index: int, rng: np.random.Generator) -> dict[str, Any]:
        """Returns arrays or tensors for a sample; its ``"ids"`` is shown in error messages.

        Args:
            index: Sample, from 0.
            rng: The only source of randomness. It depends on seed, epoch and index, not on what was drawn before or
                on which process draws, so that every epoch is new and a resumed run draws the same.
        """


class EpochLoader:
    """A :class:`core.train.learner.BatchSource` over a finite data set.

    Args:
        samples: The data.
        batch_size: Samples in a batch, over all processes; an incomplete last batch is dropped in training.
        seed: Seed of the order and of what the samples draw.
        workers: Loader processes; with 0 a resumed run is bit-equal to an uninterrupted one.
        world: This process's share, the environment's by default: every rank takes its slice of a batch.
        groups: Sizes of groups of samples that follow each other, where a batch must be of one group, such as
            patches of one size; by default all samples are one.
        shuffle: Draw the samples in a random order; otherwise their numbers tell their place in the batch.
    """

    def __init__(
        self,
        samples: Samples,
        batch_size: int,
        *,
        seed: int,
        workers: int = 0,
        world: World | None = None,
        groups: Sequence[int] | None = None,
        shuffle: bool = True,
    ) -> None:
        self.samples, self.batch_size, self.seed, self.workers = samples, batch_size, seed, workers
        self.shuffle = shuffle
        self.world = world or environment_world()
        if batch_size % self.world.size:
            raise DataError(
                f"a batch of {batch_size} cannot be shared by {self.world.size} processes equally"
            )
        self.groups = groups or [len(samples)]
        self.steps_per_epoch: int = sum(size // batch_size for size in self.groups)
        smallest = min(self.groups)
        if smallest < batch_size:
            raise DataError(
                f"{smallest} samples do not fill a batch of {batch_size}; "
                f"set --train.batch_size to {smallest} or less"
            )

    def batches(self, start: int, device: torch.device) -> Iterator[dict[str, Any]]:
        """Yields batches from number ``start`` on, epoch after epoch, without end."""
        epoch, skip = divmod(start, self.steps_per_epoch)
        while True:
            loader = DataLoader(
                _Epoch(self.samples, self.seed, epoch),
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
        random = generator(self.seed, "order", epoch)
        parts, first = [], 0
        for size in self.groups:
            order = first + (torch.randperm(size, generator=random) if self.shuffle else torch.arange(size))
            parts.append(order[: size // self.batch_size * self.batch_size].view(-1, self.batch_size))
            first += size
        whole = torch.cat(parts)
        if len(parts) > 1:
            whole = whole[torch.randperm(len(whole), generator=random)]
        return whole[skip:, self.world.rank :: self.world.size].tolist()


class _Epoch(Dataset):
    """One epoch of the data, as the loader's processes see it."""

    def __init__(self, samples: Samples, seed: int, epoch: int) -> None:
        self.samples, self.seed, self.epoch = samples, seed, epoch

    def __getitem__(self, index: int) -> dict[str, Any]:
        rng = np.random.Generator(np.random.PCG64(derive_seed(self.seed, "draw", self.epoch, index)))
        return self.samples.draw(index, rng)
