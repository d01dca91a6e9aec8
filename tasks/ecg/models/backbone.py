"""Any network of the core, in one dimension."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from core.backbones import create_backbone
from core.errors import ConfigError
from tasks.ecg.config import BackboneConfig

DECIDED = {
    "dims": "the task",
    "in_channels": "--data.leads",
    "num_classes": "the labels",
    "rule": "--model.rule",
    "rule_options": "--model.rule_options",
    "head_dropout": "--model.dropout",
}
"""Options of backbones that are not given among the others, and what decides them."""


class BackboneNet(nn.Module):
    """A backbone, dropout and a linear layer.

    A backbone with a rule of its own, such as ``fixup_resnet20_cifar``, keeps it where the rule is ``add``.

    Args:
        config: Name, rule and options of the backbone.
        leads: Leads of the input.
        classes: Classes.
        length: Samples L of the input.

    Raises:
        ConfigError: There is no such backbone, not in one dimension, it has no such option, or the input is too short
            for its strides.
    """

    def __init__(self, config: BackboneConfig, leads: int, classes: int, length: int) -> None:
        super().__init__()
        for option, decides in DECIDED.items():
            if option in config.options:
                raise ConfigError(f"--model.options has {option}, which {decides} decides; take it out")
        own = config.rule == "add" and not config.rule_options
        joined: dict[str, Any] = {} if own else {"rule": config.rule, "rule_options": config.rule_options}
        self.backbone = create_backbone(
            config.backbone, dims=1, in_channels=leads, **joined, **config.options
        )
        self.dropout = nn.Dropout(config.dropout)
        self.output = nn.Linear(self.backbone.num_features, classes)
        self._check(config.backbone, leads, length)

    def forward(self, x: Tensor) -> Tensor:
        """Maps signals ``(B, leads, L)`` to logits ``(B, classes)``."""
        return self.output(self.dropout(self.backbone(x)))

    def _check(self, name: str, leads: int, length: int) -> None:
        """Tries the shapes, without computing anything."""
        shadow = copy.deepcopy(self).to("meta").eval()
        try:
            shadow(torch.empty(1, leads, length, device="meta"))
        except (RuntimeError, ValueError) as error:  # norms raise the second
            reason = str(error).splitlines()[0]
            raise ConfigError(
                f"--model.backbone {name} cannot take {length} samples of {leads} leads ({reason}); try another "
                "backbone, a longer --crop or a higher --data.rate"
            ) from None
