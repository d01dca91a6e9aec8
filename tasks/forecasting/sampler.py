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
from tasks.forecasting.data.series import Group


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
    """Series end to end in one tensor.

    Args:
        series: Arrays of any lengths, at least one value each.
        device: Where the values lie.
    """

    def __init__(self, series: Sequence[np.ndarray], device: torch.device) -> None:
        lengths = np.array([len(values) for values in series])
        self.values = torch.tensor(np.concatenate(series), dtype=torch.float32, device=device)
        self.lengths = torch.tensor(lengths, device=device)
        self.offsets = torch.tensor(np.cumsum(lengths) - lengths, device=device)

    def gather(self, index: Tensor, position: Tensor) -> tuple[Tensor, Tensor]:
        """Returns values and mask at positions that may lie outside their series (zero there).

        Args:
            index: Series of each row, ``(..., 1)``.
            position: Positions in the series, ``(..., W)``.
        """
        inside = (position >= 0) & (position < self.lengths[index])
        flat = self.offsets[index] + position.clamp_min(0)
        values = self.values[flat.clamp_max(len(self.values) - 1)]
        return torch.where(inside, values, 0.0), inside.to(values.dtype)

    def windows(self, index: Tensor, cut: Tensor, lookback: int, horizon: int) -> tuple[Tensor, ...]:
        """Returns inputs ``(..., L)``, their masks, targets ``(..., H)`` and their masks.

        Args:
            index: Series of each window, ``(...)``.
            cut: Position of the first target value of each window, ``(...)``.
            lookback: Input length L.
            horizon: Target length H.
        """
        steps = torch.arange(-lookback, horizon, device=self.values.device)
        values, mask = self.gather(index.unsqueeze(-1), cut.unsqueeze(-1) + steps)
        return (
            values[..., :lookback],
            mask[..., :lookback],
            values[..., lookback:],
            mask[..., lookback:],
        )

    def last_windows(self, lookback: int) -> tuple[Tensor, Tensor]:
        """Returns the last ``lookback`` values of every series ``(N, L)``, padded on the left, and their masks."""
        index = torch.arange(len(self.lengths), device=self.values.device).unsqueeze(-1)
        steps = torch.arange(-lookback, 0, device=self.values.device)
        return self.gather(index, self.lengths.unsqueeze(-1) + steps)


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

    def batches(self, start: int, device: torch.device) -> Iterator[dict[str, list[tuple[Tensor, ...]]]]:
        """Yields ``{"windows": [(x, x_mask, y, y_mask), ...]}``, one entry for each lookback, ``(E, B, ...)``."""
        flat = FlatSeries(self.series, device)
        number = start
        while True:
            index, cut = (t.to(device) for t in self.draw(number))
            windows = [
                flat.windows(index[rows], cut[rows], lookback, self.horizon)
                for lookback, rows in self._lookbacks.items()
            ]
            yield {"windows": windows}
            number += 1
