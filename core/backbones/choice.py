"""A backbone that a configuration names: built with its rule, and tried on the shapes of the data."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import nn

from core.backbones.backbone import Backbone
from core.backbones.registry import create_backbone
from core.errors import ConfigError


class BackboneChoice(Protocol):
    """What the options of a model say of its backbone."""

    backbone: str
    rule: str
    rule_options: dict[str, Any]
    options: dict[str, Any]


def build_choice(config: BackboneChoice, dims: int, in_channels: int, decided: Mapping[str, str]) -> Backbone:
    """Builds the backbone that a configuration names, without a head.

    One with a rule of its own, such as ``fixup_resnet20_cifar``, keeps it where the rule is ``add``.

    Args:
        config: Name, rule and further options.
        dims: 1, 2 or 3.
        in_channels: Channels of the input.
        decided: Options of backbones that may not stand among the further ones, and what decides them.

    Raises:
        ConfigError: There is no such backbone, it has no such option or not these dims.
    """
    decided = {"rule": "--model.rule", "rule_options": "--model.rule_options", **decided}
    for option, decides in decided.items():
        if option in config.options:
            raise ConfigError(f"--model.options has {option}, which {decides} decides; take it out")
    own = config.rule == "add" and not config.rule_options
    joined: dict[str, Any] = {} if own else {"rule": config.rule, "rule_options": config.rule_options}
    return create_backbone(config.backbone, dims=dims, in_channels=in_channels, **joined, **config.options)


def check_input(network: nn.Module, shape: tuple[int, ...], what: str, advice: str) -> None:
    """Tries the shape of an input on a network, without computing anything.

    Args:
        network: It stays as it is.
        shape: Of a batch of one.
        what: What cannot take what, for the message.
        advice: What to do, for the message.

    Raises:
        ConfigError: The network cannot take it.
    """
    shadow = copy.deepcopy(network).to("meta").eval()
    try:
        shadow(torch.empty(shape, device="meta"))
    except (RuntimeError, ValueError) as error:  # norms raise the second
        raise ConfigError(f"{what} ({str(error).splitlines()[0]}); {advice}") from None
