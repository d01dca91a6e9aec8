"""A block whose output is concatenated to its input: the revived DenseNet."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn

from core.errors import ConfigError
from core.residual.blocks.block import zero_last
from core.residual.blocks.spec import BlockSpec
from core.residual.rule import per_channel
from core.residual.topology import DenseStep


class DenseBlock(DenseStep):
    """Depthwise conv, norm, conv 1 to a wider layer, act, conv 1 to the growth, attention, learned scale.

    "DenseNets Reloaded: Paradigm Shift Beyond ResNets and ViTs", Kim et al., arXiv:2403.19588, section 3. Layers
    are named and ordered as in the authors' code, which is timm's. Nothing is added here, so that there is
    no rule; the LayerScale is on the growth. Difference: dropout comes before drop path, not after it, which
    is the same mask.

    Args:
        spec: Geometry, materials and place: it reads ``in_channels`` and grows by ``out_channels``.
        expansion: Width of the inner layer in units of ``in_channels``, rounded down to a multiple of 8.
        kernel: Kernel of the depthwise convolution.
        layer_scale: Initial value of the scale; 0 for no scale.

    Raises:
        ConfigError: A rule other than ``add`` is asked for, or an option is out of range.
    """

    def __init__(
        self, spec: BlockSpec, *, expansion: float = 4.0, kernel: int = 7, layer_scale: float = 1e-6
    ) -> None:
        super().__init__(drop_path=spec.drop_path)
        if spec.rule != "add" or spec.rule_options:
            raise ConfigError(
                f"dense blocks concatenate and have no residual rule: leave it 'add', not {spec.rule!r}"
            )
        width, growth = spec.in_channels, spec.out_channels
        inner = int(width * expansion / 8) * 8
        if inner < 1:
            raise ConfigError(f"dense block: expansion {expansion} of {width} channels must give 8 or more")
        if kernel < 1 or kernel % 2 == 0:
            raise ConfigError(f"dense block: kernel must be odd, not {kernel}")
        self.spec = spec
        self.gamma = nn.Parameter(torch.full((growth,), layer_scale)) if layer_scale else None
        self.dropout = nn.Dropout(spec.dropout) if spec.dropout else nn.Identity()
        branch = nn.Sequential(
            spec.conv(width, width, kernel, groups=width, dilation=spec.dilation, bias=True),
            spec.norm_layer(width),
            spec.conv(width, inner, bias=True),
            spec.act_layer(),
            spec.conv(inner, growth, bias=True),
            spec.attention_layer(growth),
        )
        self.layers = nn.Sequential(OrderedDict(layers=branch))

    def branch(self, x: Tensor) -> Tensor:  # a method where DenseStep has a module
        """Maps ``(B, in_channels, *spatial)`` to the growth ``(B, out_channels, *spatial)``."""
        x = self.layers(x)
        return self.dropout(x if self.gamma is None else x * per_channel(self.gamma, x.ndim))

    def zero_init_last(self) -> None:
        """Zeroes the last convolution of a block without scale; with one, the growth begins at about 0 anyway."""
        if self.gamma is None:
            zero_last(self.layers.get_submodule("layers.4"), nn.Identity())
