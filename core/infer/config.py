"""Configuration that tasks of image restoration share. Imports no heavy library."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from core.config import PredictConfig


@dataclass
class ScoringConfig:
    """How restored images are scored. The defaults are the protocol of the papers.

    Args:
        channel: Compare all values (rgb), or the luma Y of BT.601 (y).
        shave: Border in pixels that is left out.
        rounding: How a restored image becomes 8 bit before it is compared.
        y_rounding: Also round Y to whole numbers.
        baselines: Classical methods to compare with; the first decides about promotion. bm3d needs the package bm3d.
    """

    channel: Literal["rgb", "y"] = "rgb"
    shave: int = 0
    rounding: Literal["round", "truncate", "none"] = "round"
    y_rounding: bool = False
    baselines: list[str] = field(default_factory=list)


@dataclass
class PicturePredictConfig(PredictConfig):
    """Restores images.

    Args:
        tile: Side of the pieces in which large images are worked on, in pixels of the input; by default 512, for
            enlargements 1024 divided by the factor. 0 takes the whole image at once.
        halo: Pixels around a piece that are read too; by default as many as make it equal to the whole image, but at
            most 64 (of the models here only the large RCAN sees further, 414).
        means: For models with global means (channel attention): whole takes the means of the whole image (equal to
            no tiles, several passes), two_pass stops after two passes, tile takes each piece's own, and window
            those of the surroundings of each pixel (arXiv:2112.04491).
        ensemble: Average over the eight flips and quarter turns, for 8 times the work.
        side_by_side: Also write a picture of input and output with enlarged crops, NAME_compare.png.
        tune: Try which layout and convolution is fastest on this machine.
    """

    tile: int | None = None
    halo: int | None = None
    means: Literal["whole", "two_pass", "tile", "window"] = "whole"
    ensemble: bool = False
    side_by_side: bool = False
    tune: bool = True
