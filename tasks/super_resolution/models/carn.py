"""CARN: residual blocks whose outputs all meet again in 1x1 convolutions, for several scales at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from itertools import count
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core import nd
from core.colour import MeanShift
from core.errors import ConfigError
from core.residual import Residual, ResidualChain, Rule, create_rule
from tasks.super_resolution.models.rcan import STEPS, conv3, upsampling_reach

BLOCKS, UNITS = 3, 3  # cascading blocks, and residual blocks of each


class CARN(nn.Module):
    """Conv 3; three cascading blocks in a cascade; upsampling, of its own for each scale; conv 3.

    "Fast, Accurate, and Lightweight Super-Resolution with Cascading Residual Network", Ahn et al., ECCV 2018,
    arXiv:1803.08664, sections 3.1 to 3.3. CARN-M is ``groups=4, recursive=True``. The sum of every residual block is
    a residual connection, so that any rule can take its place; each is a chain of its own, since a cascade reads
    the features between them.

    Weights start as torch has them, as in the authors' code. The mean colour is fixed.

    Args:
        scales: Factors by which height and width grow, of 2, 3, 4 and 8.
        channels: Channels C of the image.
        width: Channels of the features.
        groups: Groups of the 3x3 convolutions but the first and last. More than 1, as well as ``recursive``, gives
            the residual blocks a 1x1 convolution that mixes the groups (section 3.3).
        recursive: One residual block with its rule is used three times in each cascading block.
        rule: Residual rule of every residual connection.
        rule_options: Options of the rule.

    Attributes:
        scale: The first of ``scales``, which :meth:`forward` takes unless told otherwise.
        halo: Input pixels on each side that a restored pixel depends on, at any of the scales.

    Raises:
        ConfigError: A scale or the rule is unknown, ``groups`` does not divide ``width``, or there is no scale.
    """

    def __init__(
        self,
        scales: Sequence[int] = (2, 3, 4),
        channels: int = 3,
        width: int = 64,
        groups: int = 1,
        recursive: bool = False,
        rule: str = "add",
        rule_options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if not scales:
            raise ConfigError("scales is empty; give one or more of 2, 3, 4 and 8")
        if groups < 1 or width % groups:
            raise ConfigError(f"width {width} cannot be cut into {groups} groups; groups must divide width")
        self.scales, self.scale, self.channels = tuple(scales), scales[0], channels
        self.halo = 1 + 2 * BLOCKS * UNITS + max(map(upsampling_reach, scales))

        units = 1 if recursive else UNITS
        make_rule = partial(create_rule, rule, channels=width, dims=2, **(rule_options or {}))
        rules = (make_rule(index=i, depth=BLOCKS * units) for i in count(1))

        self.sub_mean = MeanShift(channels, -1, 1.0).requires_grad_(False)
        self.entry = conv3(channels, width)
        blocks = []
        for _ in range(BLOCKS):
            row = [_unit(width, groups, groups > 1 or recursive, next(rules)) for _ in range(units)]
            blocks.append(Cascade(row, UNITS, width))
        self.body = Cascade(blocks, BLOCKS, width)
        self.upsample = nn.ModuleDict({str(scale): _upsampling(width, scale, groups) for scale in scales})
        self.exit = conv3(width, channels)
        self.add_mean = MeanShift(channels, 1, 1.0).requires_grad_(False)

    def forward(self, x: Tensor, scale: int | None = None) -> Tensor:
        """Maps ``(B, C, H, W)`` in [0, 1] to ``(B, C, scale H, scale W)``; the result is not clipped.

        Raises:
            ConfigError: The network was not built for this scale.
        """
        scale = self.scale if scale is None else scale
        if scale not in self.scales:
            raise ConfigError(f"this CARN enlarges by {', '.join(map(str, self.scales))}, not by {scale}")
        features = self.body(self.entry(self.sub_mean(x)))
        return self.add_mean(self.exit(self.upsample[str(scale)](features)))


class Cascade(nn.Module):
    """``x_i = ReLU(conv1([x_0, step_1(x_0), ..., step_i(x_{i-1})]))`` (section 3.2).

    Args:
        steps: Modules that keep the shape of the features; used in turn, and again if they are fewer than ``length``.
        length: Number of steps.
        width: Channels.
    """

    def __init__(self, steps: Iterable[nn.Module], length: int, width: int) -> None:
        super().__init__()
        self.steps = nn.ModuleList(steps)
        self.fuse = nn.ModuleList(nd.conv(2)((i + 2) * width, width, 1) for i in range(length))

    def forward(self, x: Tensor) -> Tensor:
        """Maps features ``(B, width, H, W)`` to features."""
        seen = [x]
        for i, fuse in enumerate(self.fuse):
            seen.append(self.steps[i % len(self.steps)](x))
            x = F.relu(fuse(torch.cat(seen, dim=1)), inplace=True)
        return x


def _unit(width: int, groups: int, mixed: bool, rule: Rule) -> ResidualChain:
    """Conv 3, ReLU, conv 3, in CARN-M also ReLU and conv 1 (figure 3); a ReLU after the sum."""
    layers = [conv3(width, width, groups), nn.ReLU(inplace=True), conv3(width, width, groups)]
    if mixed:
        layers += [nn.ReLU(inplace=True), nd.conv(2)(width, width, 1)]
    return ResidualChain([Residual(nn.Sequential(*layers), rule, act=nn.ReLU())])


def _upsampling(width: int, scale: int, groups: int) -> nn.Sequential:
    """Conv 3, ReLU and pixel shuffle for each step, as in the authors' code."""
    layers: list[nn.Module] = []
    for factor in STEPS[scale]:
        layers += [conv3(width, factor**2 * width, groups), nn.ReLU(inplace=True), nn.PixelShuffle(factor)]
    return nn.Sequential(*layers)
