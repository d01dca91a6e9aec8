"""Disturbances of histories: those of CSI-4CAST's robustness tests (``src/noise/noise.py`` of its code)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from core.errors import ConfigError

BURST_LENGTH = 10
"""Reports that a burst lasts."""
NAMED_DEGREES = {
    "phase": {10.0: 0.32, 15.0: 0.18, 20.0: 0.10, 25.0: 0.056},
    "burst": {10.0: 0.29, 15.0: 0.16, 20.0: 0.09, 25.0: 0.054},
}
"""Degrees that the authors found for signal-to-noise ratios in dB (``src/noise/results/decide_nd.json``)."""


@dataclass(frozen=True)
class Disturbance:
    """What happens to a history before a predictor sees it.

    Attributes:
        kind: clean, awgn, phase, burst or drop.
        degree: Signal-to-noise ratio in dB for awgn, standard deviation in rad for phase, the authors' degree for
            burst, probability for drop; 0 for clean.
        name: For tables and names of metrics, such as ``awgn_10dB``, ``phase_0.1``, ``burst_10dB``.
    """

    kind: str
    degree: float
    name: str


CLEAN = Disturbance("clean", 0.0, "clean")


def parse_disturbance(text: str) -> Disturbance:
    """Reads ``clean``, ``awgn:10`` (dB), ``phase:0.1``, ``burst:0.1``, ``drop:0.1``, or ``burst:10dB``.

    Raises:
        ConfigError: The kind or the degree is wrong.
    """
    if text == "clean":
        return CLEAN
    kind, _, value = text.partition(":")
    option = f"--data.test_noise {text!r}"
    if kind not in _KINDS:
        raise ConfigError(f"{option}: give clean or one of {', '.join(f'{name}:DEGREE' for name in _KINDS)}")
    if not value:
        raise ConfigError(f"{option}: give a degree, as {kind}:{'10' if kind == 'awgn' else '0.1'}")
    in_decibel = value.endswith("dB")
    try:
        degree = float(value.removesuffix("dB"))
    except ValueError:
        raise ConfigError(f"{option}: {value!r} is not a number; give {kind}:DEGREE") from None
    if not math.isfinite(degree):
        raise ConfigError(f"{option}: {value!r} is not a finite number")
    if kind == "awgn":
        return Disturbance(kind, degree, f"awgn_{degree:g}dB")
    if in_decibel:
        known = NAMED_DEGREES.get(kind)
        if known is None:
            raise ConfigError(f"{option}: {kind} has no degree in dB; give a probability such as {kind}:0.1")
        if degree not in known:
            raise ConfigError(f"{option}: in dB {kind} is known for {', '.join(f'{snr:g}' for snr in known)}")
        return Disturbance(kind, known[degree], f"{kind}_{degree:g}dB")
    greatest, what = _GREATEST[kind]
    if not 0 < degree <= greatest:
        raise ConfigError(f"{option}: {what} must lie between 0 and {greatest:g}")
    return Disturbance(kind, degree, f"{kind}_{degree:g}")


def add_noise(history: np.ndarray, snr: float, generator: np.random.Generator) -> np.ndarray:
    """Adds complex white Gaussian noise to one sample.

    The authors take the power of a whole data set; the power here is the sample's own, so that a sample is
    disturbed in the same way whatever else is loaded. The channels' mean powers are near 1, so both nearly agree.

    Args:
        history: complex64 ``(antennas, reports, subcarriers)``.
        snr: Signal-to-noise ratio, dB.
        generator: Source of the noise.
    """
    deviation = np.float32(_root_mean_square(history) * 10 ** (-snr / 20) / math.sqrt(2))
    return history + deviation * _standard_complex(history.shape, generator)


def disturb(
    history: np.ndarray, disturbance: Disturbance, seed: int, ids: Sequence[int] | np.ndarray
) -> np.ndarray:
    """Disturbs samples, each by random numbers of its own.

    A sample's random numbers depend on the seed, the kind and its id alone: not on the other samples, and not on the
    degree, so that all degrees of a kind scale the same draws.

    Args:
        history: complex64 ``(samples, antennas, reports, subcarriers)``; not changed.
        disturbance: Kind and degree.
        seed: Seed.
        ids: Number of each sample, 0 or more.

    Returns:
        complex64 of the same shape.
    """
    if disturbance.kind == "clean":
        return history
    apply, place = _KINDS[disturbance.kind], list(_KINDS).index(disturbance.kind)
    result = np.empty_like(history)
    for i, number in enumerate(ids):
        result[i] = apply(history[i], disturbance.degree, np.random.default_rng((seed, place, int(number))))
    return result


def _shift_phase(history: np.ndarray, degree: float, generator: np.random.Generator) -> np.ndarray:
    """Turns every value by a Gaussian angle of its own; ``degree`` is its standard deviation in rad."""
    angle = np.float32(degree) * generator.standard_normal(history.shape, dtype=np.float32)
    return history * np.exp(1j * angle)


def _add_burst(history: np.ndarray, degree: float, generator: np.random.Generator) -> np.ndarray:
    """Adds noise whose deviation over ten reports is a bell of height ``2 degree``, from a start anywhere.

    The waiting time until a burst is geometric with probability ``2 degree``; without one before the history ends,
    nothing is added. The authors disturb standardised channels, so that the height is in units of the deviation of
    the real or the imaginary part; here it is that of the sample.
    """
    reports = history.shape[1]
    # The authors' waiting time starts at -1: failures before the first success, less one.
    happens = generator.geometric(min(2 * degree, 1.0)) - 2 < reports
    start = int(generator.integers(reports))
    if not happens:
        return history
    length = min(BURST_LENGTH, reports - start)
    bell = np.exp(-0.5 * _span(length) ** 2)
    height = np.float32(2 * degree * _root_mean_square(history) / math.sqrt(2))
    noise = _standard_complex((history.shape[0], length, history.shape[2]), generator)
    result = history.copy()
    result[:, start : start + length] += height * bell[:, None].astype(np.float32) * noise
    return result


def _drop(history: np.ndarray, degree: float, generator: np.random.Generator) -> np.ndarray:
    """Sets each report of all antennas to 0 with probability ``degree``."""
    kept = np.asarray(generator.random(history.shape[1]) >= degree, np.float32)
    return history * kept[:, None]


def _span(length: int) -> np.ndarray:
    """Returns ``length`` places from -1 to 1; a single one is -1, as torch.linspace has it."""
    return np.linspace(-1, 1, length)


def _root_mean_square(history: np.ndarray) -> float:
    return math.sqrt(np.mean(np.abs(history) ** 2, dtype=np.float64))


def _standard_complex(shape: tuple[int, ...], generator: np.random.Generator) -> np.ndarray:
    return generator.standard_normal((*shape, 2), dtype=np.float32).view(np.complex64)[..., 0]


_KINDS: dict[str, Callable[[np.ndarray, float, np.random.Generator], np.ndarray]] = {
    "awgn": add_noise,
    "phase": _shift_phase,
    "burst": _add_burst,
    "drop": _drop,
}
_GREATEST = {
    "phase": (math.pi, "the standard deviation in rad"),
    "burst": (0.5, "the degree (twice it is a probability)"),
    "drop": (1.0, "the probability"),
}
