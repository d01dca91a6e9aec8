"""RCAN: residual blocks with channel attention in residual groups in a residual network."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from itertools import count
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from core import nd
from core.colour import MeanShift
from core.errors import ConfigError
from core.residual import Residual, ResidualChain, Rule, create_rule
from core.residual.attention import create_attention

LEVELS = 255.0  # the released weights are for images in [0, 255]
STEPS = {2: (2,), 3: (3,), 4: (2, 2), 8: (2, 2, 2)}
"""Scale to the factors by which the features grow, in turn."""


class RCAN(nn.Module):
    """Conv 3; residual groups and conv 3 inside a long skip; upsampling; conv 3.

    "Image Super-Resolution Using Very Deep Residual Channel Attention Networks", Zhang et al., ECCV 2018,
    arXiv:1807.02758, section 3. A group is residual channel attention blocks and conv 3 inside a short skip. Every sum
    is a residual connection, so that any rule can take its place; blocks are numbered in the order in which their
    shortcuts leave the stream: the long skip, the first group, its blocks, the second group.

    Weights start as torch has them, as in the authors' code.

    Args:
        scale: Factor by which height and width grow: 2, 3, 4 or 8.
        channels: Channels C of the image.
        width: Channels of the features.
        groups: Residual groups.
        blocks: Blocks of a group.
        reduction: Factor by which channel attention squeezes the features.
        rule: Residual rule of every residual connection.
        rule_options: Options of the rule.

    Attributes:
        halo: Input pixels on each side that a restored pixel depends on, but for the means of channel attention,
            which depend on all pixels.

    Raises:
        ConfigError: The scale or the rule is unknown, or an option is out of range.
    """

    def __init__(
        self,
        scale: int = 2,
        channels: int = 3,
        width: int = 64,
        groups: int = 10,
        blocks: int = 20,
        reduction: int = 16,
        rule: str = "add",
        rule_options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.scale, self.channels = scale, channels
        self.halo = 1 + groups * (2 * blocks + 1) + 1 + upsampling_reach(scale)
        depth = 1 + groups * (1 + blocks)
        make_rule = partial(create_rule, rule, channels=width, depth=depth, dims=2, **(rule_options or {}))
        rules = (make_rule(index=i) for i in count(1))

        self.sub_mean = MeanShift(channels, -1, LEVELS)
        self.head = conv3(channels, width)
        long = next(rules)
        parts = []
        for _ in range(groups):
            short = next(rules)
            row = ResidualChain(AttentionBlock(width, reduction, next(rules)) for _ in range(blocks))
            parts.append(Residual(nn.Sequential(row, conv3(width, width)), short))
        body = nn.Sequential(ResidualChain(parts), conv3(width, width))
        self.body = ResidualChain([Residual(body, long)])
        self.upsample = nn.Sequential()
        for factor in STEPS[scale]:
            self.upsample.extend([conv3(width, factor**2 * width), nn.PixelShuffle(factor)])
        self.tail = conv3(width, channels)
        self.add_mean = MeanShift(channels, 1, LEVELS)

    def forward(self, x: Tensor) -> Tensor:
        """Maps ``(B, C, H, W)`` in [0, 1] to ``(B, C, scale H, scale W)``; the result is not clipped."""
        features = self.body(self.head(self.sub_mean(x * LEVELS)))
        return self.add_mean(self.tail(self.upsample(features))) / LEVELS


class AttentionBlock(Residual):
    """Conv 3, ReLU, conv 3, channel attention (section 3.3); the authors' scaling of the update is 1."""

    def __init__(self, width: int, reduction: int, rule: Rule) -> None:
        super().__init__(None, rule)
        self.conv1 = conv3(width, width)
        self.conv2 = conv3(width, width)
        self.attention = create_attention("channel", width, 2, ratio=1 / reduction)

    def branch(self, x: Tensor) -> Tensor:  # a method where Residual has a module
        """Returns the update of ``(B, width, H, W)``."""
        return self.attention(self.conv2(F.relu(self.conv1(x), inplace=True)))


def conv3(inputs: int, outputs: int, groups: int = 1) -> nn.Module:
    """Returns a 3x3 convolution that keeps height and width."""
    return nd.conv(2)(inputs, outputs, 3, padding=1, groups=groups)


def upsampling_reach(scale: int) -> int:
    """Input pixels on each side that upsampling by a convolution a step, and a convolution after it, depend on.

    Raises:
        ConfigError: ``scale`` is not one of ``STEPS``.
    """
    if scale not in STEPS:
        raise ConfigError(f"scale must be one of {', '.join(map(str, STEPS))}, not {scale!r}")
    reach = 1
    for factor in reversed(STEPS[scale]):
        reach = -(-reach // factor) + 1
    return reach
