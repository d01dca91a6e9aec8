"""The two blocks of RepLKNet: a very large depthwise kernel, and a convolutional feed-forward network."""

from __future__ import annotations

from torch import Tensor

from core.errors import ConfigError
from core.residual.blocks.block import Block, zero_last
from core.residual.blocks.conv_norm import conv_norm
from core.residual.blocks.spec import BlockSpec
from core.residual.reparam import LargeKernelConv


class RepLKBlock(Block):
    """norm, conv 1, norm, act, depthwise conv K beside k, act, conv 1, norm, attention.

    "Scaling Up Your Kernels to 31x31", Ding et al., arXiv:2203.06717, fig. 4. Layers are named as in the
    authors' code, which has neither an attention nor a block that changes the shape: the stride is in the
    large kernel.

    Args:
        spec: Geometry, materials and place.
        kernel: K, odd.
        small_kernel: k of the branch beside it, odd and not above K; 0 for none.
        dw_ratio: Channels of the large kernel as a multiple of ``in_channels``.

    Raises:
        ConfigError: The kernels do not fit or no channel is left.
    """

    def __init__(
        self, spec: BlockSpec, *, kernel: int = 31, small_kernel: int = 5, dw_ratio: float = 1.0
    ) -> None:
        super().__init__(spec, last_act=False)
        width = scaled_width(spec, dw_ratio, "dw_ratio")
        self.prelkb_bn = spec.norm_layer(spec.in_channels)
        self.pw1 = conv_norm(spec, spec.in_channels, width)
        self.large_kernel = LargeKernelConv(
            width,
            kernel,
            small_kernel,
            dims=spec.dims,
            stride=spec.one_stride,
            dilation=spec.dilation,
            norm=spec.norm,
            norm_eps=spec.norm_eps,
        )
        self.lk_nonlinear = spec.act_layer()
        self.pw2 = conv_norm(spec, width, spec.out_channels, act=False)
        self.se = spec.attention_layer(spec.out_channels)

    def branch(self, x: Tensor) -> Tensor:
        """Returns the update, ``(B, out_channels, *spatial / stride)``."""
        x = self.pw1(self.prelkb_bn(x))
        return self.se(self.pw2(self.lk_nonlinear(self.large_kernel(x))))

    def zero_init_last(self) -> None:
        """Zeroes the scale of the last norm."""
        zero_last(self.pw2.conv, self.pw2.bn)  # type: ignore[arg-type]  # by name in a Sequential


class ConvFFN(Block):
    """norm, conv 1, norm, act, conv 1, norm, attention: the other half of a RepLKNet stage; arXiv:2203.06717.

    Layers are named as in the authors' code; the stride, which theirs lacks, is in the first convolution.

    Args:
        spec: Geometry, materials and place; RepLKNet's activation is ``gelu`` here and ``relu`` elsewhere.
        ratio: Inner channels as a multiple of ``in_channels``.

    Raises:
        ConfigError: No channel is left.
    """

    def __init__(self, spec: BlockSpec, *, ratio: float = 4.0) -> None:
        super().__init__(spec, last_act=False)
        width = scaled_width(spec, ratio, "ratio")
        self.preffn_bn = spec.norm_layer(spec.in_channels)
        self.pw1 = conv_norm(spec, spec.in_channels, width, stride=spec.stride, act=False)
        self.nonlinear = spec.act_layer()
        self.pw2 = conv_norm(spec, width, spec.out_channels, act=False)
        self.se = spec.attention_layer(spec.out_channels)

    def branch(self, x: Tensor) -> Tensor:
        """Returns the update, ``(B, out_channels, *spatial / stride)``."""
        return self.se(self.pw2(self.nonlinear(self.pw1(self.preffn_bn(x)))))

    def zero_init_last(self) -> None:
        """Zeroes the scale of the last norm."""
        zero_last(self.pw2.conv, self.pw2.bn)  # type: ignore[arg-type]  # by name in a Sequential


def scaled_width(spec: BlockSpec, ratio: float, name: str) -> int:
    """Returns ``in_channels * ratio`` rounded down, or raises ``ConfigError`` if no channel is left."""
    width = int(spec.in_channels * ratio)
    if width < 1:
        raise ConfigError(f"{name} {ratio} leaves no channel of {spec.in_channels}; take a larger one")
    return width
