"""Structural re-parameterisation: parallel convolutions that are trained apart and merged into one afterwards.

A convolution and the batch normalisation after it are linear in evaluation mode, so that they are one
convolution with a bias; convolutions of one input that are summed are one convolution with the sum of their
kernels. Both hold exactly, for signals, images and volumes.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm

from core import nd
from core.errors import ConfigError

DILATED: dict[int, tuple[tuple[int, int], ...]] = {
    5: ((3, 1), (3, 2)),
    7: ((5, 1), (3, 2), (3, 3)),
    9: ((5, 1), (5, 2), (3, 3), (3, 4)),
    11: ((5, 1), (5, 2), (3, 3), (3, 4), (3, 5)),
    13: ((5, 1), (7, 2), (3, 3), (3, 4), (3, 5)),
    15: ((5, 1), (7, 2), (3, 3), (3, 5), (3, 7)),
    17: ((5, 1), (9, 2), (3, 4), (3, 5), (3, 7)),
}
"""Kernel and dilation of the branches beside a large kernel; the authors' code (section 3.3 has those of 9)."""


def can_fold(norm: nn.Module) -> bool:
    """Returns whether a norm is linear in evaluation mode: batch normalisation with running statistics.

    A subclass that does more, such as a norm with its activation inside, is none.
    """
    known = (BatchNorm.forward, nn.SyncBatchNorm.forward)
    return type(norm).forward in known and norm.running_mean is not None and norm.running_var is not None


def fuse_conv_norm(conv: nd.Conv | nd.ConvTranspose, norm: nn.Module) -> nd.Conv | nd.ConvTranspose:
    """Returns one convolution that computes ``norm(conv(x))`` as it is in evaluation mode.

    With ``s = weight / sqrt(running_var + eps)`` its kernel is ``s * kernel`` and its bias
    ``norm.bias + s * (bias - running_mean)``, computed in float64.

    Args:
        conv: Plain or transposed convolution, with any groups, stride, dilation and padding; not changed.
        norm: Batch normalisation with running statistics over the channels that ``conv`` gives.

    Raises:
        ConfigError: The norm depends on its input, or has another number of channels.
    """
    if not can_fold(norm):
        raise ConfigError(
            f"{type(norm).__name__} depends on its input and cannot become part of a convolution; "
            "only batch normalisation with running statistics can"
        )
    assert isinstance(norm, BatchNorm) and norm.running_mean is not None and norm.running_var is not None
    if norm.num_features != conv.out_channels:
        raise ConfigError(
            f"a norm of {norm.num_features} channels does not follow a convolution to {conv.out_channels}"
        )
    with torch.no_grad():
        scale = torch.rsqrt(norm.running_var.double() + norm.eps)
        if norm.weight is not None:
            scale = scale * norm.weight.double()
        bias = -norm.running_mean.double() if conv.bias is None else conv.bias.double() - norm.running_mean
        bias = bias * scale
        if norm.bias is not None:
            bias = bias + norm.bias
        weight = conv.weight.double() * _align(scale, conv)
    return _with_values(conv, weight, bias)


def _align(scale: Tensor, conv: nd.Conv | nd.ConvTranspose) -> Tensor:
    """Views one factor an output channel so that it multiplies the convolution's kernel."""
    axes = (1,) * len(conv.kernel_size)
    if not conv.transposed:
        return scale.reshape(-1, 1, *axes)
    # A transposed kernel is (in, out / groups, *k): the rows of a group share the group's outputs.
    rows = conv.in_channels // conv.groups
    return scale.reshape(conv.groups, -1).repeat_interleave(rows, dim=0).reshape(conv.in_channels, -1, *axes)


def _with_values(
    conv: nd.Conv | nd.ConvTranspose, weight: Tensor, bias: Tensor
) -> nd.Conv | nd.ConvTranspose:
    """Returns a copy of a convolution with another kernel and bias, in the dtype of the old kernel."""
    fused = copy.deepcopy(conv)
    trained = conv.weight.requires_grad
    fused.weight = nn.Parameter(weight.to(conv.weight.dtype), requires_grad=trained)
    fused.bias = nn.Parameter(bias.to(conv.weight.dtype), requires_grad=trained)
    return fused


