"""Bidirectional selective state-space blocks for sequences, as in Vision Mamba."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from core import nd
from core.errors import ConfigError
from core.residual.residual import Residual
from core.residual.rule import Rule
from core.selective_scan import selective_scan

EPS = 1e-5
"""Of the norms, as in the authors' code."""
STEPS = (1e-3, 0.1)
"""Smallest and largest step size at the start (Mamba, arXiv:2312.00752, section 3.6)."""


class BidirectionalMamba(nn.Module):
    """A selective state-space mixer that reads a sequence in both directions.

    "Vision Mamba: Efficient Visual Representation Learning with Bidirectional State Space Model", Zhu et al.,
    arXiv:2401.09417, algorithm 1: a linear map to ``x`` and ``z``; for each direction a causal depthwise convolution of
    its own, SiLU, step sizes and ``B`` and ``C`` from what that gives, and the scan; both outputs are added, multiplied
    with ``SiLU(z)`` and mapped back. Layers are named as in the authors' code (``bimamba_type="v2"``), where ``_b`` is
    the backward direction. That code's path without its CUDA kernels leaves out the backward direction; here both act.

    Weights start as Mamba's (arXiv:2312.00752, section 3.6): ``A = -1, ..., -N`` in every channel, ``D = 1``, and step
    sizes log-uniform in [0.001, 0.1].

    Args:
        width: Channels C.
        state: Size N of the state of each inner channel.
        conv: Length of the causal convolutions.
        expand: Inner width as a multiple of C.
        halve: Halve the sum of both directions, the authors' ``if_divide_out``.

    Raises:
        ConfigError: A number is below 1.
    """

    undecayed: ClassVar[tuple[str, ...]] = ("A_log", "A_b_log")
    """Rates of decay, which weight decay would draw to 1."""

    def __init__(
        self, width: int, state: int = 16, conv: int = 4, expand: int = 2, halve: bool = True
    ) -> None:
        super().__init__()
        for name, value in {"width": width, "state": state, "conv": conv, "expand": expand}.items():
            if value < 1:
                raise ConfigError(f"{name} of a Mamba block must be 1 or more, not {value}")
        inner, rank = expand * width, math.ceil(width / 16)
        self.splits, self.scale = [rank, state, state], 0.5 if halve else 1.0
        self.in_proj = nn.Linear(width, 2 * inner, bias=False)
        self.conv1d = _causal_conv(inner, conv)
        self.x_proj = nn.Linear(inner, rank + 2 * state, bias=False)
        self.dt_proj = _step_sizes(rank, inner)
        self.A_log = _rates(inner, state)
        self.D = nn.Parameter(torch.ones(inner))
        self.conv1d_b = _causal_conv(inner, conv)
        self.x_proj_b = nn.Linear(inner, rank + 2 * state, bias=False)
        self.dt_proj_b = _step_sizes(rank, inner)
        self.A_b_log = _rates(inner, state)
        self.D_b = nn.Parameter(torch.ones(inner))
        self.out_proj = nn.Linear(inner, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Maps ``(B, L, C)`` to ``(B, L, C)``."""
        x, gate = self.in_proj(x).transpose(1, 2).chunk(2, dim=1)
        ahead = self._scan(x, self.conv1d, self.x_proj, self.dt_proj, self.A_log, self.D)
        back = self._scan(
            x.flip(-1), self.conv1d_b, self.x_proj_b, self.dt_proj_b, self.A_b_log, self.D_b
        ).flip(-1)
        y = (ahead + back) * functional.silu(gate)
        return self.out_proj((self.scale * y).transpose(1, 2))

    def _scan(
        self, x: Tensor, conv: nn.Module, x_proj: nn.Module, dt_proj: nn.Module, A_log: Tensor, D: Tensor
    ) -> Tensor:
        """Runs one direction, ``(B, D, L)``."""
        x = functional.silu(conv(x)[..., : x.shape[-1]])
        step, B, C = x_proj(x.transpose(1, 2)).split(self.splits, dim=-1)
        delta = functional.softplus(dt_proj(step))
        return selective_scan(
            x, delta.transpose(1, 2), -torch.exp(A_log), B.transpose(1, 2), C.transpose(1, 2), D
        )


class MambaBlock(Residual):
    """RMS norm and :class:`BidirectionalMamba` as a residual branch (arXiv:2401.09417, figure 2).

    The authors keep the sum apart from what the next block reads, add, norm, mix: that is this block. Under autocast
    the stream stays in the dtype in which it comes, which for them is float32.

    Args:
        width: Channels C.
        rule: Residual rule of the sum.
        state: See :class:`BidirectionalMamba`, as the others.
        conv: Length of the causal convolutions.
        expand: Inner width as a multiple.
        halve: Halve the sum of both directions.
        drop_path: Probability that a sample's update is dropped in training.

    Raises:
        ConfigError: A number is out of its range.
    """

    def __init__(
        self,
        width: int,
        rule: str | Rule = "add",
        *,
        state: int = 16,
        conv: int = 4,
        expand: int = 2,
        halve: bool = True,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__(None, rule, drop_path=drop_path, channels=width, dims=1)
        self.mixer = BidirectionalMamba(width, state, conv, expand, halve)
        self.norm = nn.RMSNorm(width, eps=EPS)

    def branch(self, x: Tensor) -> Tensor:  # a method where Residual has a module
        """Maps ``(B, C, L)`` to the update ``(B, C, L)``."""
        return self.mixer(self.norm(x.transpose(1, 2))).transpose(1, 2)


def _causal_conv(channels: int, kernel: int) -> nd.Conv:
    """Pads both ends; what is computed after the last position is cut off."""
    return nd.conv(1)(channels, channels, kernel, groups=channels, padding=kernel - 1)


def _rates(channels: int, state: int) -> nn.Parameter:
    return nn.Parameter(torch.arange(1.0, state + 1).log().repeat(channels, 1))


@torch.no_grad()
def _step_sizes(rank: int, channels: int) -> nn.Linear:
    """Returns a layer before a softplus that gives step sizes log-uniform in :data:`STEPS`."""
    layer = nn.Linear(rank, channels)
    nn.init.uniform_(layer.weight, -(rank**-0.5), rank**-0.5)
    low, high = map(math.log, STEPS)
    steps = torch.exp(torch.rand(channels) * (high - low) + low)
    layer.bias.copy_(steps + torch.log(-torch.expm1(-steps)))  # the inverse of the softplus
    return layer
