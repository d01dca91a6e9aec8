"""How wide the inner layers of an attention slot are."""

from __future__ import annotations

from core.errors import ConfigError


def divisible(width: float, divisor: int = 8, minimum: int = 0, keep: float = 0.9) -> int:
    """Rounds a width to a multiple of ``divisor``, as MobileNetV2 and timm do.

    Args:
        width: Wanted number of channels.
        divisor: The result is a multiple of it.
        minimum: Least result; never below ``divisor``.
        keep: The result is the next multiple if rounding would leave less than this part of ``width``.
    """
    rounded = max(minimum, divisor, int(width + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < keep * width else rounded


def reduced(slot: str, channels: int, ratio: float, divisor: int = 8) -> int:
    """Returns the bottleneck width of a channel gate, ``ratio * channels`` rounded to ``divisor``.

    Raises:
        ConfigError: ``ratio`` is not positive or ``divisor`` is below 1.
    """
    if not ratio > 0:
        raise ConfigError(f"attention {slot!r}: ratio must be above 0, not {ratio}")
    if divisor < 1:
        raise ConfigError(f"attention {slot!r}: divisor must be 1 or more, not {divisor}")
    return divisible(channels * ratio, divisor, keep=0.0)
