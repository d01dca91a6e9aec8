"""Two convolutions that each run several times over: the block of R2U-Net."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from core.errors import ConfigError
from core.residual.blocks.block import Block, nearly_zero_last
from core.residual.blocks.spec import BlockSpec


class RecurrentConv(nn.Module):
    """``h_0 = f(x)``, ``h_t = f(x + h_(t - 1))`` with one ``f`` = conv 3, norm, act for all steps.

    "Recurrent Residual Convolutional Neural Network based on U-Net", Alom et al., arXiv:1802.06955, section III.
    Batch norms update their statistics at every step, as in the authors' code.

    Args:
        spec: What the layers are made of.
        steps: Recurrences after the first run.
        bias: Whether the convolution has a bias although a norm follows.
    """

    folds: ClassVar[tuple[tuple[str, str], ...]] = (("conv", "bn"),)

    def __init__(self, spec: BlockSpec, steps: int, bias: bool) -> None:
        super().__init__()
        width = spec.out_channels
        self.steps = steps
        self.conv = spec.conv(width, width, 3, dilation=spec.dilation, bias=bias or None)
        self.bn = spec.norm_layer(width)
        self.act = spec.act_layer()

    def forward(self, x: Tensor) -> Tensor:
        """Maps ``(B, C, *spatial)`` to the same shape."""
        h = self._step(x)
        for _ in range(self.steps):
            h = self._step(x + h)
        return h

    def _step(self, x: Tensor) -> Tensor:
        return self.act(self.bn(self.conv(x)))


class RecurrentBlock(Block):
    """Two recurrent convolutions, attention; no activation after the sum.

    The recurrent residual unit of R2U-Net, Alom et al., arXiv:1802.06955, fig. 4d. Where the shape changes, the
    shortcut comes first and the branch reads what it gives; with ``shortcut="bias_conv"`` that is the 1x1
    convolution of the authors' code, which has it in every block: all of theirs change the width. The number of
    parameters does not depend on ``steps``; with 0 it is a plain residual block of two convolutions.

    Args:
        spec: Geometry, materials and place.
        steps: Recurrences of each convolution; it runs ``steps + 1`` times.
        bias: Whether the convolutions have biases although norms follow, as in the authors' code.

    Raises:
        ConfigError: ``steps`` is below 0.
    """

    folds: ClassVar[tuple[tuple[str, str], ...]] = (("unit1.conv", "unit1.bn"), ("unit2.conv", "unit2.bn"))

    def __init__(self, spec: BlockSpec, *, steps: int = 2, bias: bool = True) -> None:
        super().__init__(spec, last_act=False)
        if steps < 0:
            raise ConfigError(f"steps of a recurrent block must be 0 or more, not {steps}")
        self.projection = self.downsample
        if self.projection is not None:
            self.downsample = nn.Identity()  # the projection is part of what branch and shortcut share
        self.unit1 = RecurrentConv(spec, steps, bias)
        self.unit2 = RecurrentConv(spec, steps, bias)
        self.se = spec.attention_layer(spec.out_channels)

    def shared(self, x: Tensor) -> Tensor:
        """Projects the stream for branch and shortcut alike."""
        return x if self.projection is None else self.projection(x)

    def branch(self, x: Tensor) -> Tensor:
        """Maps the projected stream to the update, ``(B, out_channels, *spatial / stride)``."""
        return self.se(self.unit2(self.unit1(x)))

    def weight_chains(self) -> list[list[nn.Module]]:
        """The convolutions of the branch; the projection is in front of it."""
        return [[self.unit1.conv, self.unit2.conv]]

    def zero_init_last(self) -> None:
        """Sets the last layers before the last activation so that the update is 0 to within 1e-6."""
        nearly_zero_last(self.unit2.conv, self.unit2.bn)
