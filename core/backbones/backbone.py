"""What every backbone offers: features of all stages as a method, their geometry as data, and a head."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from core.backbones.spec import Spec
from core.errors import ConfigError
from core.residual.init import initialise


@dataclass(frozen=True)
class FeatureInfo:
    """Geometry of the features that a stage returns.

    Attributes:
        channels: C.
        reduction: Factor by which the spatial axes are smaller than the input's; one an axis where they differ.
        module: Name of the module whose output it is.
    """

    channels: int
    reduction: int | tuple[int, ...]
    module: str


class Backbone(nn.Module, ABC):
    """A residual network; families define its stages.

    Attributes:
        spec: What it was built from.
        feature_info: Geometry of each stage's features, in the order of :meth:`forward_features`.
        stem_info: Geometry of the stem's features; ``None`` where the first stage follows at once.
        num_features: Channels of the pooled features.
    """

    folds: ClassVar[tuple[tuple[str, str], ...]] = ()
    """Pairs (convolution, norm) of which the second reads nothing but the first, see ``core.compress.folding``."""

    head_modules: ClassVar[tuple[str, ...]] = ("fc",)
    """Modules that only :meth:`forward_head` uses, see :meth:`remove_head`."""

    feature_info: list[FeatureInfo]
    stem_info: FeatureInfo | None = None
    num_features: int

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        self.spec = spec

    @abstractmethod
    def forward_features(self, x: Tensor, stem: bool = False) -> list[Tensor]:
        """Returns the features of every stage, ``(B, C_i, *spatial / reduction_i)`` as ``feature_info`` says.

        Args:
            x: Input ``(B, in_channels, *spatial)``.
            stem: Put the stem's features first, where the backbone has ``stem_info``.
        """

    @abstractmethod
    def forward_head(self, x: Tensor) -> Tensor:
        """Maps the last features to logits ``(B, num_classes)``, or to pooled features ``(B, C)``."""

    def forward(self, x: Tensor) -> Tensor:
        """Maps ``(B, in_channels, *spatial)`` to logits, or to pooled features without ``num_classes``."""
        return self.forward_head(self.forward_features(x)[-1])

    def remove_head(self) -> None:
        """Takes off what only :meth:`forward_head` uses, which would get no gradient where features are read."""
        for name in self.head_modules:
            self.set_submodule(name, nn.Identity())

    def initialise(self) -> None:
        """Sets the weights as the spec says; families call it once all layers exist."""
        initialise(self, self.spec.init, self.spec.zero_init_last)


class FeaturesOnly(nn.Module):
    """A backbone without its head whose output is a list of features, as with timm's ``features_only``.

    The indices count the stem's features first where there are any, so that for the families of timm index,
    channels and values are timm's.

    Args:
        backbone: The backbone; its head is taken off.
        out_indices: Which features to return, in this order; negative ones count from the end. Default all.

    Raises:
        ConfigError: An index is out of range.
    """

    def __init__(self, backbone: Backbone, out_indices: Sequence[int] | None = None) -> None:
        super().__init__()
        stem = [backbone.stem_info] if backbone.stem_info else []
        info = stem + backbone.feature_info
        chosen = range(len(info)) if out_indices is None else out_indices
        for index in chosen:
            if not -len(info) <= index < len(info):
                raise ConfigError(
                    f"out_indices: {index} is not one of the {len(info)} features, 0 to {len(info) - 1}"
                )
        backbone.remove_head()
        self.backbone = backbone
        self.indices = [index % len(info) for index in chosen]
        self.feature_info = [info[index] for index in self.indices]

    def forward(self, x: Tensor) -> list[Tensor]:
        """Returns the chosen features of ``(B, in_channels, *spatial)``."""
        features = self.backbone.forward_features(x, stem=True)
        return [features[index] for index in self.indices]
