"""Options that can be checked before any record is read, and whether there is anything to score."""

from __future__ import annotations

import math

import numpy as np

from core.errors import ConfigError, DataError
from tasks.ecg.config import DataConfig, EcgConfig, EcgScoringConfig, WindowConfig
from tasks.ecg.data.dataset import EcgData
from tasks.ecg.measures import both_kinds


def check_windows(config: WindowConfig, group: str) -> None:
    """Raises ``ConfigError`` if windows cannot be cut as asked; ``group`` is ``scoring`` or empty."""
    prefix = f"--{group}." if group else "--"
    if config.stride is not None and not 0 < config.stride < math.inf:
        raise ConfigError(f"{prefix}stride {config.stride} must be a time above 0 s")
    if config.batch < 1:
        raise ConfigError(f"{prefix}batch {config.batch} must be 1 or more")
    threshold = getattr(config, "threshold", None)
    if isinstance(threshold, float | int) and not 0 <= threshold <= 1:
        raise ConfigError(f"{prefix}threshold {threshold} must lie between 0 and 1")


def check_scoring(config: EcgScoringConfig) -> None:
    """Raises ``ConfigError`` if an option of the scoring is wrong."""
    check_windows(config, "scoring")
    if config.bootstrap < 0:
        raise ConfigError(f"--scoring.bootstrap {config.bootstrap} must be 0 or more")


def check_training(config: EcgConfig) -> None:
    """Raises ``ConfigError`` if an option of the training is wrong."""
    if not 0 < config.crop < math.inf:
        raise ConfigError(f"--crop {config.crop} must be a time above 0 s")
    if round(config.crop * config.data.rate) < 8:
        raise ConfigError(f"--crop {config.crop} s at --data.rate {config.data.rate} Hz is under 8 samples")
    train = config.train
    if not 0 <= train.focusing < math.inf:
        raise ConfigError(f"--train.focusing {train.focusing} must be 0 or more")
    if not 0 <= train.margin < 1:
        raise ConfigError(f"--train.margin {train.margin} must lie between 0 and 1")
    for option in ("scale", "lead_dropout", "mixup"):
        if not 0 <= getattr(config.data, option) <= 1:
            raise ConfigError(f"--data.{option} {getattr(config.data, option)} must lie between 0 and 1")
    for option in ("noise", "wander"):
        if not 0 <= getattr(config.data, option) < math.inf:
            raise ConfigError(f"--data.{option} {getattr(config.data, option)} must be 0 mV or more")


def check_test(data: EcgData) -> None:
    """Raises ``DataError`` if no class can be scored."""
    tested = data.labels[np.concatenate([fold.test for fold in data.folds])]
    if not both_kinds(tested).any():
        raise DataError(
            f"{data.name}: no class has both positive and negative records among the {len(tested)} that are tested; "
            "give more records, or see --data.test_share"
        )


def check_prepared(model: DataConfig, given: DataConfig, data: EcgData) -> None:
    """Raises ``ConfigError`` if records are brought into another form than that of a model's training.

    Args:
        model: Options of the data that the model was trained with.
        given: Those of the records.
        data: The records.
    """
    if data.leads != model.leads:
        raise ConfigError(
            f"--data.leads {data.leads}: the model was trained with {model.leads}; leave it off"
        )
    for option in ("rate", "centre", "highpass", "lowpass", "notch"):
        known, asked = getattr(model, option), getattr(given, option)
        if known != asked:
            raise ConfigError(
                f"--data.{option} {asked}: the model was trained with {known}; leave the option off"
            )
