"""How training crops are changed at random. Leads that a record does not have stay zeros, as they are at test."""

from __future__ import annotations

import numpy as np

from tasks.ecg.config import AugmentConfig

SLOW, FAST = 0.05, 0.5
"""Frequencies of a wandering baseline, Hz: electrodes and breathing."""


def crop(signal: np.ndarray, length: int, rng: np.random.Generator) -> np.ndarray:
    """Returns a copy ``(leads, length)`` of a random stretch of ``(leads, samples)``; zeros follow a short record."""
    samples = signal.shape[1]
    if samples <= length:
        return np.pad(signal, ((0, 0), (0, length - samples)))
    start = int(rng.integers(samples - length + 1))
    return signal[:, start : start + length].copy()


def augment(
    signal: np.ndarray, present: np.ndarray, config: AugmentConfig, rate: int, rng: np.random.Generator
) -> np.ndarray:
    """Returns a changed copy of a crop.

    Args:
        signal: ``(leads, samples)`` in mV, float32.
        present: ``(leads,)`` bool: the lead is there.
        config: What is changed, and how much.
        rate: Sampling rate, Hz.
        rng: The only source of randomness.
    """
    changed = signal.astype(np.float32)
    if config.scale:
        changed *= np.float32(1 + rng.uniform(-config.scale, config.scale))
    if config.wander:
        changed += wander(signal.shape, config.wander, rate, rng)
    if config.noise:
        changed += np.float32(config.noise) * rng.standard_normal(signal.shape, np.float32)
    kept = present & kept_leads(present, config.lead_dropout, rng) if config.lead_dropout else present
    changed[~kept] = 0
    return changed


def wander(shape: tuple[int, ...], limit: float, rate: int, rng: np.random.Generator) -> np.ndarray:
    """Returns a slow sine for each lead, float32 ``(leads, samples)``, with an amplitude up to ``limit`` mV."""
    leads, samples = shape
    amplitude = rng.uniform(0, limit, (leads, 1))
    frequency, phase = rng.uniform(SLOW, FAST, (leads, 1)), rng.uniform(0, 2 * np.pi, (leads, 1))
    time = np.arange(samples) / rate
    return (amplitude * np.sin(2 * np.pi * frequency * time + phase)).astype(np.float32)


def kept_leads(present: np.ndarray, probability: float, rng: np.random.Generator) -> np.ndarray:
    """Returns which leads ``(leads,)`` stay, bool; of those that are present, one always does."""
    kept = rng.random(len(present)) >= probability
    if present.any() and not (kept & present).any():
        kept[rng.choice(np.flatnonzero(present))] = True
    return kept
