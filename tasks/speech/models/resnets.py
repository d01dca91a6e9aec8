"""res8, res15, res26 and their narrow forms: the residual networks for keyword spotting of Tang and Lin."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core import nd
from core.residual import Residual, ResidualChain, Rule, create_rule


class ResNet(nn.Module):
    """Conv 3, ReLU, pooling; pairs of conv 3 and ReLU that are added to a stream; mean over the plane; linear layer.

    "Deep Residual Learning for Small-Footprint Keyword Spotting", Tang and Lin, ICASSP 2018, arXiv:1710.10361, figure
    2 and table 1. As in the released code, and not in the paper's figure: the pooling follows the first convolution;
    batch norms have no scale and shift and come after the addition; the sum that goes on to the next addition is the
    one before the norm. A block therefore begins with the norm of the sum before it (the first block has none), which
    makes every addition a residual connection of the core that takes any rule. Of an odd number of layers the last
    one stands alone.

    Args:
        classes: Classes.
        width: Channels n.
        layers: Convolutions after the first: 6, 13 or 24.
        pool: Kernel of the average pooling over frames and features.
        dilated: Dilation ``2 ** (i // 3)`` of layer i from 0, as in res15.
        scales: Learned factors of the channels after the norm inside a block, as in weights of the authors that
            were made for pruning.
        rule: Residual rule of every addition.
        rule_options: Options of the rule.

    Raises:
        ConfigError: The rule or an option of it is wrong.
    """

    def __init__(
        self,
        classes: int,
        width: int = 19,
        layers: int = 6,
        pool: Sequence[int] = (4, 3),
        dilated: bool = False,
        scales: bool = False,
        rule: str = "add",
        rule_options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        dilations = [2 ** (i // 3) if dilated else 1 for i in range(layers)]
        depth = layers // 2
        make_rule = partial(create_rule, rule, channels=width, depth=depth, dims=2, **(rule_options or {}))
        self.conv = conv3(1, width)
        self.pool = nd.pool("avg", 2)(tuple(pool)) if tuple(pool) != (1, 1) else nn.Identity()
        self.blocks = ResidualChain(
            Block(width, dilations[2 * i : 2 * i + 2], i > 0, scales, make_rule(index=i + 1))
            for i in range(depth)
        )
        self.norm = norm(width)
        self.last: nn.Module = nn.Identity()
        if layers % 2:
            self.last = nn.Sequential(conv3(width, width, dilations[-1]), nn.ReLU(), norm(width))
        self.output = nn.Linear(width, classes)

    def forward(self, features: Tensor) -> Tensor:
        """Maps features ``(B, T, F)`` to logits ``(B, classes)``."""
        return self.output(self.embed(features))

    def embed(self, features: Tensor) -> Tensor:
        """Maps features ``(B, T, F)`` to the means over the plane ``(B, width)`` that the output layer reads."""
        x = self.pool(F.relu(self.conv(features[:, None])))
        return nd.spatial_mean(self.last(self.norm(self.blocks(x))))


class Block(Residual):
    """Norm, conv 3, ReLU, norm, conv 3, ReLU: two layers of the paper's.

    Args:
        width: Channels.
        dilations: Of both convolutions.
        normed: Whether the block begins with a norm.
        scales: Whether the inner norm is followed by learned factors.
        rule: Residual rule.
    """

    def __init__(self, width: int, dilations: Sequence[int], normed: bool, scales: bool, rule: Rule) -> None:
        super().__init__(None, rule)
        self.norm = norm(width) if normed else nn.Identity()
        self.conv1 = conv3(width, width, dilations[0])
        self.norm1 = norm(width)
        self.scale = nn.Parameter(torch.ones(width, 1, 1)) if scales else None
        self.conv2 = conv3(width, width, dilations[1])

    def branch(self, x: Tensor) -> Tensor:  # a method where Residual has a module
        """Returns the update of ``(B, width, T, F)``."""
        x = self.norm1(F.relu(self.conv1(self.norm(x))))
        if self.scale is not None:
            x = x * self.scale
        return F.relu(self.conv2(x))


def conv3(inputs: int, outputs: int, dilation: int = 1) -> nn.Module:
    """Returns a 3x3 convolution without bias that keeps the size."""
    return nd.conv(2)(inputs, outputs, 3, padding=dilation, dilation=dilation, bias=False)


def norm(width: int) -> nn.Module:
    """Returns a batch normalisation without scale and shift."""
    return nd.batch_norm(2)(width, affine=False)
