"""Numbers that describe a record without a network: heart rate, the mean beat of each lead, axis and power."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.ndimage import gaussian_filter1d
from scipy.signal import butter, find_peaks, sosfiltfilt

BEFORE, AFTER = 0.34, 0.46
"""What a beat has on both sides of the middle of its QRS complex, s."""
MOST = 100
"""Beats of a record that are averaged."""
BANDS = ((0.5, 4.0), (4.0, 9.0), (9.0, 20.0), (20.0, 40.0))
"""In which the power of a lead is measured, Hz."""
WAVES = {
    "early": (-0.06, -0.02),
    "qrs": (-0.08, 0.08),
    "late": (0.03, 0.09),
    "st": (0.09, 0.14),
    "t": (0.16, 0.44),
    "p": (-0.30, -0.11),
}
"""Parts of a beat, s after the middle of its QRS complex."""
PEAKED = ("qrs", "t", "p")
"""Those with a highest and a lowest value."""
LEVEL = (-0.11, -0.07)
"""Where a beat is taken as zero, between P wave and QRS complex, s."""
RHYTHM = ("beats", "rate", "rr_deviation", "rr_rmssd", "rr_ratio")
SHAPE = ("qrs_width", "p_time", "p_share", "beat_deviation", "between_beats", "axis_cos", "axis_sin")


def feature_names(leads: Sequence[str]) -> list[str]:
    """Names the values of :func:`record_features`."""
    waves = [*WAVES, *(f"{wave}_{end}" for wave in PEAKED for end in ("high", "low"))]
    powers = [f"power_{low:g}_{high:g}" for low, high in BANDS]
    each = [*waves, "deviation", "low", "high", *powers]
    return [*RHYTHM, *SHAPE, *(f"{lead}/{name}" for name in each for lead in leads)]


def record_features(signal: np.ndarray, rate: int, leads: Sequence[str]) -> np.ndarray:
    """Describes a record by the values that :func:`feature_names` names, ``(F,)``; all are finite.

    Times are s, amplitudes mV, rates beats per minute. Without a beat, what is measured on beats is 0. Leads that are
    zero have zeros.

    Args:
        signal: ``(leads, samples)`` in mV.
        rate: Sampling rate, Hz.
        leads: Names of the leads; I and aVF give the axis.
    """
    signal = signal.astype(float)
    beats = find_beats(signal, rate)
    beat, spread = _mean_beat(signal, beats, rate)
    return np.concatenate(
        [_rhythm(beats, rate), _shape(beat, spread, rate, leads), _waves(beat, rate), _leads(signal, rate)]
    )


def find_beats(signal: np.ndarray, rate: int) -> np.ndarray:
    """Finds the middle of each QRS complex: where the leads together have most power from 5 to 15 Hz.

    Args:
        signal: ``(leads, samples)``.
        rate: Sampling rate, Hz.

    Returns:
        Positions, samples, at least a quarter of a second apart.
    """
    band = [min(5.0, 0.1 * rate), min(15.0, 0.4 * rate)]
    sections = butter(2, band, "bandpass", fs=rate, output="sos")
    passed = sosfiltfilt(sections, signal, padlen=min(rate, signal.shape[1] - 1))
    energy = gaussian_filter1d(np.sqrt((passed**2).mean(0)), 0.04 * rate)
    # The largest value of every two seconds is that of a beat, at 30 or more beats a minute.
    length = min(2 * rate, len(energy))
    blocks = energy[: len(energy) // length * length].reshape(-1, length)
    least = 0.4 * np.median(blocks.max(1))
    return find_peaks(energy, height=max(least, 1e-6), distance=max(1, round(0.25 * rate)))[0]


def _mean_beat(signal: np.ndarray, beats: np.ndarray, rate: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the median over the beats and the median distance from it, both ``(leads, length)``."""
    before, after = round(BEFORE * rate), round(AFTER * rate)
    if not len(beats):
        nothing = np.zeros((len(signal), before + after))
        return nothing, nothing
    chosen = beats[:: -(-len(beats) // MOST)]
    padded = np.pad(signal, ((0, 0), (before, after)), mode="edge")
    cut = padded[:, chosen[:, None] + np.arange(before + after)]
    cut = cut - cut[:, :, _part(LEVEL, rate)].mean(2, keepdims=True)
    beat = np.median(cut, 1)
    return beat, np.median(np.abs(cut - beat[:, None]), 1)


def _part(times: tuple[float, float], rate: int) -> slice:
    """Returns which samples of a beat lie between two times, at least one."""
    start = round((BEFORE + times[0]) * rate)
    return slice(start, max(start + 1, round((BEFORE + times[1]) * rate)))


def _rhythm(beats: np.ndarray, rate: int) -> np.ndarray:
    values = np.zeros(len(RHYTHM))
    values[0] = len(beats)
    if len(beats) > 1:
        gaps = np.diff(beats) / rate
        mean = gaps.mean()
        steps = np.diff(gaps) if len(gaps) > 1 else np.zeros(1)
        values[1:] = 60 / mean, gaps.std() / mean, np.sqrt((steps**2).mean()) / mean, gaps.max() / gaps.min()
    return values


def _shape(beat: np.ndarray, spread: np.ndarray, rate: int, leads: Sequence[str]) -> np.ndarray:
    speed = np.sqrt((np.gradient(beat, axis=1) ** 2).mean(0))
    size = np.sqrt((beat**2).mean(0))
    complexes, early = _part((-0.13, 0.13), rate), _part(WAVES["p"], rate)
    fast = speed[complexes] > 0.15 * speed[complexes].max(initial=0)
    width = np.ptp(np.flatnonzero(fast)) / rate if fast.any() else 0.0
    # Above the line between its ends: the T wave of the beat before may still be falling.
    atrial = beat[:, early] - np.linspace(
        beat[:, early.start], beat[:, early.stop - 1], early.stop - early.start, axis=1
    )
    p_time = BEFORE - (early.start + np.sqrt((atrial**2).mean(0)).argmax()) / rate
    highest = size.max() or 1.0
    axis = np.zeros(2)
    if "I" in leads and "aVF" in leads:
        area = beat[:, _part(WAVES["qrs"], rate)].mean(1)
        # aVF is an augmented lead, 2/sqrt(3) shorter than I.
        axis = np.array([area[leads.index("I")], area[leads.index("aVF")] * 2 / np.sqrt(3)])
        axis = axis / (np.linalg.norm(axis) or 1.0)
    noise = np.sqrt((spread**2).mean(0))
    return np.array(
        [width, p_time, size[early].max() / highest, noise.mean(), noise[early].mean() / highest, *axis]
    )


def _waves(beat: np.ndarray, rate: int) -> np.ndarray:
    parts = {name: beat[:, _part(times, rate)] for name, times in WAVES.items()}
    means = [part.mean(1) for part in parts.values()]
    ends = [extreme for name in PEAKED for extreme in (parts[name].max(1), parts[name].min(1))]
    return np.concatenate([*means, *ends])


def _leads(signal: np.ndarray, rate: int) -> np.ndarray:
    power = np.abs(np.fft.rfft(signal - signal.mean(1, keepdims=True))) ** 2 / signal.shape[1] ** 2
    hertz = np.fft.rfftfreq(signal.shape[1], 1 / rate)
    # In microvolts, so that the logarithm is near 0 for what cannot be seen.
    bands = [np.log1p(1e6 * power[:, (hertz >= low) & (hertz < high)].sum(1)) for low, high in BANDS]
    low, high = np.quantile(signal, [0.01, 0.99], axis=1)
    return np.concatenate([signal.std(1), low, high, *bands])
