"""Options that can be checked before any channel is made or read."""

from __future__ import annotations

import math

from core.errors import ConfigError
from tasks.csi.config import CsiScoringConfig


def check_scoring(config: CsiScoringConfig) -> None:
    """Raises ``ConfigError`` if an option of the scoring is wrong."""
    if not math.isfinite(config.snr):
        raise ConfigError(f"--scoring.snr {config.snr} must be a number of dB")
    for option in ("batch", "order"):
        if getattr(config, option) < 1:
            raise ConfigError(f"--scoring.{option} {getattr(config, option)} must be 1 or more")
    if not 0 <= config.ridge < math.inf:
        raise ConfigError(f"--scoring.ridge {config.ridge} must be 0 or more")
