"""The table of attention slots, one file and one line a slot, and how to build one by name.

A slot maps features ``(B, C, *spatial)`` to features of the same shape. Blocks put it after their last
normalisation, before drop path and the residual rule.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from core import nd
from core.errors import ConfigError
from core.registry import Registry, check_options, keyword_options
from core.residual.attention.balanced import BalancedAttention
from core.residual.attention.cbam import ConvBlockAttention
from core.residual.attention.channel import ChannelAttention
from core.residual.attention.coord import CoordinateAttention
from core.residual.attention.eca import EfficientChannelAttention
from core.residual.attention.ese import EffectiveSqueezeExcite
from core.residual.attention.residual import ResidualAttention
from core.residual.attention.se import SqueezeExcite
from core.residual.attention.split import SplitAttention, SplitAttentionSlot

__all__ = ["ATTENTION", "SplitAttention", "attention_options", "create_attention", "list_attention"]

ATTENTION: Registry[type[nn.Module]] = Registry("attention")

ATTENTION.register("none")(nn.Identity)
ATTENTION.register("se")(SqueezeExcite)
ATTENTION.register("ese")(EffectiveSqueezeExcite)
ATTENTION.register("eca")(EfficientChannelAttention)
ATTENTION.register("channel")(ChannelAttention)
ATTENTION.register("cbam")(ConvBlockAttention)
ATTENTION.register("coord")(CoordinateAttention)
ATTENTION.register("balanced")(BalancedAttention)
ATTENTION.register("residual")(ResidualAttention)
ATTENTION.register("split")(SplitAttentionSlot)


def list_attention() -> list[str]:
    """Returns the names of all attention slots."""
    return list(ATTENTION)


def attention_options(name: str) -> dict[str, Any]:
    """Returns the options of a slot and their defaults.

    Raises:
        ConfigError: There is no such slot.
    """
    return keyword_options(ATTENTION[name])


def create_attention(
    name: str,
    channels: int,
    dims: int,
    *,
    norm: str | None = None,
    act: str | None = None,
    **options: Any,
) -> nn.Module:
    """Builds an attention slot, which maps ``(B, C, *spatial)`` to the same shape.

    Args:
        name: One of :func:`list_attention`.
        channels: C.
        dims: Spatial axes, 1 to 3.
        norm: The block's normalisation; slots without one ignore it. ``None`` keeps the slot's default.
        act: The block's activation; slots whose activation is fixed by their paper ignore it.
        **options: The slot's own options, see :func:`attention_options`.

    Raises:
        ConfigError: The slot or an option is unknown, or a value, ``channels`` or ``dims`` is out of range.
    """
    known = attention_options(name)
    nd.check_dims(dims)
    if channels < 1:
        raise ConfigError(f"channels of attention {name!r} must be 1 or more, not {channels}")
    shared = {"norm": norm, "act": act}
    options |= {option: value for option, value in shared.items() if value is not None and option in known}
    return ATTENTION[name](channels, dims, **check_options(f"attention {name!r}", known, options))
