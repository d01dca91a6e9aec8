"""Options of the channels that can be checked before any is made or read."""

from __future__ import annotations

import math
from itertools import product
from typing import TypeVar

from core.errors import ConfigError
from tasks.csi.config import ChannelConfig, DataConfig
from tasks.csi.data.dataset import Condition
from tasks.csi.data.disturb import parse_disturbance

MODELS = ("A", "B", "C", "D", "E")
T = TypeVar("T")


def check_data(config: DataConfig) -> None:
    """Raises ``ConfigError`` if an option is wrong."""
    check_channel(config)
    for option, least in (("samples", 0), ("test_samples", 1), ("workers", 0), ("seed", 0)):
        if getattr(config, option) < least:
            raise ConfigError(f"--data.{option} {getattr(config, option)} must be {least} or more")
    if not 0 <= config.validation_share < 1:
        raise ConfigError(f"--data.validation_share {config.validation_share} must lie between 0 and 1")
    if len(config.snr) != 2 or not -math.inf < config.snr[0] <= config.snr[1] < math.inf:
        raise ConfigError(f"--data.snr {config.snr} must be two numbers of dB, the lower one first")
    names = [parse_disturbance(text).name for text in config.test_noise]
    if not names or len({*names}) < len(names):
        raise ConfigError(f"--data.test_noise {config.test_noise} must name disturbances, each once")


def check_channel(config: ChannelConfig) -> None:
    """Raises ``ConfigError`` if an option of the panel, the band or the reports is wrong."""
    for option in ("rows", "columns", "subcarriers", "period", "history", "horizon"):
        if getattr(config, option) < 1:
            raise ConfigError(f"--data.{option} {getattr(config, option)} must be 1 or more")
    if config.gap < 0:
        raise ConfigError(f"--data.gap {config.gap} must be 0 or more")
    for option in ("spacing", "carrier"):
        if not 0 < getattr(config, option) < math.inf:
            raise ConfigError(f"--data.{option} {getattr(config, option)} must be a number of Hz above 0")


def conditions_of(config: DataConfig, part: str) -> list[Condition]:
    """Returns all combinations of models, delay spreads and speeds of a part, train or test.

    Raises:
        ConfigError: One of the lists is wrong.
    """
    models, option = _chosen(config.models, config.test_models, "models", part)
    if unknown := [model for model in models if model not in MODELS]:
        raise ConfigError(f"{option}: there is no CDL model {unknown[0]!r}; they are {', '.join(MODELS)}")
    spreads, option = _chosen(config.delay_spreads, config.test_delay_spreads, "delay_spreads", part)
    for spread in spreads:
        if not 0 < spread < math.inf or spread != round(spread):
            raise ConfigError(f"{option} {spread:g} must be a whole number of ns above 0")
    speeds, option = _chosen(config.speeds, config.test_speeds, "speeds", part)
    for speed in speeds:
        if not 0 <= speed < math.inf or not math.isclose(speed, round(speed, 3)):
            raise ConfigError(f"{option} {speed} must be 0 m/s or more, with three decimals at most")
    return [Condition(*values) for values in product(models, spreads, speeds)]


def _chosen(values: list[T], test_values: list[T] | None, name: str, part: str) -> tuple[list[T], str]:
    """Returns a part's list and its option."""
    option = f"--data.{name}"
    if part == "test" and test_values is not None:
        values, option = test_values, f"--data.test_{name}"
    if not values or len({*values}) < len(values):
        raise ConfigError(f"{option} {values} must hold different values, at least one")
    return values, option
