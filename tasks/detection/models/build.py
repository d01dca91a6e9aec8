"""From the configuration of a model to a network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from core.errors import ConfigError
from core.registry import Registry
from tasks.detection.config import RTMDetBaseConfig, RTMDetConfig, RTMDetInsConfig, SSDLiteConfig
from tasks.detection.models.reference import load_backbone_weights
from tasks.detection.models.rtmdet import RTMDet, RTMDetBase
from tasks.detection.models.rtmdet_ins import RTMDetIns

BUILDERS: Registry[Callable[[Any, int], nn.Module]] = Registry("detection network")


def build_network(config: RTMDetBaseConfig | SSDLiteConfig, classes: int) -> nn.Module:
    """Returns a new network.

    All have ``forward`` (normalised images ``(B, 3, H, W)`` to raw outputs), ``decode`` (raw outputs to boxes
    ``(B, P, 4)`` in pixels of the input and scores ``(B, P, classes)``), and ``pixels``, ``mean``, ``std`` and
    ``size_multiple``, which say what the input has to be.

    Args:
        config: One of the configurations in ``tasks.detection.config.MODELS``.
        classes: Number of classes.

    Raises:
        ConfigError: An option is wrong.
        DataError: Weights cannot be read or do not fit.
    """
    return BUILDERS[config.name](config, classes)


@BUILDERS.register("rtmdet")
def _rtmdet(config: RTMDetConfig, classes: int) -> nn.Module:
    return _with_weights(
        RTMDet(config.size, classes, exp_on_reg=config.exp_on_reg, **_shared(config)), config
    )


@BUILDERS.register("rtmdet_ins")
def _rtmdet_ins(config: RTMDetInsConfig, classes: int) -> nn.Module:
    return _with_weights(RTMDetIns(config.size, classes, **_shared(config)), config)


@BUILDERS.register("ssdlite")
def _ssdlite(config: SSDLiteConfig, classes: int) -> nn.Module:
    if config.rule != "add" or config.rule_options:
        raise ConfigError(
            f"--model.rule {config.rule}: ssdlite is torchvision's network as it is; take rtmdet, or leave the rule add"
        )
    from tasks.detection.models.ssdlite import SSDLite, load_mobilenet

    network = SSDLite(classes)
    if config.backbone_weights is not None:
        load_mobilenet(network, config.backbone_weights)
    return network


def _shared(config: RTMDetBaseConfig) -> dict[str, Any]:
    """Returns the options that both kinds of RTMDet have."""
    names = ("backbone", "backbone_options", "rule", "rule_options", "pixels")
    return {name: getattr(config, name) for name in names}


def _with_weights(network: RTMDetBase, config: RTMDetBaseConfig) -> RTMDetBase:
    if config.backbone_weights is not None:
        load_backbone_weights(network.backbone, config.backbone_weights)
    return network
