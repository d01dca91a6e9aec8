"""Any network of the core, in one dimension."""

from __future__ import annotations

from torch import Tensor, nn

from core.backbones.choice import build_choice, check_input
from tasks.ecg.config import BackboneConfig

DECIDED = {
    "dims": "the task",
    "in_channels": "--data.leads",
    "num_classes": "the labels",
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
        self.backbone = build_choice(config, 1, leads, DECIDED)
        self.dropout = nn.Dropout(config.dropout)
        self.output = nn.Linear(self.backbone.num_features, classes)
        check_input(
            self,
            (1, leads, length),
            f"--model.backbone {config.backbone} cannot take {length} samples of {leads} leads",
            "try another backbone, a longer --crop or a higher --data.rate",
        )

    def forward(self, x: Tensor) -> Tensor:
        """Maps signals ``(B, leads, L)`` to logits ``(B, classes)``."""
        return self.output(self.dropout(self.backbone(x)))
