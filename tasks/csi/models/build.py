"""From the configuration of a model to its network."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from core.errors import ConfigError
from tasks.csi.config import (
    BackboneConfig,
    CnnConfig,
    Csi4CastConfig,
    Csi4CastFddConfig,
    Csi4CastSmallConfig,
    Csi4CastTddConfig,
    CsiModelConfig,
    RnnConfig,
    TransformerConfig,
)
from tasks.csi.models.backbone import BackboneNet
from tasks.csi.models.csi4cast import Csi4Cast
from tasks.csi.models.simple import ConvolutionalNet, RecurrentNet, TransformerNet

NETWORKS: Mapping[type, Callable[[Any, int, int, int], nn.Module]] = {
    Csi4CastTddConfig: Csi4Cast,
    Csi4CastFddConfig: Csi4Cast,
    Csi4CastSmallConfig: Csi4Cast,
    RnnConfig: RecurrentNet,
    CnnConfig: ConvolutionalNet,
    TransformerConfig: TransformerNet,
    BackboneConfig: BackboneNet,
}

LEAST = {"denoiser": 1, "blocks": 0, "layers": 1, "band_layers": 0}
"""Smallest values of numbers that are no widths; all others are at least 1."""

RATES = ("dropout", "input_dropout")
"""Probabilities."""


def build_network(config: CsiModelConfig, subcarriers: int, history: int, horizon: int) -> nn.Module:
    """Returns a new network that maps ``(rows, history, 2K)`` to ``(rows, horizon, 2K)``.

    A row is an antenna of a sample; real and imaginary parts of a subcarrier stand beside each other.

    Args:
        config: Configuration of the model.
        subcarriers: Subcarriers K.
        history: Reports that are known.
        horizon: Reports that are predicted.

    Raises:
        ConfigError: An option is out of range, or does not fit another one or the channels.
    """
    check_model(config)
    return NETWORKS[type(config)](config, subcarriers, history, horizon)


def check_model(config: CsiModelConfig) -> None:
    """Checks numbers that no other part of the program would refuse by name.

    Raises:
        ConfigError: One is out of range, or two do not fit each other.
    """
    for name, value in vars(config).items():
        if name in RATES and not 0 <= value < 1:
            raise ConfigError(f"--model.{name} {value} must be 0 or more and below 1")
        least = LEAST.get(name, 1)
        if type(value) is int and value < least:
            raise ConfigError(f"--model.{name} {value} must be {least} or more")
    if isinstance(config, (Csi4CastConfig, TransformerConfig)):
        _divides("heads", config.heads, "width", config.width)
        if config.width % 2:
            raise ConfigError(
                f"--model.width {config.width} must be even, for sines and cosines of positions"
            )
    if isinstance(config, Csi4CastConfig):
        _divides("groups", config.groups, "channels", config.channels)
        if config.reduction > config.channels:
            raise ConfigError(
                f"--model.reduction {config.reduction} leaves none of --model.channels {config.channels}"
            )


def _divides(name: str, divisor: int, of: str, value: int) -> None:
    if value % divisor:
        raise ConfigError(f"--model.{name} {divisor} must divide --model.{of} {value}")
