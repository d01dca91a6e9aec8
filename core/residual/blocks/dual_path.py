"""A block that adds a part of its output and concatenates the rest: dual path networks."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from core.errors import ConfigError
from core.residual.blocks.spec import BlockSpec
from core.residual.residual import Residual


def norm_act_conv(spec: BlockSpec, *sizes: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Returns norm, activation and convolution, named ``bn, act, conv``.

    Args:
        spec: What they are made of.
        *sizes: Input channels, output channels and kernel.
        stride: Stride of the convolution.
        groups: Groups of the convolution.
    """
    layers = {
        "bn": spec.norm_layer(sizes[0]),
        # Without a norm the activation reads the stream itself, which it must not overwrite.
        "act": spec.act_layer(inplace=spec.norm != "none"),
        "conv": spec.conv(
            *sizes, stride=stride, groups=groups, dilation=spec.dilation if sizes[2] > 1 else 1
        ),
    }
    return nn.Sequential(OrderedDict(layers))


class DualPathBlock(Residual):
    """Pre-activation bottleneck whose output is split: C channels join the stream, ``growth`` are concatenated.

    "Dual Path Networks", Chen et al., arXiv:1707.01629, fig. 2d and section 3. Layers are named as in timm. The
    concatenation is the block's; how the C channels join the stream is the rule's, as everywhere. Drop path
    (neither the paper nor timm has it) drops the added channels alone.

    The stream is a list: the rule's stream of the C channels, then tensors ``(B, growth, *spatial)`` of the
    dense path, which are concatenated only where they are read.

    Args:
        spec: Geometry, materials and place: it reads ``in_channels`` of both paths and C is ``out_channels``.
        inner: Channels of the 3x3 convolution.
        growth: Channels by which the block widens the dense path.
        cardinality: Groups of the 3x3 convolution.
        project: Begin a stage: a projection gives C channels of the stream and 2 ``growth`` of the dense path.

    Raises:
        ConfigError: The cardinality does not divide the inner channels.
    """

    folds: ClassVar[tuple[tuple[str, str], ...]] = (
        ("c1x1_a.conv", "c3x3_b.bn"),
        ("c3x3_b.conv", "c1x1_c.bn"),
    )

    def __init__(
        self, spec: BlockSpec, *, inner: int, growth: int, cardinality: int = 32, project: bool = False
    ) -> None:
        if spec.dropout:
            raise ConfigError("dual path blocks have no dropout; use drop_path or head_dropout")
        super().__init__(None, rule=spec.make_rule(), drop_path=spec.drop_path)
        if min(inner, growth, cardinality) < 1 or inner % cardinality:
            raise ConfigError(f"dual path: cardinality {cardinality} must divide the {inner} inner channels")
        self.spec = spec
        self.growth = growth
        width = spec.out_channels
        self.projection = f"c1x1_w_s{spec.one_stride}" if project else ""  # timm's name has the stride
        if project:
            layer = norm_act_conv(spec, spec.in_channels, width + 2 * growth, 1, stride=spec.one_stride)
            self.add_module(self.projection, layer)
        self.c1x1_a = norm_act_conv(spec, spec.in_channels, inner, 1)
        self.c3x3_b = norm_act_conv(spec, inner, inner, 3, stride=spec.one_stride, groups=cardinality)
        self.c1x1_c = norm_act_conv(spec, inner, width + growth, 1)
        self.se = spec.attention_layer(width + growth)

    def branch(self, x: Tensor) -> Tensor:  # a method where Residual has a module
        """Maps ``(B, in_channels, *spatial)`` to update and growth, ``(B, C + growth, *spatial / stride)``."""
        return self.se(self.c1x1_c(self.c3x3_b(self.c1x1_a(x))))

    def forward(self, stream: list[Any]) -> list[Any]:
        """Returns the next stream; the rule's part is first, the dense path follows."""
        path, *dense = stream
        width = self.spec.out_channels
        if self.projection:
            x = torch.cat([self.rule.close(path), *dense], 1)
            shortcut, *dense = getattr(self, self.projection)(x).split((width, 2 * self.growth), 1)
            _, state = self.rule.prepare(self.rule.reopen(shortcut, path))
        else:
            first, state = self.rule.prepare(path)
            x = torch.cat([first, *dense], 1)
        update, grown = self.branch(x).split((width, self.growth), 1)
        return [self.rule.merge(self.drop_path(update), state), *dense, grown]

    def weight_chains(self) -> list[list[nn.Module]]:
        """The convolutions of the branch, without that of the projection."""
        return [[part.get_submodule("conv") for part in (self.c1x1_a, self.c3x3_b, self.c1x1_c)]]

    def zero_init_last(self) -> None:
        """Zeroes the C channels of the last convolution that are added; the dense path keeps its weights."""
        added = slice(self.spec.out_channels)
        for parameter in self.c1x1_c.get_submodule("conv").parameters():
            nn.init.zeros_(parameter[added])
