"""Any network of the core on features over time and frequency."""

from __future__ import annotations

from torch import Tensor, nn

from core.backbones.choice import build_choice, check_input
from core.errors import ConfigError
from tasks.speech.config import BackboneConfig

DECIDED = {
    "dims": "--model.dims",
    "in_channels": "the features",
    "num_classes": "the words",
}
"""Options of backbones that are not given among the others, and what decides them."""


class BackboneNet(nn.Module):
    """A backbone and a linear layer.

    With 2 dims a recording is an image of one channel, frames by features; with 1 dim it is a signal whose channels are
    the features. A backbone with a rule of its own, such as ``fixup_resnet20_cifar``, keeps it where the rule is
    ``add``.

    Args:
        config: Name, dims, rule and options of the backbone.
        frames: Frames T of a recording.
        features: Features F of a frame.
        classes: Number of classes.

    Attributes:
        output: The last layer, from pooled features to logits.

    Raises:
        ConfigError: There is no such backbone, it has no such option or not these dims, or the features are too few
            for its strides.
    """

    def __init__(self, config: BackboneConfig, frames: int, features: int, classes: int) -> None:
        super().__init__()
        if config.dims not in (1, 2):
            raise ConfigError(
                f"--model.dims {config.dims} must be 1, features as channels, or 2, time and frequency"
            )
        self.dims = config.dims
        self.backbone = build_choice(config, config.dims, features if config.dims == 1 else 1, DECIDED)
        self.output = nn.Linear(self.backbone.num_features, classes)
        check_input(
            self,
            (1, frames, features),
            f"--model.backbone {config.backbone} with --model.dims {self.dims} cannot take {frames} frames of "
            f"{features} features",
            "try another backbone, more features or longer clips",
        )

    def embed(self, features: Tensor) -> Tensor:
        """Maps features ``(B, T, F)`` to pooled features ``(B, D)``."""
        return self.backbone(features.transpose(1, 2) if self.dims == 1 else features.unsqueeze(1))

    def forward(self, features: Tensor) -> Tensor:
        """Maps features ``(B, T, F)`` to logits ``(B, classes)``."""
        return self.output(self.embed(features))
