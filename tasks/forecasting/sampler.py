"""Training windows, drawn on the device with no loop over windows.

All series of a group lie in one flat tensor. A window is a series, drawn uniformly with replacement, and a cut
in it, drawn uniformly among the last ``L_H * H`` positions (arXiv:1905.10437, appendix on training): the input
ends before the cut, the target starts at it, and whatever lies outside the series is zero and masked.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from core.errors import DataError
from core.train.distributed import World, environment_world
from core.train.seeds import generator


@dataclass(frozen=True)
class Member:
    """One model of an ensemble.

    Attributes:
        lookback: Input length L in steps.
        loss: Training loss.
        repeat: Number among the members that differ in their seed only.
    """

    lookback: int
    loss: str
    repeat: int


class FlatSeries:
    """Series end to end in one tensor, each between zeros, so that a window is one contiguous copy.

    Args:
        series: Arrays of any lengths, at least one value each.
        device: Where the values lie.
        before: Zeros to the left of each series: the longest lookback that will be asked for.
        after: Zeros to the right of each series: the longest horizon that will be asked for.
    """

    def __init__(
        self, series: Sequence[np.ndarray], device: torch.device, before: int, after: int = 0
    ) -> None:
        self.before, self.after = before, after
        lengths = np.array([len(values) for values in series])
        starts = np.cumsum(lengths + before + after) - lengths - after
        places = np.arange(lengths.sum()) + np.repeat(starts - (np.cumsum(lengths) - lengths), lengths)
        values = np.zeros(starts[-1] + lengths[-1] + after, dtype=np.float32)
        values[places] = np.concatenate(series)
        mask = np.zeros_like(values)
        mask[places] = 1
        self.values = torch.from_numpy(values).to(device)
        self.mask = torch.from_numpy(mask).to(device)
        self.starts = torch.from_numpy(starts).to(device)
        self.lengths = torch.from_numpy(lengths).to(device)

    def windows(self, index: Tensor, cut: Tensor, lookback: int, horizon: int) -> tuple[Tensor, ...]:
        """Returns inputs ``(..., L)``, their masks, targets ``(..., H)`` and their masks.

        Args:
            index: Series of each window, ``(...)``.
            cut: Position of the first target value of each window, ``(...)``.
            lookback: Input length L.
            horizon: Target length H.
        """
        assert lookback <= self.before and horizon <= self.after
        x, y = self._slices(index, cut - lookback, lookback + horizon).split([lookback, horizon], dim=-1)
        return x[0], x[1], y[0], y[1]

    def last_windows(self, lookback: int) -> tuple[Tensor, Tensor]:
        """Returns the last ``lookback`` values of every series ``(N, L)``, padded on the left, and their masks."""
        assert lookback <= self.before
        index = torch.arange(len(self.lengths), device=self.values.device)
        values, mask = self._slices(index, self.lengths - lookback, lookback)
        return values, mask

    def _slices(self, index: Tensor, position: Tensor, width: int) -> Tensor:
        """Returns values and masks ``(2, ..., width)`` from ``position`` in each series on."""
        first = (self.starts[index] + position).flatten()
        # Rows of a sliding view are copied whole; gathering single values by index is ten times slower.
        parts = [flat.unfold(0, width, 1).index_select(0, first) for flat in (self.values, self.mask)]
        return torch.stack(parts).view(2, *index.shape, width)


class WindowSource:
    """Batches for the members of an ensemble; a :class:`core.train.learner.BatchSource`.

    Each member draws from a stream of its own, named by the seed, the member and the number of the batch: what
    a member sees does not depend on which others train beside it.

    Args:
        series: Training part of each series.
        horizon: Target length H.
        history: Cuts lie within ``history * H`` steps of a series' end (L_H).
        members: The ensemble.
        batch_size: Windows of a member in a step, over all processes.
        seed: Seed of the run's part.
        world: This process's share of each batch.
    """

    steps_per_epoch = None

    def __init__(
        self,
        series: Sequence[np.ndarray],
        *,
        horizon: int,
        history: float,
        members: Sequence[Member],
        batch_size: int,
        seed: int,
        world: World | None = None,
    ) -> None:
        self.series, self.horizon, self.members = series, horizon, list(members)
        self.batch_size, self.seed = batch_size, seed
        self.world = world or environment_world()
        if batch_size % self.world.size:
            raise DataError(
                f"--train.batch_size {batch_size} cannot be shared by {self.world.size} processes equally"
            )
        lengths = torch.tensor([len(values) for values in series])
        self._low = (lengths - int(history * horizon)).clamp_min(1)
        self._span = (lengths - self._low).clamp_min(1)
        self._lookbacks: dict[int, list[int]] = {}
        for i, member in enumerate(self.members):
            self._lookbacks.setdefault(member.lookback, []).append(i)

    def draw(self, number: int) -> tuple[Tensor, Tensor]:
        """Returns series and cuts ``(members, batch_size / processes)`` of batch ``number``, on the CPU."""
        index, fraction = [], []
        for member in self.members:
            source = generator(self.seed, "windows", member.lookback, member.loss, member.repeat, number)
            index.append(torch.randint(len(self.series), (self.batch_size,), generator=source))
            fraction.append(torch.rand(self.batch_size, generator=source, dtype=torch.float64))
        mine = slice(self.world.rank, None, self.world.size)
        chosen = torch.stack(index)[:, mine]
        cut = self._low[chosen] + (torch.stack(fraction)[:, mine] * self._span[chosen]).long()
        return chosen, cut

    def batches(self, start: int, device: torch.device) -> Iterator[dict[str, list]]:
        """Yields batches with one entry for each lookback.

        ``"windows"`` holds ``(x, x_mask, y, y_mask)``, each ``(E, B, ...)``; ``"series"`` holds the number of the
        series that each window was cut from, ``(E, B)``.
        """
        flat = FlatSeries(self.series, device, max(self._lookbacks), self.horizon)
        number = start
        while True:
            index, cut = (t.to(device) for t in self.draw(number))
            windows = [
                flat.windows(index[rows], cut[rows], lookback, self.horizon)
                for lookback, rows in self._lookbacks.items()
            ]
            yield {"windows": windows, "series": [index[rows] for rows in self._lookbacks.values()]}
            number += 1
