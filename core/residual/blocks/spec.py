"""What every block is built from: one frozen record that makes all of its layers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from core import nd
from core.errors import ConfigError
from core.residual.attention import create_attention
from core.residual.blocks.shortcuts import SHORTCUTS
from core.residual.factory import create_rule
from core.residual.rule import Rule


def same_along_axes(factors: int | tuple[int, ...]) -> int | tuple[int, ...]:
    """Returns one number in place of one for each axis where they are equal."""
    return factors[0] if isinstance(factors, tuple) and len(set(factors)) == 1 else factors


@dataclass(frozen=True)
class BlockSpec:
    """A residual block: its geometry, what it is made of, and where it stands.

    Blocks make their layers by the methods below and nothing else, so that a norm or an activation that is
    asked for reaches every layer.

    Attributes:
        in_channels: Channels of the stream that the block reads.
        out_channels: Channels of the stream that it leaves.
        stride: Factor by which it reduces the spatial axes: one number, or one an axis, which becomes one number where
            they are equal.
        dilation: Dilation of its spatial convolutions.
        dims: Spatial axes of ``(B, C, *spatial)``, 1 to 3.
        norm: Normalisation, see :func:`core.nd.norm`.
        norm_eps: What the normalisations add to a variance; ``None`` is PyTorch's 1e-5.
        act: Activation, see :func:`core.nd.act`.
        rule: Residual rule, see :func:`core.residual.list_rules`.
        rule_options: Options of the rule.
        attention: Attention at the end of the branch, see :func:`core.residual.attention.list_attention`.
        attention_options: Options of the attention.
        drop_path: Probability that a sample's update is dropped in training.
        dropout: Probability of dropout between the convolutions, for blocks that have it (Wide ResNet).
        shortcut: What the shortcut is where the shape changes, see :mod:`core.residual.blocks.shortcuts`.
        index: Position among all residual blocks of the network, from 1.
        depth: Number of residual blocks in the network.
        history: Channels of the streams before each change of shape up to this block's own, newest first.

    Raises:
        ConfigError: A number is out of its range.
    """

    in_channels: int
    out_channels: int
    stride: int | tuple[int, ...] = 1
    dilation: int = 1
    dims: int = 2
    norm: str = "batch"
    norm_eps: float | None = None
    act: str = "relu"
    rule: str = "add"
    rule_options: Mapping[str, Any] = field(default_factory=dict)
    attention: str = "none"
    attention_options: Mapping[str, Any] = field(default_factory=dict)
    drop_path: float = 0.0
    dropout: float = 0.0
    shortcut: str = "conv"
    index: int = 1
    depth: int = 1
    history: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        nd.check_dims(self.dims)
        object.__setattr__(self, "stride", same_along_axes(self.stride))
        if isinstance(self.stride, tuple) and len(self.stride) != self.dims:
            raise ConfigError(
                f"stride {self.stride} of a residual block needs one number for each of {self.dims} axes"
            )
        smallest = {name: getattr(self, name) for name in ("in_channels", "out_channels", "dilation")}
        smallest["stride"] = min(self.stride) if isinstance(self.stride, tuple) else self.stride
        for name, value in smallest.items():
            if value < 1:
                raise ConfigError(f"{name} of a residual block must be 1 or more, not {value}")

    @property
    def changes_shape(self) -> bool:
        """Whether the stream that leaves the block has another shape than the one that enters."""
        return self.stride != 1 or self.in_channels != self.out_channels

    @property
    def one_stride(self) -> int:
        """``stride``, for blocks that reduce all axes alike.

        Raises:
            ConfigError: It differs between the axes.
        """
        if isinstance(self.stride, tuple):
            raise ConfigError(
                f"this block has one stride for all axes, not {self.stride}; take the block 'basic'"
            )
        return self.stride

    def conv(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int | tuple[int, ...] = 1,
        *,
        stride: int | tuple[int, ...] = 1,
        groups: int = 1,
        dilation: int = 1,
        bias: bool | None = None,
    ) -> nd.Conv:
        """Returns a convolution that keeps the size at stride 1.

        Args:
            in_channels: Channels before.
            out_channels: Channels after.
            kernel: Kernel along each axis; one number stands for all axes.
            stride: Stride, likewise.
            groups: Groups of channels.
            dilation: Dilation along every axis.
            bias: Whether it has a bias; by default only if no norm follows.

        Raises:
            ConfigError: The kernel has not one number for each axis.
        """
        sizes = (kernel,) if isinstance(kernel, int) else kernel
        size = sizes * self.dims if len(sizes) == 1 else sizes
        if len(size) != self.dims:
            raise ConfigError(f"kernel {kernel} needs one number for each of {self.dims} axes")
        return nd.conv(self.dims)(
            in_channels,
            out_channels,
            size,  # type: ignore[arg-type]  # one number an axis
            stride=stride,  # type: ignore[arg-type]
            padding=tuple(dilation * (k - 1) // 2 for k in size),  # type: ignore[arg-type]
            dilation=dilation,
            groups=groups,
            bias=self.norm == "none" if bias is None else bias,
        )

    def norm_layer(self, channels: int) -> nn.Module:
        """Returns the normalisation of features ``(B, channels, *spatial)``."""
        return nd.norm(self.norm, self.dims, channels, self.norm_eps)

    def act_layer(self, inplace: bool = True) -> nn.Module:
        """Returns the activation; unless told not to, it overwrites what the layer before it has just made."""
        return nd.act(self.act, inplace)

    def attention_layer(self, channels: int) -> nn.Module:
        """Returns the attention slot, an identity for ``none``."""
        options = {"norm": self.norm, "act": self.act, **self.attention_options}
        return nd.with_eps(create_attention(self.attention, channels, self.dims, **options), self.norm_eps)

    def make_rule(self) -> Rule:
        """Returns the rule of this block."""
        return create_rule(
            self.rule,
            channels=self.out_channels,
            index=self.index,
            depth=self.depth,
            dims=self.dims,
            history=self.history,
            **self.rule_options,
        )

    def shortcut_layer(self) -> nn.Module | None:
        """Returns the projection where the shape changes, else ``None``."""
        return SHORTCUTS[self.shortcut](self) if self.changes_shape else None
