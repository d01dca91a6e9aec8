"""Batches from a finite data set, by number: an epoch depends on the seed and the epoch's number alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import count, islice
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from core.errors import DataError
from core.train.distributed import World, environment_world
from core.train.seeds import derive_seed, generator


@runtime_checkable
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


@dataclass(frozen=True)
class Place:
    """Where in a training a sample is drawn.

    Attributes:
        epoch: Passes over the data before, from 0.
        index: Sample, from 0.
        recent: Samples that the same loader process drew last, the newest first: what it still holds in memory.
    """

    epoch: int
    index: int
    recent: tuple[int, ...] = ()


@runtime_checkable
class PlacedSamples(Protocol):
    """Samples that are mixed with others, or change in the course of a training.

    Attributes:
        window: Number of samples in :attr:`Place.recent`, as far as so many were drawn.
    """

    window: int

    def __len__(self) -> int:
        """Number of samples in an epoch."""

    def draw_at(self, place: Place, rng: np.random.Generator) -> dict[str, Any]:
        """Returns what :meth:`Samples.draw` does; it depends on the place and ``rng`` alone."""


class EpochLoader:
    """A :class:`core.train.learner.BatchSource` over a finite data set.

    Args:
        samples: The data.
        batch_size: Samples in a batch, over all processes; an incomplete last batch is dropped in training.
        seed: Seed of the order and of what the samples draw.
        workers: Loader processes, which stay for the whole training; with 0 a resumed run is bit-equal to an
            uninterrupted one.
        world: This process's share, the environment's by default: every rank takes its slice of a batch.
        groups: Sizes of groups of samples that follow each other, where a batch must be of one group, such as
            patches of one size; by default all samples are one.
        shuffle: Draw the samples in a random order; otherwise their numbers tell their place in the batch.
        collate: Makes a batch of what the samples draw, where that is not of equal shapes; torch's by default.
    """

    def __init__(
        self,
        samples: Samples | PlacedSamples,
        batch_size: int,
        *,
        seed: int,
        workers: int = 0,
        world: World | None = None,
        groups: Sequence[int] | None = None,
        shuffle: bool = True,
        collate: Callable[[list[dict[str, Any]]], dict[str, Any]] | None = None,
    ) -> None:
        self.samples, self.batch_size, self.seed, self.workers = samples, batch_size, seed, workers
        self.shuffle, self.collate = shuffle, collate
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
        loader = DataLoader(
            _Drawn(self.samples, self.seed),
            batch_sampler=_From(self, start),
            num_workers=self.workers,
            collate_fn=self.collate,
            pin_memory=device.type == "cuda",
            # The default draws from the global generator, which would shift dropout after a resume.
            generator=generator(self.seed, "workers"),
        )
        for batch in loader:
            yield {k: v.to(device, non_blocking=True) if torch.is_tensor(v) else v for k, v in batch.items()}

    def places(self, start: int) -> Iterator[list[Place]]:
        """Yields what each batch from number ``start`` on holds."""
        # Enough for the batches that the window reaches back to.
        order = lru_cache(maxsize=4)(self._indices)
        window = self.samples.window if isinstance(self.samples, PlacedSamples) else 0
        # torch deals the batches out to its processes in turn.
        stride = max(1, self.workers)

        def before(number: int) -> Iterator[int]:
            for earlier in range(number - stride, -1, -stride):
                epoch, position = divmod(earlier, self.steps_per_epoch)
                yield from reversed(order(epoch)[position])

        for number in count(start):
            epoch, position = divmod(number, self.steps_per_epoch)
            recent = list(islice(before(number), window))
            places = []
            for index in order(epoch)[position]:
                places.append(Place(epoch, index, tuple(recent)))
                recent = [index, *recent][:window]
            yield places

    def _indices(self, epoch: int) -> list[list[int]]:
        random = generator(self.seed, "order", epoch)
        parts, first = [], 0
        for size in self.groups:
            order = first + (torch.randperm(size, generator=random) if self.shuffle else torch.arange(size))
            parts.append(order[: size // self.batch_size * self.batch_size].view(-1, self.batch_size))
            first += size
        whole = torch.cat(parts)
        if len(parts) > 1:
            whole = whole[torch.randperm(len(whole), generator=random)]
        return whole[:, self.world.rank :: self.world.size].tolist()


class _From:
    """The batches of a loader from a number on, without end, as torch's loader asks for them."""

    def __init__(self, loader: EpochLoader, start: int) -> None:
        self.loader, self.start = loader, start

    def __iter__(self) -> Iterator[list[Place]]:
        return self.loader.places(self.start)


class _Drawn(Dataset):
    """The data as the loader's processes see it: a sample is drawn at its place."""

    def __init__(self, samples: Samples | PlacedSamples, seed: int) -> None:
        self.samples, self.seed = samples, seed

    def __getitem__(self, place: Place) -> dict[str, Any]:
        rng = np.random.Generator(np.random.PCG64(derive_seed(self.seed, "draw", place.epoch, place.index)))
        if isinstance(self.samples, PlacedSamples):
            return self.samples.draw_at(place, rng)
        return self.samples.draw(place.index, rng)
