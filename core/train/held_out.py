"""Validation data for tasks that have none of their own: some of what they learn from is kept out of the training."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from torch.utils.data import default_collate

from core.data.loader import EpochLoader, Samples
from core.errors import ConfigError
from core.train.learner import Learner
from core.train.seeds import derive_seed

if TYPE_CHECKING:
    from core.task import Part

SHARE = 0.2
"""Share of the recordings or images, by name, that is kept out."""
SAMPLES = 256
"""Most samples that are looked at for each group of samples."""


class _Chosen:
    """Some of the samples of a data set, see :class:`core.data.loader.Samples`."""

    def __init__(self, samples: Samples, chosen: Sequence[int]) -> None:
        self.samples, self.chosen = samples, chosen

    def __len__(self) -> int:
        return len(self.chosen)

    def draw(self, index: int, rng: np.random.Generator) -> dict[str, Any]:
        return self.samples.draw(self.chosen[index], rng)


def hold_out(part: Part, seed: int) -> str:
    """Gives a part whose learner has no validation some of its training samples to validate on.

    What is kept out is whole: all samples with one of the names in their ``ids``. A learner that validates by itself
    is left as it is.

    Args:
        part: Its source and its learner are changed.
        seed: Chooses the names.

    Returns:
        What was kept out, one line; empty if nothing was.

    Raises:
        ConfigError: The samples have no names, or all have the same.
    """
    if type(part.learner).validate is not Learner.validate:
        return ""
    source = part.source
    if not isinstance(source, EpochLoader) or not isinstance(source.samples, Samples):
        raise ConfigError(f"{part.name} has nothing to validate on, and its batches cannot be split")
    samples = source.samples
    names = np.array([str(_draw(samples, index, seed)["ids"]) for index in range(len(samples))])
    unique = np.unique(names)
    if len(unique) < 2:
        raise ConfigError(
            f"{part.name} has nothing to validate on: all training samples are of {unique[0]}; give more data"
        )
    order = np.random.default_rng(derive_seed(seed, "held out")).permutation(unique)
    chosen = sorted(order[: max(1, round(SHARE * len(unique)))])
    held = np.isin(names, chosen)
    ends = np.cumsum([0, *source.groups])
    spans = [np.arange(a, b) for a, b in pairwise(ends.tolist())]
    batches = []
    for span in spans:
        kept = span[held[span]]
        kept = kept[np.linspace(0, len(kept) - 1, min(SAMPLES, len(kept)), dtype=int)]
        for start in range(0, len(kept), source.batch_size):
            drawn = [_draw(samples, int(i), seed) for i in kept[start : start + source.batch_size]]
            batches.append((source.collate or default_collate)(drawn))
    part.learner.kept_out = batches
    part.source = EpochLoader(
        _Chosen(samples, np.flatnonzero(~held).tolist()),
        source.batch_size,
        seed=source.seed,
        workers=source.workers,
        world=source.world,
        groups=[int((~held[span]).sum()) for span in spans],
        shuffle=source.shuffle,
        collate=source.collate,
    )
    return f"{', '.join(chosen)}: training data that is kept out of the trials"


def _draw(samples: Samples, index: int, seed: int) -> dict[str, Any]:
    rng = np.random.Generator(np.random.PCG64(derive_seed(seed, "validation", index)))
    return samples.draw(index, rng)