class Reparameterised(nn.Module, ABC):
    """A module that one plain module replaces after training, see :func:`core.compress.folding.deploy`."""

    @abstractmethod
    def can_merge(self) -> bool:
        """Returns whether :meth:`merged` exists with the norms that were chosen."""

    @abstractmethod
    def merged(self) -> nn.Module:
        """Returns a plain module with this one's output in evaluation mode.

        Raises:
            ConfigError: A norm depends on its input.
        """


class ReparamConv(Reparameterised):
    """A sum of convolutions of one input, each followed by its norm, and of equal output size.

    Subclasses make the layers and name them as their authors do; the first of :meth:`branches` has the kernel
    that covers all others.
    """

    @abstractmethod
    def branches(self) -> list[tuple[nd.Conv, nn.Module]]:
        """Returns the convolutions and their norms, the large kernel first."""

    def forward(self, x: Tensor) -> Tensor:
        """Maps ``(B, C, *spatial)`` to ``(B, C, *spatial / stride)``."""
        (conv, norm), *others = self.branches()
        y = norm(conv(x))
        for conv, norm in others:
            y = y + norm(conv(x))
        return y

    def can_merge(self) -> bool:
        """Returns whether every norm is a batch normalisation with running statistics, or absent."""
        return all(can_fold(norm) or isinstance(norm, nn.Identity) for _, norm in self.branches())

    def merged(self) -> nd.Conv:
        """Returns one convolution with a bias and the same output in evaluation mode.

        Raises:
            ConfigError: A norm depends on its input.
        """
        fused: list[nd.Conv] = [
            conv if isinstance(norm, nn.Identity) else fuse_conv_norm(conv, norm)  # type: ignore[misc]
            for conv, norm in self.branches()
        ]
        large = fused[0]
        with torch.no_grad():
            weight = sum(_on_grid(conv, large) for conv in fused)
            bias = sum(
                large.weight.new_zeros(large.out_channels, dtype=torch.float64)
                if conv.bias is None
                else conv.bias.double()
                for conv in fused
            )
        return _with_values(large, weight, bias)  # type: ignore[arg-type, return-value]  # sums of tensors


