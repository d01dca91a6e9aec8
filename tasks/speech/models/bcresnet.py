"""BC-ResNet: blocks of a frequency-wise convolution and a time-wise one whose result every frequency gets."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from functools import partial
from itertools import count
from typing import Any

import torch
from torch import Tensor, nn

from core import nd
from core.errors import ConfigError
from core.residual import Residual, ResidualChain, Rule, create_rule
from core.residual.reparam import Reparameterised

Pair = tuple[int, int]
"""Of frequency and of time."""

STAGES = ((2, 1), (2, 2), (4, 2), (4, 1))
"""Blocks of a stage, and the stride over frequency of its first one (table 1)."""
WIDTHS = (2, 1, 1.5, 2, 2.5, 4)
"""Channels of the stem, the stages and the head, as multiples of 8 tau."""
HEAD = 5
"""Frequencies that the head's convolution reads."""


class BCResNet(nn.Module):
    """BC-ResNet-tau for features over time and frequency.

    "Broadcasted Residual Learning for Efficient Keyword Spotting", Kim et al., Interspeech 2021, arXiv:2106.04140,
    section 2 and table 1. Written from the paper; the authors' code, whose licence grants no patents, is not used.

    A block is ``y = act(x + f2(x) + broadcast(f1(mean of f2(x) over frequency)))``; the first block of a stage changes
    the width and has no ``x``. Both sums are residual connections, so that any rule can take their place: the
    inner one joins ``f2(x)`` and what ``f1`` gives to every frequency, the outer one ``x`` and the result. Rules are
    numbered in the order in which their shortcuts leave the stream, a block's outer sum before its inner one. A stage
    is one chain of blocks, since nothing leads around its first block.

    Weights start as torch has them.

    Args:
        classes: Number of classes.
        features: Features F of a frame, such as 40 log-mel energies.
        tau: Multiple of 8 channels; the paper has 1, 1.5, 2, 3, 6 and 8.
        dropout: Share of the channels of ``f1`` that is dropped in training.
        sub_bands: Bands of frequency that are normalised apart.
        rule: Residual rule of every residual connection.
        rule_options: Options of the rule.

    Attributes:
        output: The last layer, from pooled features to logits.

    Raises:
        ConfigError: The rule is unknown, an option is out of range, or the frequencies of some stage cannot be cut into
            ``sub_bands`` equal bands.
    """

    def __init__(
        self,
        classes: int,
        features: int,
        tau: float = 1.0,
        dropout: float = 0.1,
        sub_bands: int = 5,
        rule: str = "add",
        rule_options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        stem, *widths, last = _widths(tau)
        heights = _heights(features, sub_bands)
        if not 0 <= dropout < 1:
            raise ConfigError(f"--model.dropout {dropout} must be 0 or more and below 1")
        depth = sum(2 * blocks - 1 for blocks, _ in STAGES)
        make_rule, index = partial(create_rule, rule, depth=depth, dims=2, **(rule_options or {})), count(1)

        self.stem = nn.Sequential(
            _conv(1, stem, (5, 5), stride=(2, 1), padding=(2, 2)), nd.norm("batch", 2, stem), nn.ReLU()
        )
        self.stages = nn.Sequential()
        before, height = stem, -(-features // 2)
        for stage, ((blocks, stride), width) in enumerate(zip(STAGES, widths, strict=True)):
            rules = (make_rule(channels=width, index=i) for i in index)
            update = partial(_update, width, dilation=2**stage, dropout=dropout, bands=sub_bands)
            first = update(height, stride, next(rules))
            row: list[nn.Module] = [nn.Sequential(*_pointwise(before, width), first, nn.ReLU())]
            before, height = width, heights[stage]
            for _ in range(blocks - 1):
                outer = next(rules)
                row.append(Residual(update(height, 1, next(rules)), outer, act=nn.ReLU()))
            self.stages.append(ResidualChain(row))
        # Features of other sizes than the paper's 40 leave other than 5 frequencies here.
        kernel = (min(HEAD, height), HEAD)
        self.head = nn.Sequential(
            _conv(before, before, kernel, padding=(0, HEAD // 2), groups=before),
            *_pointwise(before, last),
        )
        self.output = nn.Linear(last, classes)

    def embed(self, features: Tensor) -> Tensor:
        """Maps features ``(B, T, F)`` to pooled features ``(B, D)``."""
        x = self.stem(features.transpose(1, 2).unsqueeze(1))
        return nd.spatial_mean(self.head(self.stages(x)))

    def forward(self, features: Tensor) -> Tensor:
        """Maps features ``(B, T, F)`` to logits ``(B, classes)``."""
        return self.output(self.embed(features))


class FrequencyConv(Reparameterised):
    """Depthwise convolution over 3 frequencies and a sub-spectral norm: all of ``f2`` but its change of width.

    Args:
        channels: Channels C.
        height: Frequencies F of the input.
        stride: Stride over frequency.
        bands: Bands of the norm.
    """

    def __init__(self, channels: int, height: int, stride: int, bands: int) -> None:
        super().__init__()
        self.height = height
        self.conv = _conv(channels, channels, (3, 1), stride=(stride, 1), padding=(1, 0), groups=channels)
        self.norm = SubSpectralNorm(channels, bands)

    def forward(self, x: Tensor) -> Tensor:
        """Maps ``(B, C, F, T)`` to ``(B, C, F / stride, T)``."""
        return self.norm(self.conv(x))

    def can_merge(self) -> bool:
        """Always: the norm is linear in evaluation mode."""
        return True

    @torch.no_grad()
    def merged(self) -> nn.Module:
        """Returns one matrix for each channel: more products, but as matrix products, which are faster on a CPU."""
        exact = copy.deepcopy(self).double().eval()
        weight = exact.conv.weight
        bias = exact(weight.new_zeros(1, len(weight), self.height, 1))
        # The answers to one frequency at a time are the columns.
        single = torch.eye(self.height, dtype=weight.dtype, device=weight.device)[:, None, :, None]
        columns = exact(single.expand(-1, len(weight), -1, -1)) - bias
        return FrequencyMap(columns[..., 0].permute(1, 2, 0), bias[0]).to(self.conv.weight)


class FrequencyMap(nn.Module):
    """A linear map of the frequencies for each channel.

    Args:
        weight: ``(C, F', F)``.
        bias: ``(C, F', 1)``.
    """

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(weight.contiguous()), nn.Parameter(bias)

    def forward(self, x: Tensor) -> Tensor:
        """Maps ``(B, C, F, T)`` to ``(B, C, F', T)``."""
        return self.weight @ x + self.bias


class SubSpectralNorm(nn.Module):
    """A batch norm for each band of neighbouring frequencies (Chang et al., arXiv:2103.13620).

    Args:
        channels: Channels C.
        bands: Number of bands, of equal width.
    """

    def __init__(self, channels: int, bands: int) -> None:
        super().__init__()
        self.bands = bands
        self.norm = nd.norm("batch", 2, channels * bands)

    def forward(self, x: Tensor) -> Tensor:
        """Normalises ``(B, C, F, T)``, whose frequencies the bands divide."""
        bands = x.unflatten(2, (self.bands, x.shape[2] // self.bands)).flatten(1, 2)
        return self.norm(bands).reshape(x.shape)


class Broadcast(Residual):
    """Joins what is found over time in the mean of all frequencies to each of them: ``f1`` (figure 2).

    Args:
        channels: Channels C.
        dilation: Frames between two that the convolution reads.
        dropout: Share of the channels that is dropped in training.
        rule: Rule of the sum.
    """

    def __init__(self, channels: int, dilation: int, dropout: float, rule: Rule) -> None:
        super().__init__(None, rule)
        around, apart = (0, dilation), (1, dilation)
        self.temporal = nn.Sequential(
            _conv(channels, channels, (1, 3), padding=around, dilation=apart, groups=channels),
            nd.norm("batch", 2, channels),
            nn.SiLU(),
            nd.pointwise(2, channels, channels),
            nn.Dropout2d(dropout),
        )

    def branch(self, x: Tensor) -> Tensor:  # a method where Residual has a module
        """Returns the update of ``(B, C, F, T)``, the same for every frequency."""
        # Expanded, which costs nothing: rules may look at the whole shape of an update.
        return self.temporal(x.mean(2, keepdim=True)).expand_as(x)


def _update(
    width: int, height: int, stride: int, rule: Rule, *, dilation: int, dropout: float, bands: int
) -> nn.Sequential:
    """Returns ``x -> f2(x) + f1(mean of f2(x))`` without the change of width: a block before its outer sum."""
    over_time = Broadcast(width, dilation, dropout, rule)
    return nn.Sequential(FrequencyConv(width, height, stride, bands), ResidualChain([over_time]))


def _conv(
    inputs: int,
    outputs: int,
    kernel: Pair,
    *,
    stride: Pair = (1, 1),
    padding: Pair = (0, 0),
    dilation: Pair = (1, 1),
    groups: int = 1,
) -> nd.Conv:
    """Returns a convolution over frequency and time without bias."""
    conv: Any = nd.conv(2)
    return conv(inputs, outputs, kernel, stride, padding, dilation, groups, bias=False)


def _pointwise(inputs: int, outputs: int) -> list[nn.Module]:
    return [nd.pointwise(2, inputs, outputs), nd.norm("batch", 2, outputs), nn.ReLU()]


def _widths(tau: float) -> list[int]:
    base = 8 * tau
    if base < 2 or base % 2:
        raise ConfigError(
            f"--model.tau {tau} must be a positive multiple of 0.25, such as 1, 1.5, 2, 3, 6 or 8"
        )
    return [int(base * width) for width in WIDTHS]


def _heights(features: int, bands: int) -> list[int]:
    """Returns the frequencies in each stage, after a check that the bands divide them."""
    heights, height = [], -(-features // 2)
    for _, stride in STAGES:
        height = -(-height // stride)
        heights.append(height)
    if bands < 1 or any(height % bands for height in heights):
        raise ConfigError(
            f"--model.sub_bands {bands} must divide the frequencies of all stages, {', '.join(map(str, heights))} for "
            f"{features} features; give a multiple of {8 * max(bands, 1)} features or another number of bands"
        )
    return heights
