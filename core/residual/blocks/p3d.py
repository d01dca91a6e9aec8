"""3x3x3 convolutions in two factors, one in space and one in time: the blocks of Pseudo-3D networks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from core.errors import ConfigError
from core.registry import Registry
from core.residual.blocks.block import Block, zero_last
from core.residual.blocks.bottleneck import inner_width
from core.residual.blocks.spec import BlockSpec

Layer = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Wiring:
    """How the spatial factor S and the temporal factor T make one layer.

    Attributes:
        join: Computes the layer from S, T and the input.
        temporal: Whether there is a T.
        side_by_side: Whether T reads the layer's input, and therefore has the stride too.
    """

    join: Callable[[Layer, Layer, Tensor], Tensor]
    temporal: bool = True
    side_by_side: bool = False


WIRINGS: Registry[Wiring] = Registry("P3D wiring")


def _serial(s: Layer, t: Layer, x: Tensor) -> Tensor:
    return t(s(x))


def _parallel(s: Layer, t: Layer, x: Tensor) -> Tensor:
    return s(x) + t(x)


def _compromise(s: Layer, t: Layer, x: Tensor) -> Tensor:
    x = s(x)
    return x + t(x)


def _spatial(s: Layer, t: Layer, x: Tensor) -> Tensor:
    return s(x)


WIRINGS.register("A")(Wiring(_serial))
WIRINGS.register("B")(Wiring(_parallel, side_by_side=True))
WIRINGS.register("C")(Wiring(_compromise))
WIRINGS.register("S")(Wiring(_spatial, temporal=False))


class P3DBlock(Block):
    """conv 1, norm, act, then S (1x3x3) and T (3x1x1) each with norm and act, conv 1, norm, attention.

    "Learning Spatio-Temporal Representation with Pseudo-3D Residual Networks", Qiu et al., arXiv:1711.10305,
    section 3.1 and fig. 3. The wirings are A: ``T(S(x))``, B: ``S(x) + T(x)``, C: ``S(x) + T(S(x))``, and S:
    ``S(x)``, a bottleneck on single frames. Layers are named as in the PyTorch port of P3D-199. The stride,
    the same in time and space, is in S, and in B in T too; the paper reduces time by poolings between stages.

    Args:
        spec: Geometry, materials and place; volumes ``(B, C, T, H, W)`` alone.
        wiring: Letters of which the blocks of a network take one each in turns, by their index.
        cardinality: Groups of S and T.
        base_width: Channels of a group where ``out_channels`` is 256.

    Raises:
        ConfigError: The features are no volumes, a letter is unknown, or the options leave no channel.
    """

    allowed_dims: ClassVar[tuple[int, ...]] = (3,)
    folds: ClassVar[tuple[tuple[str, str], ...]] = (
        ("conv1", "bn1"),
        ("conv2", "bn2"),
        ("conv3", "bn3"),
        ("conv4", "bn4"),
    )

    def __init__(
        self, spec: BlockSpec, *, wiring: str = "ABC", cardinality: int = 1, base_width: int = 64
    ) -> None:
        super().__init__(spec)
        if spec.dims not in self.allowed_dims:
            raise ConfigError(f"P3D blocks exist for dims=3 alone, not {spec.dims}")
        if not wiring:
            raise ConfigError("wiring of P3D blocks must name one or more of A, B, C and S, such as 'ABC'")
        self.wiring = wiring[(spec.index - 1) % len(wiring)]
        kind = WIRINGS[self.wiring]
        width = inner_width(spec, cardinality, base_width)
        self.conv1 = spec.conv(spec.in_channels, width)
        self.bn1 = spec.norm_layer(width)
        self.act1 = spec.act_layer()
        self.conv2 = spec.conv(
            width, width, (1, 3, 3), stride=spec.stride, groups=cardinality, dilation=spec.dilation
        )
        self.bn2 = spec.norm_layer(width)
        self.act2 = spec.act_layer()
        self.conv3: nn.Module = nn.Identity()
        self.bn3: nn.Module = nn.Identity()
        self.act3: nn.Module = nn.Identity()
        if kind.temporal:
            stride = spec.stride if kind.side_by_side else 1
            self.conv3 = spec.conv(
                width, width, (3, 1, 1), stride=stride, groups=cardinality, dilation=spec.dilation
            )
            self.bn3 = spec.norm_layer(width)
            self.act3 = spec.act_layer()
        else:
            self.folds = tuple(pair for pair in self.folds if pair[0] != "conv3")  # type: ignore[misc]
        self.conv4 = spec.conv(width, spec.out_channels)
        self.bn4 = spec.norm_layer(spec.out_channels)
        self.se = spec.attention_layer(spec.out_channels)

    def branch(self, x: Tensor) -> Tensor:
        """Returns the update, ``(B, out_channels, T / stride, H / stride, W / stride)``."""
        x = self.act1(self.bn1(self.conv1(x)))
        x = WIRINGS[self.wiring].join(self.in_space, self.in_time, x)
        return self.se(self.bn4(self.conv4(x)))

    def in_space(self, x: Tensor) -> Tensor:
        """S: within each frame."""
        return self.act2(self.bn2(self.conv2(x)))

    def in_time(self, x: Tensor) -> Tensor:
        """T: along time at each position."""
        return self.act3(self.bn3(self.conv3(x)))

    def zero_init_last(self) -> None:
        """Zeroes the scale of the last norm."""
        zero_last(self.conv4, self.bn4)
