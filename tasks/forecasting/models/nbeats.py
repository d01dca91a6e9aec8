"""N-BEATS, the doubly residual network for forecasting.

Oreshkin, Carpov, Chapados, Bengio, "N-BEATS: Neural basis expansion analysis for interpretable time series
forecasting", ICLR 2020, arXiv:1905.10437.

Doubly residual stacking (section 3.2) is a residual network whose update is the *negative* backcast and whose
blocks give their forecast as a side output, so any rule of ``core.residual`` can stand where the paper
subtracts. With the rule ``add`` the network is the paper's.

Where paper and the authors' released experiments differ, this file does as the experiments: the forecast
starts from the last observed value, one linear layer gives all expansion coefficients of a block (the generic
block has no further basis matrix), the input is read newest value first, and padding is masked after every
block. The seasonality basis of the backcast runs backwards in time with the period of the *horizon*.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from core.residual import Residual, create_rule
from tasks.forecasting.config import EnsembleConfig, GenericConfig, InterpretableConfig


class GenericBasis(nn.Module):
    """The identity: coefficients are the backcast and the forecast (section 3.3, generic architecture)."""

    def __init__(self, lookback: int, horizon: int) -> None:
        super().__init__()
        self.lookback, self.horizon = lookback, horizon
        self.num_coefficients = lookback + horizon

    def forward(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """Maps coefficients ``(B, L + H)`` to a backcast ``(B, L)`` and a forecast ``(B, H)``."""
        return theta[:, : self.lookback], theta[:, -self.horizon :]


class TrendBasis(nn.Module):
    """Polynomials in time, each side on its own grid from 0 to 1 (section 3.3, trend model).

    Args:
        lookback: Length L of the backcast.
        horizon: Length H of the forecast.
        degree: Degree p of the polynomial.
    """

    backcast: Tensor
    forecast: Tensor

    def __init__(self, lookback: int, horizon: int, degree: int) -> None:
        super().__init__()
        self.num_coefficients = 2 * (degree + 1)
        for side, length in (("backcast", lookback), ("forecast", horizon)):
            time = np.arange(length) / length
            powers = np.stack([time**power for power in range(degree + 1)])
            self.register_buffer(side, torch.tensor(powers, dtype=torch.float32), persistent=False)

    def forward(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """Maps ``(B, 2(p + 1))`` coefficients, forecast first, to a backcast and a forecast."""
        forecast, backcast = theta.chunk(2, dim=1)
        return backcast @ self.backcast, forecast @ self.forecast


class SeasonalityBasis(nn.Module):
    """Cosines and sines up to half the horizon (section 3.3, seasonality model).

    Args:
        lookback: Length L of the backcast.
        horizon: Length H of the forecast; it is also the longest period of both sides.
        harmonics: Density of the frequency grid; the paper uses 1.
    """

    backcast: Tensor
    forecast: Tensor

    def __init__(self, lookback: int, horizon: int, harmonics: int) -> None:
        super().__init__()
        grid = np.arange(harmonics, harmonics / 2 * horizon) / harmonics
        frequencies = np.append(0.0, grid)[:, None]
        self.num_coefficients = 4 * len(frequencies)
        # The backcast is read newest value first, so its time runs backwards.
        for side, length, sign in (("backcast", lookback, -1.0), ("forecast", horizon, 1.0)):
            angle = sign * 2 * math.pi * (np.arange(length) / horizon) * frequencies
            waves = np.concatenate([np.cos(angle), np.sin(angle)])
            self.register_buffer(side, torch.tensor(waves, dtype=torch.float32), persistent=False)

    def forward(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """Maps coefficients ``(B, 4n)``, forecast first, cosines before sines, to a backcast and a forecast."""
        forecast, backcast = theta.chunk(2, dim=1)
        return backcast @ self.backcast, forecast @ self.forecast


Basis = GenericBasis | TrendBasis | SeasonalityBasis


class Block(nn.Module):
    """Fully connected layers that choose the coefficients of a basis (section 3.1).

    Args:
        lookback: Length L of the input.
        width: Units in each layer.
        layers: Number of layers, each with a ReLU.
        basis: Turns coefficients into a backcast and a forecast.
    """

    def __init__(self, lookback: int, width: int, layers: int, basis: Basis) -> None:
        super().__init__()
        sizes = [lookback] + [width] * layers
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))
        self.theta = nn.Linear(width, basis.num_coefficients)
        self.basis = basis

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Maps what is left of the input ``(B, L)`` to its update, the negative backcast, and a forecast."""
        for layer in self.layers:
            x = torch.relu(layer(x))
        backcast, forecast = self.basis(self.theta(x))
        return -backcast, forecast


