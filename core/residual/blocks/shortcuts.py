"""What a shortcut is where a block changes the width or the resolution of the stream.

| name | shortcut | source |
|---|---|---|
| ``conv`` | strided 1x1 convolution, norm | option B of He et al., arXiv:1512.03385, section 3.3 |
| ``avg_conv`` | 2x2 average pooling, 1x1 convolution, norm | ResNet-D of He et al., arXiv:1812.01187, section 4.2 |
| ``plain_conv`` | strided 1x1 convolution | pre-activation and wide networks, arXiv:1603.05027, arXiv:1605.07146 |
| ``bias_conv`` | strided 1x1 convolution with a bias | R2U-Net, Alom et al., arXiv:1802.06955 |
| ``pad`` | every stride-th position, zero channels | option A of arXiv:1512.03385 |
| ``resenc`` | average pooling; 1x1 convolution and norm if the width changes | nnU-Net, arXiv:2404.09556 |
| ``avg_pad`` | average pooling, zero channels | PyramidNet, Han et al., arXiv:1610.02915, section 3.3 |
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from torch import Tensor, nn
from torch.nn import functional

from core import nd
from core.errors import ConfigError
from core.registry import Registry

if TYPE_CHECKING:
    from core.residual.blocks.spec import BlockSpec

SHORTCUTS: Registry[Callable[[BlockSpec], nn.Module]] = Registry("shortcut")


class ZeroPad(nn.Module):
    """Reduces the resolution without weights and fills new channels with zeros.

    Args:
        in_channels: Channels of the stream before the block.
        out_channels: Channels after it, not fewer.
        pool: Reduces the resolution; ``None`` takes every ``stride``-th position.
        stride: Factor by which the spatial axes are reduced, one number or one an axis.

    Raises:
        ConfigError: There are fewer channels after the block than before.
    """

    def __init__(
        self, in_channels: int, out_channels: int, pool: nn.Module | None, stride: int | tuple[int, ...]
    ) -> None:
        super().__init__()
        if out_channels < in_channels:
            raise ConfigError(
                f"a zero-padded shortcut cannot lead from {in_channels} to {out_channels} channels; use conv"
            )
        self.extra = out_channels - in_channels
        self.pool = pool
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """Maps ``(B, in_channels, *spatial)`` to ``(B, out_channels, *spatial / stride)``."""
        if self.pool is None:
            axes = x.ndim - 2
            strides = self.stride if isinstance(self.stride, tuple) else (self.stride,) * axes
            x = x[(slice(None), slice(None), *(slice(None, None, stride) for stride in strides))]
        else:
            x = self.pool(x)
        return functional.pad(x, (*(0, 0) * (x.ndim - 2), 0, self.extra)) if self.extra else x


def _average(spec: BlockSpec) -> nn.Module:
    """Average pooling that covers inputs of odd size too, each cell by the positions that it has."""
    pool = nd.pool("avg", spec.dims)
    return pool(spec.stride, spec.stride, ceil_mode=True, count_include_pad=False)


@SHORTCUTS.register("conv")
def _conv(spec: BlockSpec) -> nn.Module:
    conv = spec.conv(spec.in_channels, spec.out_channels, 1, stride=spec.stride)
    return nn.Sequential(conv, spec.norm_layer(spec.out_channels))


@SHORTCUTS.register("avg_conv")
def _avg_conv(spec: BlockSpec) -> nn.Module:
    pool = nn.Identity() if spec.stride == 1 else _average(spec)
    return nn.Sequential(
        pool, spec.conv(spec.in_channels, spec.out_channels, 1), spec.norm_layer(spec.out_channels)
    )


@SHORTCUTS.register("resenc")
def _resenc(spec: BlockSpec) -> nn.Module:
    pool = nn.Identity() if spec.stride == 1 else _average(spec)
    if spec.in_channels == spec.out_channels:
        return pool
    conv = spec.conv(spec.in_channels, spec.out_channels, bias=False)
    return nn.Sequential(pool, conv, spec.norm_layer(spec.out_channels))


@SHORTCUTS.register("plain_conv")
def _plain_conv(spec: BlockSpec) -> nn.Module:
    return spec.conv(spec.in_channels, spec.out_channels, 1, stride=spec.stride, bias=False)


@SHORTCUTS.register("bias_conv")
def _bias_conv(spec: BlockSpec) -> nn.Module:
    return spec.conv(spec.in_channels, spec.out_channels, stride=spec.stride, bias=True)


@SHORTCUTS.register("pad")
def _pad(spec: BlockSpec) -> nn.Module:
    return ZeroPad(spec.in_channels, spec.out_channels, None, spec.stride)


@SHORTCUTS.register("avg_pad")
def _avg_pad(spec: BlockSpec) -> nn.Module:
    pool = None if spec.stride == 1 else _average(spec)
    return ZeroPad(spec.in_channels, spec.out_channels, pool, spec.stride)
