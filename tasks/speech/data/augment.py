"""How training clips are changed at random: speed, gain over frequency, time shift, background noise, SpecAugment."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from core.errors import ConfigError
from tasks.speech.config import DataConfig


def check_augment(config: DataConfig) -> None:
    """Raises ``ConfigError`` for numbers that no augmentation can use."""
    if not 0 <= config.shift < config.duration:
        raise ConfigError(
            f"--data.shift {config.shift} must lie between 0 and the length of a clip, {config.duration} s"
        )
    if not 0 <= config.speed < 1:
        raise ConfigError(f"--data.speed {config.speed} must lie between 0 and 1")
    if not 0 <= config.equaliser < float("inf"):
        raise ConfigError(f"--data.equaliser {config.equaliser} must not be negative")
    for name in ("noise", "volume"):
        if not 0 <= getattr(config, name) <= 1:
            raise ConfigError(f"--data.{name} {getattr(config, name)} must lie between 0 and 1")
    for name in ("variants", "mel_masks", "time_masks", "masks"):
        if getattr(config, name) < 0:
            raise ConfigError(f"--data.{name} {getattr(config, name)} must not be negative")


def check_masks(config: DataConfig, frames: int, features: int) -> None:
    """Raises ``ConfigError`` if a mask may be wider than the features ``(frames, features)`` of a clip."""
    for name, size in (("mel_masks", features), ("time_masks", frames)):
        if getattr(config, name) > size:
            raise ConfigError(
                f"--data.{name} {getattr(config, name)} is wider than the features of a clip; use {size} at most"
            )


def change_speed(wave: np.ndarray, limit: float, rng: np.random.Generator) -> np.ndarray:
    """Plays a clip ``(L,)`` up to ``1 + limit`` times faster or slower, about its middle; its length stays."""
    factor = (1 + limit) ** rng.uniform(-1, 1)
    middle = (len(wave) - 1) / 2
    places = middle + factor * (np.arange(len(wave)) - middle)
    return np.interp(places, np.arange(len(wave)), wave, left=0, right=0).astype(np.float32)


def equalise(wave: np.ndarray, deviation: float, rng: np.random.Generator) -> np.ndarray:
    """Changes the gain of a clip ``(L,)`` at six frequencies by a random number of dB, and linearly between them."""
    spectrum = np.fft.rfft(wave)
    gain = np.interp(np.linspace(0, 5, len(spectrum)), np.arange(6), rng.normal(0, deviation, 6))
    return np.fft.irfft(spectrum * 10 ** (gain / 20), len(wave)).astype(np.float32)


def shift(wave: np.ndarray, limit: int, rng: np.random.Generator) -> np.ndarray:
    """Moves a clip ``(L,)`` by up to ``limit < L`` samples to either side; what moves in is zero."""
    offset = int(rng.integers(-limit, limit + 1))
    moved = np.zeros_like(wave)
    if offset >= 0:
        moved[offset:] = wave[: len(wave) - offset]
    else:
        moved[:offset] = wave[-offset:]
    return moved


def crop(recordings: Sequence[np.ndarray], length: int, rng: np.random.Generator) -> np.ndarray:
    """Returns ``length`` samples from a random place of a random recording; a shorter recording is repeated."""
    recording = recordings[int(rng.integers(len(recordings)))]
    if len(recording) < length:
        recording = np.resize(recording, length)
    start = int(rng.integers(len(recording) - length + 1))
    return recording[start : start + length]


def add_noise(
    wave: np.ndarray, recordings: Sequence[np.ndarray], volume: float, rng: np.random.Generator
) -> np.ndarray:
    """Adds a crop of a recording, times a factor up to ``volume``, to a clip ``(L,)``; clipped to [-1, 1]."""
    noise = crop(recordings, len(wave), rng)
    return np.clip(wave + np.float32(rng.uniform(0, volume)) * noise, -1, 1)


def draw_masks(count: int, widest: int, size: int, rng: np.random.Generator) -> np.ndarray:
    """Returns start and width ``(count, 2)``, int64, of masks on an axis of ``size``; widths from 0 to ``widest``."""
    widths = rng.integers(0, widest + 1, count)
    return np.stack([rng.integers(0, size - widths + 1), widths], 1)


def apply_masks(features: Tensor, mel_masks: Tensor, time_masks: Tensor) -> Tensor:
    """Fills bands and stretches of features with the mean of their clip (SpecAugment, arXiv:1904.08779, section 2).

    Args:
        features: ``(B, T, F)``.
        mel_masks: First feature and width of each band, int64 ``(B, M, 2)``.
        time_masks: First frame and width of each stretch, int64 ``(B, M, 2)``.

    Returns:
        A new tensor ``(B, T, F)``.
    """
    bands, stretches = _covered(mel_masks, features.shape[2]), _covered(time_masks, features.shape[1])
    masked = bands[:, None, :] | stretches[:, :, None]
    return torch.where(masked, features.mean((1, 2), keepdim=True), features)


def _covered(masks: Tensor, size: int) -> Tensor:
    """Which of ``size`` places some mask covers, bool ``(B, size)``."""
    place = torch.arange(size, device=masks.device)
    start, width = masks[..., :1], masks[..., 1:]
    return ((place >= start) & (place < start + width)).any(1)
