"""1D-CNN-ECG-Mamba: a convolutional stem that makes tokens, and bidirectional state-space blocks over them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from core import nd
from core.residual import ResidualChain, create_rule, drop_path_rates
from core.residual.blocks.mamba import EPS, MambaBlock

TOKEN = 0.02
"""Standard deviation of the class token at the start (Vision Mamba, arXiv:2401.09417)."""


class EcgMamba(nn.Module):
    """Twice conv, norm, ReLU; Vision Mamba's blocks; RMS norm; mean over the tokens or the class token; linear layer.

    1D-CNN-ECG-Mamba, Jiang et al., arXiv:2510.13046. The sizes of its layers were not at hand; the defaults are those
    of ECG-Mamba by the same authors (IEEE JTEHM, 2025): 24 blocks of Vision Mamba (arXiv:2401.09417), 384 channels.
    Convolutions here pad by half their length, where those pad by 2 and 100 samples, and positions have no embedding.
    The last maps of the mixers start smaller by the root of the depth, as Mamba's.

    Args:
        leads: Leads of the input.
        classes: Classes.
        width: Channels C of the blocks.
        depth: Blocks.
        state: Size of the state of each inner channel.
        conv: Length of the causal convolutions in a block.
        expand: Inner width of a block as a multiple.
        stem: Channels of the stem's first convolution.
        kernels: Lengths of the stem's two convolutions, samples.
        strides: Their strides.
        token: ``mean``, or ``middle``: a class token in the middle of the sequence.
        halve: Halve the sum of both directions.
        dropout: Before the last layer.
        drop_path: Rate at which the last block's update is dropped; it grows evenly from 0 in the first.
        rule: Residual rule of every block.
        rule_options: Options of the rule.

    Raises:
        ConfigError: The rule or an option of it is wrong.
    """

    def __init__(
        self,
        leads: int,
        classes: int,
        width: int = 384,
        depth: int = 24,
        state: int = 16,
        conv: int = 4,
        expand: int = 2,
        stem: int = 128,
        kernels: Sequence[int] = (14, 15),
        strides: Sequence[int] = (3, 4),
        token: Literal["mean", "middle"] = "middle",
        halve: bool = True,
        dropout: float = 0.0,
        drop_path: float = 0.0,
        rule: str = "add",
        rule_options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        channels = (leads, stem, width)
        self.stem = nn.Sequential(
            *(
                layer
                for i in range(2)
                for layer in _conv_norm(channels[i], channels[i + 1], kernels[i], strides[i])
            )
        )
        self.register_parameter("token", None)
        if token == "middle":
            self.token = nn.Parameter(torch.empty(1, width, 1))
            nn.init.trunc_normal_(self.token, std=TOKEN, a=-2 * TOKEN, b=2 * TOKEN)
        self.blocks = ResidualChain(
            MambaBlock(
                width,
                create_rule(rule, channels=width, index=i + 1, depth=depth, dims=1, **(rule_options or {})),
                state=state,
                conv=conv,
                expand=expand,
                halve=halve,
                drop_path=rate,
            )
            for i, rate in enumerate(drop_path_rates(drop_path, depth))
        )
        with torch.no_grad():
            for block in self.blocks:
                block.mixer.out_proj.weight /= depth**0.5  # type: ignore[union-attr]  # of a MambaBlock
        self.norm = nn.RMSNorm(width, eps=EPS)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Maps signals ``(B, leads, L)`` to logits ``(B, classes)``."""
        tokens = self.stem(x)
        # The stream stays in the input's dtype under autocast: small updates would get lost in 8 bits.
        tokens = tokens.to(torch.promote_types(tokens.dtype, torch.float32))
        middle = tokens.shape[-1] // 2
        if self.token is not None:
            token = self.token.expand(x.shape[0], -1, -1)  # len() would fix it in exports
            tokens = torch.cat([tokens[..., :middle], token, tokens[..., middle:]], dim=-1)
        features = self.norm(self.blocks(tokens).transpose(1, 2))
        pooled = features.mean(1) if self.token is None else features[:, middle]
        return self.output(self.dropout(pooled))


def _conv_norm(inputs: int, outputs: int, kernel: int, stride: int) -> tuple[nn.Module, ...]:
    conv: Any = nd.conv(1)
    return (
        conv(inputs, outputs, kernel, stride=stride, padding=kernel // 2),
        nd.norm("batch", 1, outputs),
        nd.act("relu", inplace=True),
    )