def dense_kernel(kernel: Tensor, dilation: Sequence[int], size: Sequence[int]) -> Tensor:
    """Returns the kernel that does without dilation what ``kernel`` does with it.

    A kernel of k with dilation r is one of ``r (k - 1) + 1`` with ``r - 1`` zeros between its entries (eq. 1 of
    arXiv:2311.15599, there by a transposed convolution); zeros around it make it larger still.

    Args:
        kernel: ``(out, in / groups, *k)``.
        dilation: r of each axis.
        size: Size of the result along each axis, ``r (k - 1) + 1`` or more by an even number.
    """
    spans = [rate * (k - 1) + 1 for k, rate in zip(kernel.shape[2:], dilation, strict=True)]
    edges = [(whole - span) // 2 for whole, span in zip(size, spans, strict=True)]
    dense = kernel.new_zeros(*kernel.shape[:2], *size)
    places = [slice(edge, edge + span, rate) for edge, span, rate in zip(edges, spans, dilation, strict=True)]
    dense[(slice(None), slice(None), *places)] = kernel
    return dense


def _on_grid(conv: nd.Conv, large: nd.Conv) -> Tensor:
    """Returns a convolution's kernel in float64, in size and dilation of the large one."""
    rates = [rate // base for rate, base in zip(conv.dilation, large.dilation, strict=True)]
    return dense_kernel(conv.weight.double(), rates, large.kernel_size)


def _depthwise(dims: int, channels: int, kernel: int, stride: int, dilation: int, norm: str) -> nd.Conv:
    return nd.conv(dims)(
        channels,
        channels,
        kernel,
        stride=stride,
        padding=dilation * (kernel - 1) // 2,
        dilation=dilation,
        groups=channels,
        bias=norm == "none",
    )


class LargeKernelConv(ReparamConv):
    """A large depthwise kernel beside a small one: ``BN(conv_K(x)) + BN(conv_k(x))``.

    "Scaling Up Your Kernels to 31x31", Ding et al., arXiv:2203.06717, section 3 (guideline 3) and fig. 2. Layers
    are named as in the authors' code.

    Args:
        channels: C, before and after.
        kernel: K, odd.
        small: k, odd and not above K; 0 for none.
        dims: Spatial axes, 1 to 3.
        stride: Factor by which each spatial axis is reduced.
        dilation: Dilation of all kernels.
        norm: Normalisation of each branch, see :func:`core.nd.norm`.
        norm_eps: What the normalisations add to a variance.

    Raises:
        ConfigError: A kernel is even or the small one is the larger.
    """

    def __init__(
        self,
        channels: int,
        kernel: int,
        small: int = 5,
        *,
        dims: int = 2,
        stride: int = 1,
        dilation: int = 1,
        norm: str = "batch",
        norm_eps: float | None = None,
    ) -> None:
        super().__init__()
        if kernel % 2 == 0 or (small and small % 2 == 0) or not 0 <= small <= kernel:
            raise ConfigError(
                f"kernels must be odd and the small one not above {kernel}, not {kernel} and {small}"
            )

        def part(size: int) -> nn.Sequential:
            conv = _depthwise(dims, channels, size, stride, dilation, norm)
            return nn.Sequential(OrderedDict(conv=conv, bn=nd.norm(norm, dims, channels, norm_eps)))

        self.lkb_origin = part(kernel)
        self.small_conv = part(small) if small else None

    def branches(self) -> list[tuple[nd.Conv, nn.Module]]:
        """Returns the large branch and the small one."""
        parts = [self.lkb_origin] if self.small_conv is None else [self.lkb_origin, self.small_conv]
        return [(part.conv, part.bn) for part in parts]  # type: ignore[misc]  # by name in a Sequential


class DilatedConv(ReparamConv):
    """A large depthwise kernel beside small dilated ones, each with its norm.

    The dilated re-parameterised block of "UniRepLKNet", Ding et al., arXiv:2311.15599, section 3.3, with the
    kernels and dilations of the authors' code (:data:`DILATED`), whose layer names it has.

    Args:
        channels: C, before and after.
        kernel: One of 5, 7, ..., 17.
        dims: Spatial axes, 1 to 3.
        stride: Factor by which each spatial axis is reduced.
        dilation: Factor on the dilation of all kernels.
        norm: Normalisation of each branch, see :func:`core.nd.norm`.
        norm_eps: What the normalisations add to a variance.

    Raises:
        ConfigError: There are no branches for this kernel.
    """

    def __init__(
        self,
        channels: int,
        kernel: int,
        *,
        dims: int = 2,
        stride: int = 1,
        dilation: int = 1,
        norm: str = "batch",
        norm_eps: float | None = None,
    ) -> None:
        super().__init__()
        if kernel not in DILATED:
            known = ", ".join(map(str, DILATED))
            raise ConfigError(f"dilated re-parameterisation exists for kernels of {known}, not {kernel}")
        self.kernel = kernel
        self.lk_origin = _depthwise(dims, channels, kernel, stride, dilation, norm)
        self.origin_bn = nd.norm(norm, dims, channels, norm_eps)
        for k, rate in DILATED[kernel]:
            conv = _depthwise(dims, channels, k, stride, rate * dilation, norm)
            self.add_module(f"dil_conv_k{k}_{rate}", conv)
            self.add_module(f"dil_bn_k{k}_{rate}", nd.norm(norm, dims, channels, norm_eps))

    def branches(self) -> list[tuple[nd.Conv, nn.Module]]:
        """Returns the large kernel and the dilated ones."""
        dilated = [
            (getattr(self, f"dil_conv_k{k}_{rate}"), getattr(self, f"dil_bn_k{k}_{rate}"))
            for k, rate in DILATED[self.kernel]
        ]
        return [(self.lk_origin, self.origin_bn), *dilated]
