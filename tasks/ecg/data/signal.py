"""Another sampling rate, and filters; both keep the phase."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from scipy.signal import butter, filtfilt, iirnotch, resample_poly, sosfiltfilt

from core.errors import ConfigError

ORDER = 2
"""Of the Butterworth filters; twice as steep, since they run forward and backward."""
QUALITY = 30.0
"""Of the notch: its centre over its width at -3 dB."""

_TERM = 5000  # largest numerator or denominator of a ratio of rates
_SETTLES = 2.0  # periods of the lowest corner that a record is continued for at both ends


def resample(signal: np.ndarray, source: float, target: float) -> np.ndarray:
    """Brings a signal to another rate by a polyphase filter that removes what the lower rate cannot hold.

    The line through the ends is kept as it is, so that an electrode's offset leaves no trace at them.

    Args:
        signal: ``(leads, samples)``.
        source: Its rate, Hz.
        target: The wanted rate, Hz.

    Returns:
        Float32 ``(leads, round(samples * target / source))``, at least one sample.
    """
    if source == target:
        return signal.astype(np.float32)
    ratio = (Fraction(target) / Fraction(source)).limit_denominator(_TERM)
    up, down = (ratio or Fraction(1, _TERM)).as_integer_ratio()
    length = max(1, round(signal.shape[-1] * target / source))
    result = resample_poly(signal.astype(np.float64), up, down, axis=-1, padtype="line")
    lacking = length - result.shape[-1]  # more than none only where the ratio was rounded
    if lacking > 0:
        result = np.pad(result, ((0, 0), (0, lacking)), mode="edge")
    return np.ascontiguousarray(result[:, :length], dtype=np.float32)


def filtered(
    signal: np.ndarray, rate: float, highpass: float = 0.0, lowpass: float = 0.0, notch: float = 0.0
) -> np.ndarray:
    """Filters a signal forward and backward, so that no wave is shifted.

    At the ends it is continued as in a mirror, so that a wave that is cut there does not shift the baseline.

    Args:
        signal: ``(leads, samples)``.
        rate: Its rate, Hz.
        highpass: Corner at -6 dB of a Butterworth filter against baseline wander, Hz; 0 is off.
        lowpass: The same against muscle noise.
        notch: Mains frequency, Hz; 0 is off.

    Returns:
        Float32 ``(leads, samples)``.

    Raises:
        ConfigError: A corner is negative or not below half the sampling rate, or highpass is not below lowpass.
    """
    for option, corner in (("highpass", highpass), ("lowpass", lowpass), ("notch", notch)):
        if not 0 <= corner < rate / 2:
            raise ConfigError(
                f"--data.{option} {corner:g} must lie between 0 and {rate / 2:g} Hz, half the sampling rate of a record"
            )
    if 0 < lowpass <= highpass:
        raise ConfigError(f"--data.highpass {highpass:g} must be below --data.lowpass {lowpass:g}")
    result = signal.astype(np.float64)
    for corner, kind in ((highpass, "highpass"), (lowpass, "lowpass")):
        if corner:
            sections = butter(ORDER, corner, kind, fs=rate, output="sos")
            result = sosfiltfilt(
                sections, result, axis=-1, padtype="even", padlen=_padding(signal, rate, corner)
            )
    if notch:
        b, a = iirnotch(notch, QUALITY, fs=rate)
        result = filtfilt(
            b, a, result, axis=-1, padtype="even", padlen=_padding(signal, rate, notch / QUALITY)
        )
    return result.astype(np.float32)


def _padding(signal: np.ndarray, rate: float, corner: float) -> int:
    return min(signal.shape[-1] - 1, round(_SETTLES * rate / corner))
