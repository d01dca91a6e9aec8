"""What channel attention averages when an image is restored in tiles.

A tile's mean is not the image's, so that networks with channel attention (RIDNet, RCAN) show seams between tiles
whatever the halo. Every mean over space is a :class:`core.nd.SpatialMean`; its result is replaced by hooks here.
"""

from __future__ import annotations

from collections import Counter
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from core import nd
from core.errors import ConfigError
from core.infer.ensemble import Box, Turn

Key = tuple[nn.Module, int]
"""A module and the number of its call in one forward pass: recursive networks use a module several times."""


class WholeImageStatistics:
    """Gives every spatial mean of a model the value that it has on the whole image, in passes over the tiles.

    Pass ``p`` runs all tiles with the means of pass ``p - 1`` and collects new ones, weighted by area, from the
    tiles' cores, the parts without halo. The first mean depends on no other, so that it is exact after the first
    pass, the second one after the second, and so on: with K means pass K + 1 is exact. Later means depend little
    on earlier ones, so that even networks of 200 means converge in about ten; :meth:`finish_pass` tells when.

    A context manager; it hooks into the model on entry and takes the hooks off on exit::

        with WholeImageStatistics(model) as statistics:
            while True:
                for tile in tiles:
                    statistics.start_tile(tile.inside, *tile.size)
                    model(tile)
                if statistics.finish_pass() < 1e-5:
                    break

    Args:
        model: A network for ``(1, C, H, W)`` whose means are taken at the resolution of its input.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self._handles: list[RemovableHandle] = []
        self._means: dict[Key, Tensor] = {}
        self._sums: dict[Key, Tensor] = {}
        self._areas: Counter[Key] = Counter()
        self._calls: Counter[nn.Module] = Counter()
        self._core: Box = (0, 0, 0, 0)
        self._size = (0, 0)
        self._turn: Turn | None = None

    def __enter__(self) -> Self:
        for module in self.model.modules():
            if isinstance(module, nd.SpatialMean):
                self._handles.append(module.register_forward_hook(self._replace))
            elif isinstance(module, Turn):
                self._handles.append(module.register_forward_hook(self._note_turn))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    @property
    def count(self) -> int:
        """K, the number of means in one forward pass; 0 before the first pass."""
        return len(self._means)

    def start_tile(self, core: Box, height: int, width: int) -> None:
        """Says what runs next: a tile of ``height`` x ``width`` pixels, of which ``core`` counts."""
        self._core, self._size, self._turn = core, (height, width), None
        self._calls.clear()

    def finish_pass(self) -> float:
        """Takes over the means that were collected.

        Returns:
            The largest change of a mean, relative to the largest channel of its module; infinite after the first
            pass, 0 for a model without means.
        """
        new = {key: total / self._areas[key] for key, total in self._sums.items()}
        change = max((_change(self._means.get(key), mean) for key, mean in new.items()), default=0.0)
        self._means, self._sums = new, {}
        self._areas.clear()
        return change

    def _note_turn(self, module: Turn, args: Any, output: Tensor) -> None:
        self._turn = module

    def _replace(self, module: nd.SpatialMean, args: tuple[Tensor], output: Tensor) -> Tensor | None:
        (x,) = args
        core, size = self._core, self._size
        if self._turn is not None:
            core = self._turn.box(core, *size)
            size = size[::-1] if self._turn.transpose else size
        if x.shape[2:] != size:
            raise ConfigError(
                f"statistics whole: the network averages over {tuple(x.shape[2:])} positions of a tile of {size} "
                "pixels, but means at another resolution than the input's are not supported; use tile"
            )
        key = (module, self._calls[module])
        self._calls[module] += 1
        top, bottom, left, right = core
        area = (bottom - top) * (right - left)
        total = x[..., top:bottom, left:right].mean((-2, -1), dtype=torch.float32).double() * area
        self._sums[key] = self._sums[key] + total if key in self._sums else total
        self._areas[key] += area
        mean = self._means.get(key)
        return None if mean is None else mean.to(output.dtype).reshape(output.shape)


def _change(old: Tensor | None, new: Tensor) -> float:
    if old is None:
        return float("inf")
    return float((new - old).abs().max() / new.abs().max().clamp_min(torch.finfo(torch.float32).tiny))


class LocalStatistics:
    """Replaces every spatial mean of a model by the mean of a window around each position.

    "Improving Image Restoration by Revisiting Global Information Aggregation", Chu et al., arXiv:2112.04491,
    section 3.2 (TLC): a network that was trained on crops has seen means of that size only; the window is the
    training crop's. A context manager, as :class:`WholeImageStatistics`.

    Args:
        model: A network whose attention can scale every position by itself.
        window: Side of the window in pixels of the input.

    Raises:
        ConfigError: ``window`` is below 1, or a module needs one mean for all positions.
    """

    def __init__(self, model: nn.Module, window: int) -> None:
        if window < 1:
            raise ConfigError(f"statistics window: the window must be 1 pixel or more, not {window}")
        self.means = [module for module in model.modules() if isinstance(module, nd.SpatialMean)]
        if not all(module.keepdim for module in self.means):
            raise ConfigError(
                "statistics window: this network's attention or residual rule needs one mean for all positions; "
                "use whole or tile"
            )
        self.window = window
        self._handles: list[RemovableHandle] = []

    def __enter__(self) -> Self:
        self._handles = [module.register_forward_hook(self._replace) for module in self.means]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def _replace(self, module: nd.SpatialMean, args: tuple[Tensor], output: Tensor) -> Tensor:
        return local_mean(args[0], self.window)


def local_mean(x: Tensor, window: int) -> Tensor:
    """Averages ``(B, C, H, W)`` over the square window around each position, to the same shape.

    Positions whose window would cross the border take the value of the nearest one whose window does not
    (replicated borders, as in the reference). Along an axis shorter than the window the mean is over all of it.
    """
    for axis in (-2, -1):
        size = x.shape[axis]
        reach = min(window, size)
        sums = nn.functional.pad(x.cumsum(axis), (1, 0) if axis == -1 else (0, 0, 1, 0))
        count = size - reach + 1
        inner = (sums.narrow(axis, reach, count) - sums.narrow(axis, 0, count)) / reach
        before = (size - count) // 2
        index = (torch.arange(size, device=x.device) - before).clamp(0, count - 1)
        x = inner.index_select(axis, index)
    return x
