"""Pretrained weights that timm downloads."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import nn

from core.backbones.backbone import Backbone
from core.backbones.cspnext import CSPNeXt
from core.backbones.load import load_weights
from core.backbones.registry import BACKBONES, create_backbone
from core.backbones.weights import adapt_input, inflate
from core.errors import ConfigError, DataError


def _cspnext(key: str) -> str:
    """Renames a layer: timm counts stages from 0 and has a head, ours are called as in mmdetection."""
    stage = re.match(r"stages\.(\d+)\.", key)
    return f"stage{int(stage[1]) + 1}.{key[stage.end() :]}" if stage else key.replace("head.fc.", "fc.")


OWN_NAMES: dict[type[Backbone], Callable[[str], str]] = {CSPNeXt: _cspnext}
"""Families whose layers are not called as in timm, and our name of a layer of timm's."""


def load_timm(
    name: str,
    *,
    dims: int = 2,
    in_channels: int = 3,
    num_classes: int | Literal["own"] | None = "own",
    **options: Any,
) -> Backbone:
    """Builds a backbone with the weights that timm downloads.

    Every weight of timm's is used, but for the classifier: with another number of classes it starts at random.
    What ``options`` add beyond timm's network, the weights of a rule or of an attention, starts as always.

    Args:
        name: Name in timm, with or without a tag: ``resnet50`` or ``resnet50.a1_in1k``. What stands before the
            dot has to be one of :func:`core.backbones.list_backbones`.
        dims: 1 and 3 inflate the weights, see :func:`inflate`.
        in_channels: Channels of the input; other numbers than 3 change the first layer, see :func:`adapt_input`.
        num_classes: Classes of the head; ``own`` keeps timm's head, ``None`` gives pooled features.
        **options: As :func:`core.backbones.create_backbone`.

    Raises:
        ConfigError: timm is not installed, has no such network or no weights for it, or an option is wrong.
        DataError: The download failed, or the weights do not fit the options.
    """
    ours = name.partition(".")[0]
    preset = BACKBONES[ours]  # before anything is downloaded
    theirs = _timm_model(name)
    own: int = theirs.num_classes  # type: ignore[assignment]
    shape: dict[str, Any] = {"dims": dims, "in_channels": in_channels, **options}
    model = create_backbone(ours, num_classes=own if num_classes == "own" else num_classes, **shape)
    rename = OWN_NAMES.get(preset.model, str)
    state = {rename(key): weight for key, weight in theirs.state_dict().items()}
    state = adapt_input(inflate(state, dims), in_channels)
    new = {".rule."} if model.spec.rule != preset.spec.rule else set()
    new |= {".se.", ".attention."} if model.spec.attention != preset.spec.attention else set()
    mine = {key: weight.shape for key, weight in model.state_dict().items()}
    with torch.device("meta"):
        like_theirs = create_backbone(ours, num_classes=own, **shape).state_dict()
    head = {key for key, weight in like_theirs.items() if mine.get(key) != weight.shape}
    state = {key: weight for key, weight in state.items() if key not in head}
    state |= {key: w for key, w in model.state_dict().items() if key in head or any(n in key for n in new)}
    return load_weights(model, state, source=f"timm's {name}")


def _timm_model(name: str) -> nn.Module:
    try:
        import timm
    except ImportError:
        raise ConfigError(f"{name}: timm is not installed; run pip install 'skipway[backbones]'") from None
    if not timm.is_model(name):
        raise ConfigError(f"timm {timm.__version__} has no network {name!r}; take create_backbone instead")
    try:
        return timm.create_model(name, pretrained=True)
    except Exception as error:  # timm, its hub client and the network raise many kinds
        reason = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise DataError(
            f"timm's weights {name!r} did not arrive ({reason}); check the network and the tag, or load a file "
            "with load_weights"
        ) from error
