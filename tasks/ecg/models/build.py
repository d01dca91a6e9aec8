"""From a configuration to a network."""

from __future__ import annotations

from functools import singledispatch
from typing import Any

from torch import nn

from core.errors import ConfigError
from tasks.ecg.config import BackboneConfig, MambaConfig, ResNetWangConfig, XResNetConfig
from tasks.ecg.models.backbone import BackboneNet
from tasks.ecg.models.mamba import EcgMamba
from tasks.ecg.models.resnets import ResNet1dWang, XResNet1d


@singledispatch
def build_network(config: Any, leads: int, classes: int, length: int) -> nn.Module:
    """Returns a new network for signals ``(B, leads, L)`` that gives logits ``(B, classes)``.

    Args:
        config: Configuration of a model, one of ``tasks.ecg.config.MODELS``.
        leads: Leads of the input.
        classes: Classes.
        length: Samples L of the input.

    Raises:
        ConfigError: An option of the model is wrong, or does not fit the signals.
    """
    raise AssertionError(f"no network is built from a {type(config).__name__}")


@build_network.register
def _wang(config: ResNetWangConfig, leads: int, classes: int, length: int) -> nn.Module:
    _check_counts(config, "width")
    _check_shares(config, "dropout")
    return ResNet1dWang(leads, classes, config.width, config.dropout, config.rule, config.rule_options)


@build_network.register
def _xresnet(config: XResNetConfig, leads: int, classes: int, length: int) -> nn.Module:
    _check_counts(config, "width", "kernel")
    _check_shares(config, "dropout")
    if config.kernel % 2 == 0:
        raise ConfigError(f"--model.kernel {config.kernel} must be odd, so that blocks keep the length")
    if not config.layers or min(config.layers) < 1:
        raise ConfigError(f"--model.layers {config.layers} must be 1 or more blocks for each stage")
    return XResNet1d(
        leads,
        classes,
        config.width,
        config.kernel,
        config.layers,
        config.bottleneck,
        config.dropout,
        config.rule,
        config.rule_options,
    )


@build_network.register
def _mamba(config: MambaConfig, leads: int, classes: int, length: int) -> nn.Module:
    _check_counts(config, "width", "depth", "state", "conv", "expand", "stem")
    _check_shares(config, "dropout", "drop_path")
    for option in ("kernels", "strides"):
        numbers = getattr(config, option)
        if len(numbers) != 2 or min(numbers) < 1:
            raise ConfigError(f"--model.{option} {numbers} must be two numbers, 1 or more, one a convolution")
    return EcgMamba(
        leads,
        classes,
        width=config.width,
        depth=config.depth,
        state=config.state,
        conv=config.conv,
        expand=config.expand,
        stem=config.stem,
        kernels=config.kernels,
        strides=config.strides,
        token=config.token,
        halve=config.halve,
        dropout=config.dropout,
        drop_path=config.drop_path,
        rule=config.rule,
        rule_options=config.rule_options,
    )


@build_network.register
def _backbone(config: BackboneConfig, leads: int, classes: int, length: int) -> nn.Module:
    _check_shares(config, "dropout")
    return BackboneNet(config, leads, classes, length)


def _check_counts(config: Any, *options: str) -> None:
    for option in options:
        if getattr(config, option) < 1:
            raise ConfigError(f"--model.{option} {getattr(config, option)} must be 1 or more")


def _check_shares(config: Any, *options: str) -> None:
    for option in options:
        if not 0 <= getattr(config, option) < 1:
            raise ConfigError(f"--model.{option} {getattr(config, option)} must be 0 or more and below 1")
