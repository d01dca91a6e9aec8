"""The head of RTMDet, and the places in an image that its outputs belong to."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from core.residual.blocks.conv_norm import conv_norm
from tasks.detection.models.neck import LAYERS

DEPTH = 2
"""Convolutions of a tower."""
FIRST_SCORE = 0.01
"""Score of every class at every place before training ("Focal Loss", Lin et al., arXiv:1708.02002, section 4.1)."""
DEVIATION = 0.01
"""Standard deviation of the first weights."""


def make_priors(maps: Sequence[Tensor], strides: Sequence[int]) -> Tensor:
    """Returns the places of all outputs, level by level and row by row.

    A place is the corner of its cell, not the middle: column and row times the stride.

    Args:
        maps: Output of each level, ``(B, C, h, w)``.
        strides: Pixels from one cell to the next, of each level.

    Returns:
        ``(P, 3)`` float32: x, y and stride, pixels.
    """
    levels = []
    for level, stride in zip(maps, strides, strict=True):
        height, width = level.shape[-2:]
        x = torch.arange(width, device=level.device, dtype=torch.float32) * stride
        y = torch.arange(height, device=level.device, dtype=torch.float32) * stride
        grid = torch.stack([x.expand(height, width), y[:, None].expand(height, width)], -1).reshape(-1, 2)
        levels.append(torch.cat([grid, torch.full_like(grid[:, :1], stride)], 1))
    return torch.cat(levels)


def join_levels(maps: Sequence[Tensor]) -> Tensor:
    """Joins the outputs ``(B, C, h, w)`` of all levels to ``(B, P, C)`` float32, in the order of the places."""
    return torch.cat([level.flatten(2).transpose(1, 2) for level in maps], 1).float()


def decode_boxes(priors: Tensor, distances: Tensor) -> Tensor:
    """Returns boxes from the distances of their left, top, right and bottom to a place.

    Args:
        priors: Places ``(P, 2 or more)``: x and y, pixels.
        distances: ``(..., P, 4)``, pixels.

    Returns:
        ``(..., P, 4)``: left, top, right and bottom.
    """
    places = priors[:, :2]
    return torch.cat([places - distances[..., :2], places + distances[..., 2:]], -1)


def make_towers(channels: int, levels: int) -> nn.ModuleList:
    """Returns ``DEPTH`` convolutions with norms for each level, nothing shared."""
    return nn.ModuleList(
        nn.ModuleList(conv_norm(LAYERS, channels, channels, 3) for _ in range(DEPTH)) for _ in range(levels)
    )


def share_convs(towers: nn.ModuleList) -> None:
    """Lets all levels have the convolutions of the first; norms stay their own."""
    first, *others = towers
    for tower in others:
        for mine, layer in zip(tower, first, strict=True):  # type: ignore[call-overload]  # lists of modules
            mine.conv = layer.conv


def through(layers: Iterable[nn.Module], x: Tensor) -> Tensor:
    """Applies a tower."""
    for layer in layers:
        x = layer(x)
    return x


class SepBNHead(nn.Module):
    """Classes and boxes of every place: convolutions shared by the levels, norms of each level's own.

    "RTMDet", Lyu et al., arXiv:2212.07784, section 3.2. Layers are named as in mmdetection; a shared convolution
    has a name for each level.

    Args:
        channels: C of every level.
        classes: Number of classes.
        strides: Pixels from one cell to the next, of each level.
        exp: Whether distances are the exponential of the outputs.
    """

    def __init__(self, channels: int, classes: int, strides: Sequence[int], *, exp: bool) -> None:
        super().__init__()
        self.strides, self.exp = tuple(strides), exp
        levels = len(self.strides)
        self.cls_convs = make_towers(channels, levels)
        self.reg_convs = make_towers(channels, levels)
        share_convs(self.cls_convs)
        share_convs(self.reg_convs)
        self.rtm_cls = nn.ModuleList(nn.Conv2d(channels, classes, 1) for _ in range(levels))
        self.rtm_reg = nn.ModuleList(nn.Conv2d(channels, 4, 1) for _ in range(levels))
        initialise(self)

    def forward(self, features: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Maps features ``(B, C, h, w)`` to logits ``(B, classes, h, w)`` and distances ``(B, 4, h, w)`` in pixels."""
        logits, distances = [], []
        for level, x in enumerate(features):
            logits.append(self.rtm_cls[level](through(self.cls_convs[level], x)))  # type: ignore[arg-type]
            raw = self.rtm_reg[level](through(self.reg_convs[level], x))  # type: ignore[arg-type]
            distances.append((raw.exp() if self.exp else raw) * self.strides[level])
        return logits, distances


def initialise(head: nn.Module) -> None:
    """Draws the first weights of a head that has ``rtm_cls``, as mmdetection does."""
    for layer in head.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.normal_(layer.weight, std=DEVIATION)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    for layer in head.rtm_cls:  # type: ignore[union-attr]  # a list of convolutions
        nn.init.constant_(layer.bias, -math.log((1 - FIRST_SCORE) / FIRST_SCORE))
