"""CSI-4CAST: a denoiser, adaptive layers and shuffle blocks over frequency and delay, and a transformer."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from core import nd
from core.residual import ResidualChain, Rule, create_rule
from tasks.csi.config import Csi4CastConfig
from tasks.csi.layout import from_planes, to_planes
from tasks.csi.models.arl import AdaptiveLayer
from tasks.csi.models.denoiser import Denoiser, inverse_fourier
from tasks.csi.models.encoder import Encoder, MakeRule, positions
from tasks.csi.models.shuffle import ShuffleBlock
from tasks.csi.models.standardise import standardised


class Csi4Cast(nn.Module):
    """The network of "CSI-4CAST: A Hybrid Deep Learning Model for CSI Prediction", arXiv:2510.12996, as released.

    Noise is taken off; the reports and their inverse Fourier transforms over the subcarriers each pass perceptrons over
    time (and over the subcarriers) and convolutions; their sum is embedded, a token a report, and passes a transformer;
    linear layers over width and time give the prediction.

    With the standardisation ``batch`` the denoiser reads the history as it is and its output is standardised, as in the
    released code. With ``sample`` the denoiser reads the standardised history, so that the prediction scales with it.

    Args:
        config: Sizes, rule and standardisation.
        subcarriers: Subcarriers K.
        history: Reports T that are known.
        horizon: Reports H that are predicted.
    """

    to_delay: Tensor

    def __init__(self, config: Csi4CastConfig, subcarriers: int, history: int, horizon: int) -> None:
        super().__init__()
        c, features = config, 2 * subcarriers
        before = int(c.denoiser > 1)
        depth = before + c.blocks + 2 * c.layers
        make_rule = partial(_make_rule, config, depth)
        self.mode = c.standardise
        self.denoiser = ResidualChain([Denoiser(c.denoiser, make_rule(2, 1))] if before else [])
        # Their blocks stand beside each other and have the same places.
        blocks = partial(Branch, c, subcarriers, history, partial(make_rule, c.channels), before + 1)
        self.frequency = blocks(c.band_residual)
        self.delay = blocks(c.delay_residual)
        self.register_buffer("to_delay", inverse_fourier(subcarriers), persistent=False)
        self.embedding = Embedding(features, c.width, history, c.input_dropout, c.temporal)
        self.encoder = Encoder(
            c.width,
            c.layers,
            c.heads,
            c.feedforward,
            c.dropout,
            partial(_make_rule, config, depth, c.width, dims=1),
            before + c.blocks + 1,
        )
        self.project = nn.Linear(c.width, features)
        self.steps = nn.Linear(history, horizon)

    def forward(self, history: Tensor) -> Tensor:
        """Maps histories ``(B, T, 2K)`` to predictions ``(B, H, 2K)``."""
        if self.mode == "batch":
            return standardised(self._predict, self._denoise(history), self.mode)
        return standardised(self._whole, history, self.mode)

    def _whole(self, x: Tensor) -> Tensor:
        return self._predict(self._denoise(x))

    def _denoise(self, x: Tensor) -> Tensor:
        return from_planes(self.denoiser(to_planes(x)))

    def _predict(self, x: Tensor) -> Tensor:
        images = self.frequency(x) + self.delay(x @ self.to_delay)
        tokens = self.encoder(self.embedding(from_planes(images)))
        return self.steps(self.project(tokens.transpose(1, 2)).transpose(1, 2)).transpose(1, 2)


class Branch(nn.Module):
    """What the reports pass in one domain, frequency or delay.

    Args:
        config: Sizes.
        subcarriers: Subcarriers K, or delays.
        history: Reports T.
        make_rule: Makes the rule of a shuffle block.
        first: Place of the first block.
        residual: How the input of the perceptron over subcarriers comes back.
    """

    def __init__(
        self,
        config: Csi4CastConfig,
        subcarriers: int,
        history: int,
        make_rule: MakeRule,
        first: int,
        residual: str,
    ) -> None:
        super().__init__()
        c, conv = config, nd.conv(2)
        self.time = AdaptiveLayer(
            history, c.time_layers, c.time_hidden, c.time_residual, nn.Identity(), c.input_dropout
        )
        self.band: nn.Module = nn.Identity()
        if c.band_layers:
            act, size = nn.ReLU(), 2 * subcarriers
            self.band = AdaptiveLayer(size, c.band_layers, c.band_hidden, residual, act, c.input_dropout)
        self.convs = ResidualChain(
            [
                conv(2, c.channels, 3, padding=1),
                *(
                    ShuffleBlock(c.channels, c.groups, c.reduction, c.attention, make_rule(first + i))
                    for i in range(c.blocks)
                ),
                conv(c.channels, 2, 3, padding=1),
            ]
        )

    def forward(self, x: Tensor) -> Tensor:
        """Maps reports ``(B, T, 2K)`` to images ``(B, 2, T, K)``."""
        x = self.time(x.transpose(1, 2)).transpose(1, 2)
        images = to_planes(self.band(x))
        # A tenth faster than with the strides that the perceptron over time leaves.
        return self.convs(images.contiguous(memory_format=torch.channels_last))


class Embedding(nn.Module):
    """A convolution over time to the transformer's width, positions, dropout, and a linear layer over time.

    Args:
        features: Features F of a report.
        width: Width C.
        history: Reports T.
        dropout: Probability of dropout.
        temporal: Keep weights that the released code has for time stamps and does not use.
    """

    positions: Tensor

    def __init__(self, features: int, width: int, history: int, dropout: float, temporal: bool) -> None:
        super().__init__()
        self.conv = nd.conv(1)(features, width, 3)
        nn.init.kaiming_normal_(self.conv.weight, nonlinearity="leaky_relu")
        self.register_buffer("positions", positions(history, width).T.contiguous(), persistent=False)
        self.dropout = nn.Dropout(dropout)
        self.mix = nn.Linear(history, history)
        self.temporal = nn.Linear(4, width, bias=False) if temporal else None
        if self.temporal is not None:
            # Nothing reads it: left trainable, training over several devices would wait for its gradient.
            self.temporal.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        """Maps reports ``(B, T, F)`` to tokens ``(B, C, T)``."""
        around = torch.cat([x[:, -1:], x, x[:, :1]], 1)  # circular, as the released code pads
        return self.mix(self.dropout(self.conv(around.transpose(1, 2)) + self.positions))


def _make_rule(config: Csi4CastConfig, depth: int, channels: int, place: int, dims: int = 2) -> Rule:
    return create_rule(
        config.rule, channels=channels, index=place, depth=depth, dims=dims, **config.rule_options
    )
