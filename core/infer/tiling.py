"""Restoring images of any size in tiles that fit into memory, with the result of the whole image."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from core.data.images.files import from_float, to_float
from core.errors import ConfigError
from core.infer.ensemble import Box
from core.infer.statistics import LocalStatistics, WholeImageStatistics

Progress = Callable[[int, int], None]

TOLERANCE = 1e-5
"""Means whose largest relative change is below it count as converged: the output's error is then that of float32."""


@dataclass(frozen=True)
class Tile:
    """One tile in pixels of the input.

    Attributes:
        core: The part that it restores; the cores of all tiles cover the image once.
        outer: The part that the network reads: the core and its halo, cut off at the image's borders.
    """

    core: Box
    outer: Box

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the outer part."""
        top, bottom, left, right = self.outer
        return bottom - top, right - left

    @property
    def inside(self) -> Box:
        """Where the core lies in the outer part."""
        top, bottom, left, right = self.core
        above, _, beside, _ = self.outer
        return top - above, bottom - above, left - beside, right - beside


@dataclass(frozen=True)
class Tiles:
    """How an image is cut.

    Attributes:
        size: Largest side of a tile's core in pixels; 0 for the whole image at once.
        halo: Pixels around a core that the network also reads; ``None`` for the network's own ``halo``.
    """

    size: int = 256
    halo: int | None = None

    def resolve(self, model: nn.Module) -> Tiles:
        """Returns tiles whose halo is known.

        Raises:
            ConfigError: A number is negative, or neither the tiles nor the network know the halo.
        """
        halo = getattr(model, "halo", None) if self.halo is None else self.halo
        if self.size < 0 or (halo or 0) < 0:
            raise ConfigError(f"tiles: size {self.size} and halo {halo} must be 0 or more")
        if halo is None and self.size:
            raise ConfigError("tiles: this network does not know its halo; give one, or size 0 for no tiles")
        return Tiles(self.size, halo or 0)

    def split(self, height: int, width: int) -> list[Tile]:
        """Cuts an image of ``height`` x ``width`` pixels into tiles of nearly equal size, row by row."""
        halo = self.halo or 0
        return [
            Tile(
                (top, bottom, left, right),
                (
                    max(top - halo, 0),
                    min(bottom + halo, height),
                    max(left - halo, 0),
                    min(right + halo, width),
                ),
            )
            for top, bottom in _spans(height, self.size)
            for left, right in _spans(width, self.size)
        ]


def _spans(length: int, size: int) -> list[tuple[int, int]]:
    count = -(-length // size) if size else 1
    ends = [length * i // count for i in range(count + 1)]
    return list(itertools.pairwise(ends))


def restore(
    model: nn.Module,
    pixels: np.ndarray,
    *,
    tile: int = 256,
    halo: int | None = None,
    scale: int = 1,
    scale_argument: bool = False,
    statistics: str = "whole",
    passes: int | None = None,
    window: int | None = None,
    progress: Progress | None = None,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Restores an image, tile by tile.

    The image's borders are the network's borders in every tile, and every tile reads a halo of its neighbours:
    with a halo as wide as the network sees, the result is that of the whole image. Only one tile at a time is
    converted to float, so that memory depends on the tile and not on the image, whose pixels and result may be
    memory maps.

    Means over the whole image, as in channel attention, need ``statistics``:

    * ``whole``: the means of the whole image (:class:`core.infer.statistics.WholeImageStatistics`), by passes over
      all tiles until they no longer change. The result is that of the whole image.
    * ``tile``: each tile's own means; one pass, with visible differences between tiles.
    * ``window``: means over a window around each pixel (:class:`core.infer.statistics.LocalStatistics`). Windows
      end at the borders of a tile, so that tiles should be much larger than the window.

    Args:
        model: A restoration network in evaluation mode, ``(1, C, h, w)`` to ``(1, C, scale h, scale w)``.
        pixels: ``(H, W, C)`` uint8, uint16 or float32.
        tile: Largest side of a tile without its halo, in pixels of the input; 0 for the whole image at once.
        halo: Pixels around a tile that are read and thrown away; ``None`` for ``model.halo``.
        scale: Factor between the sides of output and input.
        scale_argument: Call ``model(x, scale)``, for networks of several scales.
        statistics: What means over space are taken of, see above.
        passes: For ``whole``, stop after so many passes even if the means still change; seams fade with each.
        window: For ``window``, its side in pixels, the size of the crops in training.
        progress: Called after each tile with the number of tiles done and of all tiles known so far; a further
            pass over the image adds to the second.
        out: Array ``(scale H, scale W, C)`` of the pixels' dtype that takes the result.

    Returns:
        ``(scale H, scale W, C)`` in the dtype of ``pixels``: clipped to its range and rounded, float32 as it is.

    Raises:
        ConfigError: An option is out of range or does not fit the network.
    """
    if statistics not in ("whole", "tile", "window"):
        raise ConfigError(f"statistics must be whole, tile or window, not {statistics!r}")
    if passes is not None and passes < 1:
        raise ConfigError(f"passes must be 1 or more, not {passes}")
    height, width, channels = pixels.shape
    whole = tile == 0 or (tile >= height and tile >= width)
    cut = Tiles(0 if whole else tile, halo).resolve(model)
    tiles = cut.split(height, width)
    if out is None:
        out = np.empty((height * scale, width * scale, channels), pixels.dtype)
    job = _Job(model, pixels, out, scale, scale_argument)

    if statistics == "whole" and len(tiles) > 1:
        _run_passes(job, tiles, passes, progress)
        return out
    if statistics == "window" and window is None:
        raise ConfigError(
            "statistics window: give the window's side in pixels, the size of the training crops"
        )
    with LocalStatistics(model, window) if statistics == "window" and window is not None else nullcontext():
        for done, part in enumerate(tiles, 1):
            job.run(part)
            if progress is not None:
                progress(done, len(tiles))
    return out


@dataclass(frozen=True, eq=False)
class _Job:
    """What stays the same from tile to tile."""

    model: nn.Module
    pixels: np.ndarray
    out: np.ndarray
    scale: int
    scale_argument: bool

    @torch.inference_mode()
    def run(self, tile: Tile) -> None:
        """Restores one tile and writes its core."""
        top, bottom, left, right = tile.outer
        device = next((parameter.device for parameter in self.model.parameters()), torch.device("cpu"))
        values = to_float(self.pixels[top:bottom, left:right]).transpose(2, 0, 1)
        x = torch.from_numpy(np.ascontiguousarray(values))[None].to(device)
        y = self.model(x, self.scale) if self.scale_argument else self.model(x)
        assert y.shape[2:] == (self.scale * x.shape[2], self.scale * x.shape[3])
        top, bottom, left, right = (self.scale * edge for edge in tile.inside)
        core = y[0, :, top:bottom, left:right].permute(1, 2, 0).float().cpu().numpy()
        top, bottom, left, right = (self.scale * edge for edge in tile.core)
        self.out[top:bottom, left:right] = from_float(core, self.out.dtype)


def _run_passes(job: _Job, tiles: list[Tile], passes: int | None, progress: Progress | None) -> None:
    """Runs all tiles until the whole image's means no longer change, or ``passes`` times."""
    done = 0
    with WholeImageStatistics(job.model) as statistics:
        while True:
            total = done + len(tiles)
            for tile in tiles:
                statistics.start_tile(tile.inside, *tile.size)
                job.run(tile)
                done += 1
                if progress is not None:
                    progress(done, total)
            change = statistics.finish_pass()
            number = done // len(tiles)
            if number == passes or change < TOLERANCE or number > statistics.count:
                return
