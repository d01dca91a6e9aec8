"""What can be said of the options before any image is read."""

from __future__ import annotations

import math

from core.errors import ConfigError
from core.train.distributed import environment_world
from tasks.detection.config import (
    AugmentConfig,
    DetectionConfig,
    DetPredictConfig,
    DetScoringConfig,
    InferenceConfig,
    SSDLiteConfig,
)

LARGEST = {"hue": 90, "saturation": 255, "value": 255}


def check_image_size(size: int, option: str = "--image_size") -> None:
    """Raises ``ConfigError`` unless the strides of a network divide a size."""
    if size < 64 or size % 32:
        raise ConfigError(f"{option} {size} must be a multiple of 32, 64 or more")


def check_training(config: DetectionConfig) -> None:
    """Raises ``ConfigError`` for an option that no training can use."""
    check_image_size(config.image_size)
    _check_augment(config.augment)
    if config.train.patience and not config.train.validate_every:
        raise ConfigError(
            f"--train.patience {config.train.patience} needs --train.validate_every: the steps from one mAP to the "
            "next, such as those of an epoch"
        )
    share = config.train.batch_size // environment_world().size
    if isinstance(config.model, SSDLiteConfig) and share < 2:
        raise ConfigError(
            f"--train.batch_size {config.train.batch_size}: the norms of ssdlite need 2 images or more in each process"
        )


def _check_augment(augment: AugmentConfig) -> None:
    for name in ("mosaic", "flip", "flip_vertical", "mixup"):
        _check_share(getattr(augment, name), f"--augment.{name}")
    low_high = augment.scale
    if len(low_high) != 2 or not 0 < low_high[0] <= low_high[1] < math.inf:
        raise ConfigError(
            f"--augment.scale {low_high} must be the smallest and the largest factor, such as [0.5, 2]"
        )
    if len(augment.hsv) != 3 or not all(
        0 <= shift <= largest for shift, largest in zip(augment.hsv, LARGEST.values(), strict=True)
    ):
        limits = ", ".join(f"{name} up to {largest}" for name, largest in LARGEST.items())
        raise ConfigError(f"--augment.hsv {augment.hsv} must be three largest shifts: {limits}")
    if augment.cache < 0 or 0 < augment.cache < 4:
        raise ConfigError(f"--augment.cache {augment.cache} must be 4 or more, or 0 for all images")
    if augment.plain_epochs is not None and augment.plain_epochs < 0:
        raise ConfigError(f"--augment.plain_epochs {augment.plain_epochs} must be 0 or more")


def check_inference(config: InferenceConfig, group: str) -> None:
    """Raises ``ConfigError`` for an option that no search can use.

    Args:
        config: Of predict or of scoring.
        group: ``scoring``, or nothing where the options stand alone.
    """
    front = f"--{group}." if group else "--"
    shares = ["iou"]
    shares += ["score"] if isinstance(config, DetScoringConfig | DetPredictConfig) else []
    shares += ["confidence"] if isinstance(config, DetScoringConfig) else []
    for name in shares:
        _check_share(getattr(config, name), front + name)
    for name in ("max_detections", "batch"):
        if getattr(config, name) < 1:
            raise ConfigError(f"{front}{name} {getattr(config, name)} must be 1 or more")
    if config.tile and config.tile < 32:
        raise ConfigError(f"{front}tile {config.tile} must be 32 pixels or more, or 0 for whole images")
    if not 0 <= config.overlap <= 0.9:
        raise ConfigError(f"{front}overlap {config.overlap} must lie from 0 to 0.9")
    if isinstance(config, DetScoringConfig) and config.bootstrap < 0:
        raise ConfigError(f"{front}bootstrap {config.bootstrap} must be 0 or more")
    if isinstance(config, DetPredictConfig):
        if config.every < 1:
            raise ConfigError(f"--every {config.every} must be 1 or more")
        if config.image_size is not None:
            check_image_size(config.image_size)


def _check_share(value: float, option: str) -> None:
    if not 0 <= value <= 1:
        raise ConfigError(f"{option} {value} must lie between 0 and 1")
