"""RIDNet: enhancement attention modules between two convolutions, and one skip around all of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from itertools import count
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core import nd
from core.colour import MeanShift
from core.residual import Residual, ResidualChain, Rule, create_rule
from core.residual.attention import create_attention

LEVELS = 255.0  # the released weights are for images in [0, 255]


class RIDNet(nn.Module):
    """``y = x + f(x)``: conv 3, ReLU; enhancement attention modules; conv 3.

    "Real Image Denoising with Feature Attention", Anwar and Barnes, ICCV 2019, arXiv:1904.07396, section 3. The
    paper and the authors' code differ: the paper has a short skip around each module (SSC) and a long one around
    all of them (LSC), see its figure 2; the code, and the released weights, have neither. Every sum is a residual
    connection, so that any rule can take its place; blocks are numbered in the order in which their shortcuts
    leave the stream, the sum with the image first.

    Weights start as torch has them, as in the authors' code, but for the bias of the last convolution: the mean is
    added to ``f(x)`` and not to ``x``, so that their new network gives the image plus the mean colour. Here the
    bias takes it off again.

    Args:
        channels: Channels C of the image.
        width: Channels of the features.
        blocks: Enhancement attention modules.
        reduction: Factor by which channel attention squeezes the features.
        paper_skips: Adds the short and long skips of the paper.
        rule: Residual rule of every residual connection.
        rule_options: Options of the rule.

    Attributes:
        halo: Pixels on each side that a restored pixel depends on, but for the means of channel attention, which
            depend on all pixels.

    Raises:
        ConfigError: The rule is unknown, or an option is out of range.
    """

    scale = 1

    def __init__(
        self,
        channels: int = 3,
        width: int = 64,
        blocks: int = 4,
        reduction: int = 16,
        paper_skips: bool = False,
        rule: str = "add",
        rule_options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.channels = channels
        self.halo = 1 + blocks * EnhancementAttention.reach + 1
        depth = 1 + 3 * blocks + (1 + blocks if paper_skips else 0)
        make_rule, index = partial(create_rule, rule, depth=depth, dims=2, **(rule_options or {})), count(1)
        outer = make_rule(channels=channels, index=next(index))
        rules = (make_rule(channels=width, index=i) for i in index)
        update = ImageUpdate(channels, width, blocks, reduction, paper_skips, rules)
        self.stream = ResidualChain([Residual(update, outer)])

    def forward(self, x: Tensor) -> Tensor:
        """Denoises ``(B, C, H, W)`` in [0, 1]; the result is not clipped."""
        return self.stream(x)


class ImageUpdate(nn.Module):
    """``f(x)``, what is added to the image."""

    def __init__(
        self, channels: int, width: int, blocks: int, reduction: int, paper_skips: bool, rules: Iterator[Rule]
    ) -> None:
        super().__init__()
        self.sub_mean = MeanShift(channels, -1, LEVELS)
        self.head = _conv(channels, width)
        if paper_skips:
            long = next(rules)
            short = [
                Residual(rule=next(rules), branch=EnhancementAttention(width, reduction, rules))
                for _ in range(blocks)
            ]
            self.body = ResidualChain([Residual(ResidualChain(short), long)])
        else:
            self.body = ResidualChain(EnhancementAttention(width, reduction, rules) for _ in range(blocks))
        self.tail = _conv(width, channels)
        self.add_mean = MeanShift(channels, 1, LEVELS)
        with torch.no_grad():
            self.tail.bias.sub_(self.add_mean.bias)  # type: ignore[operator]

    def forward(self, x: Tensor) -> Tensor:
        """Maps the noisy image ``(B, C, H, W)`` in [0, 1] to its update."""
        features = F.relu(self.head(self.sub_mean(x * LEVELS)), inplace=True)
        return self.add_mean(self.tail(self.body(features))) / LEVELS


class EnhancementAttention(nn.Module):
    """Merge-and-run unit, residual block, enhanced residual block, channel attention (section 3.2, figure 2)."""

    reach = 12
    """Pixels on each side that its convolutions see: 3 + 4 + 1, 1 + 1, 1 + 1."""

    def __init__(self, width: int, reduction: int, rules: Iterator[Rule]) -> None:
        super().__init__()
        self.blocks = ResidualChain(
            [
                MergeAndRun(width, next(rules)),
                Residual(_row(_conv(width, width), _conv(width, width)), next(rules), act=nn.ReLU()),
                Residual(
                    _row(_conv(width, width), _conv(width, width), nd.conv(2)(width, width, 1)),
                    next(rules),
                    act=nn.ReLU(),
                ),
            ]
        )
        self.attention = create_attention("channel", width, 2, ratio=1 / reduction)

    def forward(self, x: Tensor) -> Tensor:
        """Maps features ``(B, width, H, W)`` to features."""
        return self.attention(self.blocks(x))


class MergeAndRun(Residual):
    """Two pairs of dilated convolutions side by side, joined by a third: dilations 1, 2 and 3, 4."""

    def __init__(self, width: int, rule: Rule) -> None:
        super().__init__(None, rule)
        self.near = _row(_conv(width, width, 1), _conv(width, width, 2)).append(nn.ReLU(inplace=True))
        self.far = _row(_conv(width, width, 3), _conv(width, width, 4)).append(nn.ReLU(inplace=True))
        self.join = nn.Sequential(_conv(2 * width, width), nn.ReLU(inplace=True))

    def branch(self, x: Tensor) -> Tensor:  # a method where Residual has a module
        """Returns the update of ``(B, width, H, W)``; nothing is activated after the sum."""
        return self.join(torch.cat([self.near(x), self.far(x)], dim=1))


def _conv(inputs: int, outputs: int, dilation: int = 1) -> nn.Module:
    return nd.conv(2)(inputs, outputs, 3, padding=dilation, dilation=dilation)


def _row(first: nn.Module, *others: nn.Module) -> nn.Sequential:
    """Convolutions with a ReLU between each two."""
    layers = [first]
    for layer in others:
        layers += [nn.ReLU(inplace=True), layer]
    return nn.Sequential(*layers)