class NBeats(nn.Module):
    """A stack of blocks that each explain a part of the input and add a part of the forecast.

    Args:
        blocks: One entry a block; an object that stands more than once shares its weights.
        lookback: Input length L.
        horizon: Output length H.
        rule: Residual rule, see ``core.residual.list_rules()``.
        rule_options: Options of the rule.
        scale: ``none``, or ``window_max`` to divide each window by its largest magnitude.
    """

    def __init__(
        self,
        blocks: list[Block],
        lookback: int,
        horizon: int,
        rule: str = "add",
        rule_options: dict | None = None,
        scale: str = "none",
    ) -> None:
        super().__init__()
        self.lookback, self.horizon, self.scaled = lookback, horizon, scale == "window_max"
        make_rule = partial(create_rule, rule, channels=lookback, depth=len(blocks), dims=0)
        self.blocks = nn.ModuleList(
            Residual(block, rule=make_rule(index=i, **(rule_options or {})))
            for i, block in enumerate(blocks, 1)
        )
        # Nothing reads the stream after the last block, so its rule would never see a gradient.
        self.blocks[-1].rule.requires_grad_(False)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Forecasts.

        Args:
            x: ``(B, L)`` values, oldest first; what stands on the padding does not matter.
            mask: ``(B, L)``, 1 where ``x`` holds a value and 0 on the padding to its left.

        Returns:
            ``(B, H)`` forecasts.
        """
        return sum(self.components(x, mask))  # type: ignore[return-value]

    def components(self, x: Tensor, mask: Tensor) -> list[Tensor]:
        """Returns the level and the forecast of each block, all ``(B, H)``; they add up to the forecast."""
        x = x * mask
        size = torch.ones_like(x[:, -1:])
        if self.scaled:
            size = x.abs().amax(dim=1, keepdim=True).clamp_min(1e-12)
            x = x / size
        newest_first = mask.flip(1)
        masked = partial(torch.mul, newest_first)
        parts = [x[:, -1:].expand(-1, self.horizon)]
        blocks = cast("list[Residual]", list(self.blocks))
        stream = blocks[0].rule.open(x.flip(1))
        for block in blocks:
            stream, forecast = block(stream)
            stream = block.rule.activate(masked, stream)
            parts.append(forecast)
        return [part * size for part in parts]


def _generic(config: GenericConfig, lookback: int, horizon: int) -> list[Block]:
    return [
        Block(lookback, config.width, config.layers, GenericBasis(lookback, horizon))
        for _ in range(config.blocks)
    ]


def _interpretable(config: InterpretableConfig, lookback: int, horizon: int) -> list[Block]:
    trend = Block(
        lookback, config.trend_width, config.layers, TrendBasis(lookback, horizon, config.trend_degree)
    )
    seasonality = Block(
        lookback,
        config.seasonality_width,
        config.layers,
        SeasonalityBasis(lookback, horizon, config.harmonics),
    )
    return [trend] * config.trend_blocks + [seasonality] * config.seasonality_blocks


BUILDERS: dict[type, Callable[..., list[Block]]] = {
    GenericConfig: _generic,
    InterpretableConfig: _interpretable,
}


def build_nbeats(config: EnsembleConfig, lookback: int, horizon: int) -> NBeats:
    """Builds one member of ``config`` for an input of ``lookback`` and a forecast of ``horizon`` steps."""
    blocks = BUILDERS[type(config)](config, lookback, horizon)
    return NBeats(blocks, lookback, horizon, config.rule, config.rule_options, config.scale)
