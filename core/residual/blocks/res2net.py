"""A bottleneck whose 3x3 convolution is a hierarchy of narrow ones: the block of Res2Net."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from core import nd
from core.errors import ConfigError
from core.residual.blocks.block import Block, zero_last
from core.residual.blocks.bottleneck import inner_width
from core.residual.blocks.spec import BlockSpec


class Res2Block(Block):
    """conv 1, norm, act, split in ``scale`` parts that feed one another, conv 1, norm, attention.

    "Res2Net: A New Multi-scale Backbone Architecture", Gao et al., arXiv:1904.01169, fig. 2b and eq. 1, but
    with the authors' choice, not in the paper's formula, of the part that passes without a convolution: it is
    the last, where eq. 1 has the first. Also as in their code, a block that changes the shape adds no part to
    the next, and averages the part that passes over 3 positions an axis, the padding counted in. Layers are
    named as in timm. With ``scale`` 1 it is :class:`core.residual.blocks.bottleneck.Bottleneck`.

    Args:
        spec: Geometry, materials and place.
        scale: Parts of the features; one less are convolved (one if ``scale`` is 1).
        cardinality: Groups of each 3x3 convolution (Res2NeXt).
        base_width: Channels of a group of one part where ``out_channels`` is 256.

    Raises:
        ConfigError: The options leave no channel.
    """

    folds: ClassVar[tuple[tuple[str, str], ...]] = (("conv1", "bn1"), ("conv3", "bn3"))

    def __init__(
        self, spec: BlockSpec, *, scale: int = 4, cardinality: int = 1, base_width: int = 26
    ) -> None:
        super().__init__(spec)
        if scale < 1:
            raise ConfigError(f"scale of a Res2Net block must be 1 or more, not {scale}")
        self.width = inner_width(spec, cardinality, base_width)
        count = max(1, scale - 1)
        self.conv1 = spec.conv(spec.in_channels, self.width * scale, 1)
        self.bn1 = spec.norm_layer(self.width * scale)
        self.act1 = spec.act_layer()
        self.convs = nn.ModuleList(
            spec.conv(
                self.width, self.width, 3, stride=spec.stride, dilation=spec.dilation, groups=cardinality
            )
            for _ in range(count)
        )
        self.bns = nn.ModuleList(spec.norm_layer(self.width) for _ in range(count))
        self.acts = nn.ModuleList(spec.act_layer() for _ in range(count))
        pool = nd.pool("avg", spec.dims)
        self.pool = pool(3, stride=spec.stride, padding=1) if spec.changes_shape else nn.Identity()
        self.conv3 = spec.conv(self.width * scale, spec.out_channels, 1)
        self.bn3 = spec.norm_layer(spec.out_channels)
        self.se = spec.attention_layer(spec.out_channels)
        # How many pairs there are depends on the scale.
        self.folds = (*self.folds, *((f"convs.{i}", f"bns.{i}") for i in range(count)))  # type: ignore[misc]

    def branch(self, x: Tensor) -> Tensor:
        """Returns the update, ``(B, out_channels, *spatial / stride)``."""
        parts = self.act1(self.bn1(self.conv1(x))).split(self.width, 1)
        done: list[Tensor] = []
        for conv, norm, act, part in zip(self.convs, self.bns, self.acts, parts, strict=False):
            if done and self.downsample is None:
                part = done[-1] + part
            done.append(act(norm(conv(part))))
        if len(parts) > len(done):
            done.append(self.pool(parts[-1]))
        return self.se(self.bn3(self.conv3(torch.cat(done, 1))))

    def zero_init_last(self) -> None:
        """Zeroes the scale of the last norm."""
        zero_last(self.conv3, self.bn3)
