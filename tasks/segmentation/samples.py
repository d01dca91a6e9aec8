"""Training patches: which case, where, and what is read there."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from core.data.loader import Samples
from core.train.seeds import derive_seed
from tasks.segmentation.config import AugmentConfig, SegTrainConfig
from tasks.segmentation.labels import IGNORE, Labels
from tasks.segmentation.transforms import AUGMENTATIONS, Augmentation

if TYPE_CHECKING:
    from tasks.segmentation.planning.plan import Plan
    from tasks.segmentation.preprocess import Prepared

TRIES = 100
"""Positions that are drawn until the centre of the patch is in the field of view."""
POSITIONS = 10000
"""Labelled voxels of a case that are kept, where others count for nothing."""


class PatchSamples:
    """Random patches of preprocessed cases: :class:`core.data.loader.Samples` in nnU-Net's way.

    Each patch is of a random case. The last patches of a batch are put on a labelled voxel: first a class of the case
    is drawn, then one of its voxels. The others lie anywhere inside the case. Cases smaller than a patch are
    padded with 0 and background; outside of a field of view labels count for nothing.

    Args:
        prepared: Cases at the plan's spacing; their arrays may lie on disk.
        names: Of the cases.
        plan: Patch, batch and channels. A 2-D plan reads slices along the first axis.
        labels: What label maps mean.
        train: Batches in an epoch, and the share of a batch that is put on a labelled voxel.
        augment: How patches are changed.
        intensity: Whether values are changed too.

    Raises:
        ConfigError: The augmentation does not fit the plan.
    """

    def __init__(
        self,
        prepared: Sequence[Prepared],
        names: Sequence[str],
        plan: Plan,
        labels: Labels,
        train: SegTrainConfig,
        augment: AugmentConfig,
        *,
        intensity: bool = True,
    ) -> None:
        self.prepared, self.names, self.plan, self.labels = prepared, names, plan, labels
        self.batches = train.batches_per_epoch
        self.free = round(plan.batch_size * (1 - train.foreground))
        self.augmentation = AUGMENTATIONS[augment.kind](augment, plan, intensity)
        self._labelled: dict[int, np.ndarray] = {}

    def __len__(self) -> int:
        return self.batches * self.plan.batch_size

    def unchanged(self) -> PatchSamples:
        """Returns the same without augmentation, to validate on."""
        same = copy(self)
        same.augmentation = Augmentation(AugmentConfig("none"), self.plan)
        return same

    def draw(self, index: int, rng: np.random.Generator) -> dict[str, Any]:
        """Returns ``image (C, *patch)`` float32, ``labels (*patch)`` int64 with ``IGNORE``, and the case's name."""
        number = int(rng.integers(len(self.prepared)))
        case = self.prepared[number]
        start = self._position(number, index % self.plan.batch_size >= self.free, rng)

        def read(size: tuple[int, ...]) -> tuple[Tensor, Tensor]:
            return self._read(case, start, size)

        image, labels = self.augmentation(read, rng)
        return {"image": image.contiguous(), "labels": labels.long(), "ids": self.names[number]}

    def _position(self, number: int, forced: bool, rng: np.random.Generator) -> np.ndarray:
        """Draws the first voxel ``(3,)`` of a patch; negative where the patch is larger than the case."""
        case = self.prepared[number]
        shape, patch = np.array(case.image.shape[1:]), self._full(self.plan.patch_size)
        spare = shape - patch
        classes = sorted(k for k, voxels in case.foreground.items() if k > 0 and len(voxels))
        chosen = forced and classes
        voxels = case.foreground[rng.choice(classes)] if chosen else self._counting(number)
        if len(voxels):
            start = voxels[rng.integers(len(voxels))] - patch // 2
            return np.where(spare > 0, np.clip(start, 0, np.maximum(spare, 0)), spare // 2)
        for _ in range(TRIES):
            start = np.where(spare > 0, rng.integers(0, np.maximum(spare, 0) + 1), spare // 2)
            if case.mask is None or case.mask[tuple(np.clip(start + patch // 2, 0, shape - 1))]:
                break
        return start

    def _counting(self, number: int) -> np.ndarray:
        """Returns voxels ``(N, 3)`` of a case that are labelled, where not all are; else none.

        Scribbles may be so few that patches put anywhere would miss them.
        """
        labels = self.prepared[number].labels
        if self.labels.ignore is None or labels is None:
            return np.empty((0, 3), np.int32)
        if number not in self._labelled:
            found = np.flatnonzero(labels != IGNORE)
            if len(found) > POSITIONS:
                found = np.random.default_rng(number).choice(found, POSITIONS, replace=False)
            self._labelled[number] = np.stack(np.unravel_index(found, labels.shape), 1).astype(np.int32)
        return self._labelled[number]

    def _read(self, case: Prepared, start: np.ndarray, size: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """Reads a box about the centre of the patch that begins at ``start``."""
        full = self._full(size)
        first = start - (full - self._full(self.plan.patch_size)) // 2
        image = crop(case.image, first, full)
        labels = np.zeros(full, np.int16) if case.labels is None else crop(case.labels, first, full)
        if case.mask is not None:
            labels[~crop(case.mask, first, full)] = IGNORE
        return torch.from_numpy(image.reshape(-1, *size)), torch.from_numpy(labels.reshape(size))

    def _full(self, size: Sequence[int]) -> np.ndarray:
        """Returns a size with three axes: slices are one voxel thick."""
        return np.array([1] * (3 - len(size)) + list(size))


def crop(
    array: np.ndarray, start: Sequence[int] | np.ndarray, size: Sequence[int] | np.ndarray
) -> np.ndarray:
    """Returns a copy ``(..., *size)`` of the box that begins at ``start``; 0 outside of the array."""
    first, extent = np.asarray(start), np.asarray(size)
    spatial = array.shape[-len(extent) :]
    low, high = np.maximum(first, 0), np.minimum(first + extent, spatial)
    inside: tuple[Any, ...] = (..., *map(slice, low, high))
    target: tuple[Any, ...] = (..., *map(slice, low - first, high - first))
    result = np.zeros((*array.shape[: -len(extent)], *extent), array.dtype)
    result[target] = array[inside]
    return result


def fixed_batches(samples: Samples, batches: int, batch_size: int, seed: int) -> list[dict[str, Tensor]]:
    """Draws batches that are the same at every call, such as those of a validation."""
    drawn = []
    for number in range(batches):
        batch = []
        for index in range(number * batch_size, (number + 1) * batch_size):
            rng = np.random.Generator(np.random.PCG64(derive_seed(seed, "validation", index)))
            batch.append(samples.draw(index, rng))
        tensors = [key for key, value in batch[0].items() if torch.is_tensor(value)]
        drawn.append({key: torch.stack([sample[key] for sample in batch]) for key in tensors})
    return drawn
