"""Geometric self-ensemble: the mean over the eight symmetries of the square."""

from __future__ import annotations

import itertools

from torch import Tensor, nn

Box = tuple[int, int, int, int]
"""``(top, bottom, left, right)`` in pixels; bottom and right are the first ones outside."""


class Turn(nn.Module):
    """One symmetry of the square: flips, then possibly the exchange of the two axes.

    A module, so that whoever hooks into the model can see which symmetry is on (:mod:`core.infer.statistics`).

    Args:
        vertical: Flip the rows.
        horizontal: Flip the columns.
        transpose: Exchange rows and columns after the flips.
    """

    def __init__(self, vertical: bool, horizontal: bool, transpose: bool) -> None:
        super().__init__()
        self.vertical, self.horizontal, self.transpose = vertical, horizontal, transpose
        self.axes = [axis for axis, flip in ((-2, vertical), (-1, horizontal)) if flip]

    def forward(self, x: Tensor) -> Tensor:
        """Maps ``(B, C, H, W)`` to the turned image, ``(B, C, H, W)`` or ``(B, C, W, H)``."""
        x = x.flip(self.axes) if self.axes else x
        return x.transpose(-1, -2) if self.transpose else x

    def back(self, y: Tensor) -> Tensor:
        """Undoes the turn of ``(B, C, H, W)``."""
        y = y.transpose(-1, -2) if self.transpose else y
        return y.flip(self.axes) if self.axes else y

    def box(self, box: Box, height: int, width: int) -> Box:
        """Returns where a part of an image of ``height`` x ``width`` pixels lies after the turn."""
        top, bottom, left, right = box
        if self.vertical:
            top, bottom = height - bottom, height - top
        if self.horizontal:
            left, right = width - right, width - left
        return (left, right, top, bottom) if self.transpose else (top, bottom, left, right)


class SelfEnsemble(nn.Module):
    """The mean of what a network makes of the eight flips and quarter turns of its input, turned back.

    "Enhanced Deep Residual Networks for Single Image Super-Resolution", Lim et al., arXiv:1707.02921, section
    3.3; RCAN+ and EDSR+ are named after it. It takes eight times as long.

    Args:
        model: A restoration network for ``(B, C, H, W)``; its attributes ``channels``, ``scale`` and ``halo``
            are taken over.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.turns = nn.ModuleList(itertools.starmap(Turn, itertools.product((False, True), repeat=3)))
        self.channels: int | None = getattr(model, "channels", None)
        self.scale: int = getattr(model, "scale", 1)
        self.halo: int | None = getattr(model, "halo", None)

    def forward(self, x: Tensor, scale: int | None = None) -> Tensor:
        """Returns the mean, ``(B, C, scale H, scale W)``; ``scale`` is for networks that ask for it."""
        total: Tensor | None = None
        for turn in self.turns:
            assert isinstance(turn, Turn)
            turned = turn(x)
            y = turn.back(self.model(turned) if scale is None else self.model(turned, scale))
            total = y if total is None else total + y
        assert total is not None
        return total / len(self.turns)


def self_ensemble(model: nn.Module) -> SelfEnsemble:
    """Returns the model's x8 geometric self-ensemble, :class:`SelfEnsemble`, in the model's mode."""
    return SelfEnsemble(model).train(model.training)
