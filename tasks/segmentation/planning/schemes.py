"""Which normalisation a channel gets, by its name."""

from __future__ import annotations

from collections.abc import Sequence

from core.errors import ConfigError
from core.registry import nearest

CLASSES = {
    "ct": "CTNormalization",
    "zscore": "ZScoreNormalization",
    "rescale_to_0_1": "RescaleTo01Normalization",
    "rgb_to_0_1": "RGBTo01Normalization",
    "none": "NoNormalization",
}
"""Our names of nnU-Net's classes."""
SCHEMES = (*CLASSES, "clahe")
_CHANNELS = {"nonorm": "none", **{name: name for name in CLASSES if name != "none"}}
MASKED_BELOW = 0.75
"""Median share left by the crop, below which zero counts as "outside" and is not normalised with the rest."""


def schemes_of(channels: Sequence[str], chosen: Sequence[str] | None) -> tuple[str, ...]:
    """Returns the scheme of each channel.

    Args:
        channels: Names, of which ``CT``, ``noNorm``, ``zscore``, ``rescale_to_0_1`` and ``rgb_to_0_1`` mean one.
        chosen: Schemes that the user wants: one for each channel or one for all.

    Raises:
        ConfigError: A scheme is unknown, or their number is wrong.
    """
    if chosen is None:
        return tuple(_CHANNELS.get(name.casefold(), "zscore") for name in channels)
    for name in chosen:
        if name not in SCHEMES:
            raise ConfigError(
                f"--plan.normalisation: unknown scheme {name!r}.{nearest(name, SCHEMES)} Known: {', '.join(SCHEMES)}"
            )
    if len(chosen) not in (1, len(channels)):
        raise ConfigError(
            f"--plan.normalisation has {len(chosen)} entries for {len(channels)} channels; give one, or one for each"
        )
    return tuple(chosen) if len(chosen) == len(channels) else tuple(chosen) * len(channels)


def masked(scheme: str, relative_size: float) -> bool:
    """Whether a channel is normalised by what is not zero alone; of nnU-Net's schemes only the z-score is."""
    return scheme == "zscore" and relative_size < MASKED_BELOW
