"""Building backbones by name."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from core.backbones.backbone import Backbone, FeaturesOnly
from core.backbones.spec import Spec
from core.registry import Registry, check_options


@dataclass(frozen=True)
class Preset:
    """A named backbone: its family and what distinguishes it."""

    model: type[Backbone]
    spec: Spec


BACKBONES: Registry[Preset] = Registry("backbone")


def register_backbones(model: type[Backbone], presets: dict[str, Spec]) -> None:
    """Enters named backbones of one family."""
    for name, spec in presets.items():
        BACKBONES.register(name)(Preset(model, spec))


def list_backbones(pattern: str = "*") -> list[str]:
    """Returns the names that match a shell pattern, such as ``resnet*``."""
    return fnmatch.filter(BACKBONES, pattern)


def backbone_options(name: str) -> dict[str, Any]:
    """Returns the options of a backbone and their values for this name.

    Raises:
        ConfigError: There is no such backbone.
    """
    spec = BACKBONES[name].spec
    return {option.name: getattr(spec, option.name) for option in fields(spec)}


def create_backbone(
    name: str,
    *,
    dims: int = 2,
    in_channels: int = 3,
    num_classes: int | None = None,
    **options: Any,
) -> Backbone:
    """Builds a backbone with random weights.

    Args:
        name: One of :func:`list_backbones`.
        dims: 1 for signals, 2 for images, 3 for volumes.
        in_channels: Channels of the input.
        num_classes: Classes of the head; ``None`` gives pooled features ``(B, C)``.
        **options: Any field of the family's spec: ``rule, rule_options, norm, act, attention, drop_path, init``
            and the rest, see :func:`backbone_options`.

    Raises:
        ConfigError: The name or an option is unknown, or a value is out of range.
    """
    preset = BACKBONES[name]
    given = check_options(f"backbone {name!r}", backbone_options(name), options)
    return preset.model(
        replace(preset.spec, dims=dims, in_channels=in_channels, num_classes=num_classes, **given)
    )


def create_features(name: str, out_indices: Sequence[int] | None = None, **options: Any) -> FeaturesOnly:
    """Builds a backbone whose output is a list of features, as ``timm.create_model(features_only=True)``.

    Args:
        name: One of :func:`list_backbones`.
        out_indices: Which features to return; all by default.
        **options: As :func:`create_backbone`.

    Raises:
        ConfigError: As :func:`create_backbone`, or an index is out of range.
    """
    return FeaturesOnly(create_backbone(name, **options), out_indices)
