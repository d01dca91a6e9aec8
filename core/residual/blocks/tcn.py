"""Dilated causal convolutions with weight normalisation: the block of temporal convolutional networks."""

from __future__ import annotations

import copy
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from core import nd
from core.errors import ConfigError
from core.residual.blocks.block import ABOVE_ZERO, Block, nearly_zero_last
from core.residual.blocks.spec import BlockSpec
from core.residual.reparam import Reparameterised

SEES_ALL_TIME = ("group", "instance")


class CausalConv(Reparameterised):
    """A convolution of ``(B, C, L)`` whose output t reads no input after ``t * stride``.

    With weight normalisation its kernel is ``g v / |v|`` with one learned length ``g`` an output channel and the
    direction ``v`` in ``conv.weight`` ("Weight Normalization", Salimans and Kingma, arXiv:1602.07868, eq. 2), as
    with ``torch.nn.utils.parametrizations.weight_norm``. That one makes the layer's class anew, so that models
    cannot be pickled and schemes that write weights in place write to a copy.

    Args:
        spec: What the layer is made of; its dilation and whether it has a bias.
        in_channels: Channels before.
        out_channels: Channels after.
        kernel: Kernel, odd or even.
        stride: Factor by which the length is reduced.
        causal: Pad before the first position alone; otherwise on both sides.
        weight_norm: Whether the kernel is normalised.
    """

    def __init__(
        self,
        spec: BlockSpec,
        in_channels: int,
        out_channels: int,
        kernel: int,
        *,
        stride: int = 1,
        causal: bool = True,
        weight_norm: bool = True,
    ) -> None:
        super().__init__()
        reach = spec.dilation * (kernel - 1)
        self.padding = (reach, 0) if causal else (reach - reach // 2, reach // 2)
        self.conv = nd.conv(spec.dims)(
            in_channels,
            out_channels,
            kernel,
            stride=stride,
            dilation=spec.dilation,
            bias=spec.norm == "none",
        )
        self.register_parameter("length", None)
        if weight_norm:
            self.length = nn.Parameter(_lengths(self.conv.weight.detach()))

    def kernel(self) -> Tensor:
        """Returns the kernel in use, ``(out, in, k)``."""
        weight = self.conv.weight
        return weight if self.length is None else weight * (self.length / _lengths(weight))

    def forward(self, x: Tensor) -> Tensor:
        """Maps ``(B, in, L)`` to ``(B, out, ceil(L / stride))``."""
        x = functional.pad(x, self.padding)
        if self.length is None:
            return self.conv(x)
        return torch.func.functional_call(self.conv, {"weight": self.kernel()}, (x,))

    @torch.no_grad()
    def reset_length(self) -> None:
        """Makes the kernel equal ``conv.weight``, after a scheme of initialisation has set that.

        A channel of zeros has no direction: it gets the length 0 and a random one, so that it can be trained.
        """
        if self.length is not None:
            weight = self.conv.weight
            lengths = _lengths(weight)
            self.length.copy_(lengths)
            weight.copy_(torch.where(lengths == 0, torch.randn_like(weight), weight))

    def zero_init(self) -> None:
        """Makes the output :data:`ABOVE_ZERO` at every position, or 0 without a bias."""
        nn.init.zeros_(self.conv.weight if self.length is None else self.length)
        if self.conv.bias is not None:
            nn.init.constant_(self.conv.bias, ABOVE_ZERO)

    def can_merge(self) -> bool:
        """Returns whether there is a normalisation to merge."""
        return self.length is not None

    def merged(self) -> CausalConv:
        """Returns the layer with its kernel as a plain weight and the same output."""
        plain = copy.deepcopy(self)
        plain.conv.weight = nn.Parameter(self.kernel().detach(), requires_grad=self.conv.weight.requires_grad)
        plain.register_parameter("length", None)
        return plain


class ChannelDropout(nn.Module):
    """Zeroes whole channels of ``(B, C, L)`` in training and divides the others by the probability of survival.

    Args:
        rate: Probability that a channel is dropped.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """Drops channels of each sample on its own."""
        return torch.feature_dropout(x, self.rate, self.training)


class TCNBlock(Block):
    """Twice causal conv (the first one strided), norm, act, channel dropout; then attention.

    "An Empirical Evaluation of Generic Convolutional and Recurrent Networks for Sequence Modeling", Bai et al.,
    arXiv:1803.01271, section 3.3 and fig. 1b. The paper's normalisation is that of the weights, which is what
    ``norm="none"`` gives; any other norm takes its place. The dropout is the paper's, of whole channels, where
    the authors' code drops single values.

    Args:
        spec: Geometry, materials and place; signals ``(B, C, L)`` alone.
        kernel: Kernel of both convolutions.
        causal: Whether no output depends on a later input.
        weight_norm: Whether the weights are normalised where no other norm is asked for.

    Raises:
        ConfigError: The features are no signals, the kernel is below 1, or a causal block is asked to have a
            norm or an attention that reads all times.
    """

    allowed_dims: ClassVar[tuple[int, ...]] = (1,)
    uses_dropout: ClassVar[bool] = True
    folds: ClassVar[tuple[tuple[str, str], ...]] = (("conv1.conv", "bn1"), ("conv2.conv", "bn2"))

    def __init__(
        self, spec: BlockSpec, *, kernel: int = 3, causal: bool = True, weight_norm: bool = True
    ) -> None:
        super().__init__(spec)
        if spec.dims not in self.allowed_dims:
            raise ConfigError(f"TCN blocks exist for dims=1 alone, not {spec.dims}")
        if kernel < 1:
            raise ConfigError(f"kernel of a TCN block must be 1 or more, not {kernel}")
        if causal and spec.norm in SEES_ALL_TIME:
            raise ConfigError(
                f"norm {spec.norm!r} of a causal block reads later times; take none, batch or layer"
            )
        if causal and spec.attention != "none":
            raise ConfigError(
                f"attention {spec.attention!r} of a causal block reads later times; set causal=False"
            )
        width = spec.out_channels
        form = {"causal": causal, "weight_norm": weight_norm and spec.norm == "none"}
        self.conv1 = CausalConv(spec, spec.in_channels, width, kernel, stride=spec.one_stride, **form)
        self.bn1 = spec.norm_layer(width)
        self.act1 = spec.act_layer()
        self.dropout1 = ChannelDropout(spec.dropout) if spec.dropout else nn.Identity()
        self.conv2 = CausalConv(spec, width, width, kernel, **form)
        self.bn2 = spec.norm_layer(width)
        self.act2 = spec.act_layer()
        self.dropout2 = ChannelDropout(spec.dropout) if spec.dropout else nn.Identity()
        self.se = spec.attention_layer(width)

    def branch(self, x: Tensor) -> Tensor:
        """Returns the update, ``(B, out_channels, ceil(L / stride))``."""
        x = self.dropout1(self.act1(self.bn1(self.conv1(x))))
        return self.se(self.dropout2(self.act2(self.bn2(self.conv2(x)))))

    def zero_init_last(self) -> None:
        """Sets the last layers before the last activation so that the update is 0 to within 1e-6."""
        if getattr(self.bn2, "weight", None) is None:
            self.conv2.zero_init()
        else:
            nearly_zero_last(self.conv2.conv, self.bn2)


def _lengths(weight: Tensor) -> Tensor:
    """Returns the norm of each output channel's kernel, ``(out, 1, 1)``."""
    return torch.linalg.vector_norm(weight, dim=tuple(range(1, weight.ndim)), keepdim=True)
