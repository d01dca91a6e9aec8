"""The heart as one dipole that turns: waves of a beat, what changes them, and the twelve leads of it.

Each wave is a Gaussian bell in time along one direction; McSharry et al., "A dynamical model for generating synthetic
electrocardiogram signals", IEEE TBME 50, 2003, has bells in one lead, and Sameni et al., "Multichannel ECG and noise
modeling", EURASIP JASP 2007, in three dimensions. Directions and amplitudes here are chosen by eye.

A dipole is ``(x, y, z)`` in mV: to the left, to the feet, to the back.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

# Dower et al., "Deriving the 12-lead electrocardiogram from four (EASI) electrodes", J. Electrocardiol. 21, 1988: of a
# Frank vectorcardiogram.
_I = (0.632, -0.235, 0.059)
_II = (0.235, 1.066, -0.132)
_CHEST = (
    (-0.515, 0.157, -0.917),
    (0.044, 0.164, -1.387),
    (0.882, 0.098, -1.277),
    (1.213, 0.127, -0.601),
    (1.125, 0.127, -0.086),
    (0.831, 0.076, 0.230),
)
WALLS = {"anterior": (0.3, 0.0, -0.95), "inferior": (0.1, 1.0, 0.0), "lateral": (0.95, -0.2, 0.2)}
"""Where the walls of the left ventricle lie."""


def _potentials() -> np.ndarray:
    first, second = np.array(_I), np.array(_II)
    right_arm = -(first + second) / 3  # the three limbs sum to zero: Wilson's terminal
    return np.array([right_arm, right_arm + first, right_arm + second, *_CHEST])


ELECTRODES = _potentials()
"""``(9, 3)``: potentials of right arm, left arm, left leg, V1 to V6 for a dipole."""
LEADS_OF_ELECTRODES = np.zeros((12, 9))
"""``(12, 9)``: I, II, III, aVR, aVL, aVF, V1 to V6 from those potentials."""
LEADS_OF_ELECTRODES[:6, :3] = [
    (-1, 1, 0),
    (-1, 0, 1),
    (0, -1, 1),
    (1, -0.5, -0.5),
    (-0.5, 1, -0.5),
    (-0.5, -0.5, 1),
]
LEADS_OF_ELECTRODES[6:] = np.hstack([np.full((6, 3), -1 / 3), np.eye(6)])

# Lead I, and aVF at the length that lead I has (Einthoven's triangle).
_FRONTAL = np.array([_I, (np.array(_II) - np.array(_I) / 2) * 2 / np.sqrt(3)])


@dataclass(frozen=True)
class Wave:
    """A bell of the dipole.

    Attributes:
        time: Of its top, s after the top of the R wave.
        width: Standard deviation, s.
        vector: Dipole at its top, mV.
    """

    time: float
    width: float
    vector: tuple[float, float, float]


@dataclass(frozen=True)
class Heart:
    """How one heart beats.

    Attributes:
        conduction: PR interval, s: from the begin of the P wave to that of QRS.
        qt: QT interval at 60 beats a minute, s; it goes with the cube root of the RR interval (Fridericia).
        p: Dipole of the P wave; zero in atrial fibrillation.
        qrs: Waves of depolarisation.
        st: Dipole between QRS and T.
        t: Dipole of the T wave.
    """

    conduction: float
    qt: float
    p: np.ndarray
    qrs: tuple[Wave, ...]
    st: np.ndarray
    t: np.ndarray


def normal_heart(rng: np.random.Generator) -> Heart:
    """Returns a healthy heart: all of them differ."""

    def near(*vector: float) -> tuple[float, float, float]:
        spread = rng.normal(0, 0.15, 3) * np.linalg.norm(vector)
        x, y, z = np.array(vector) + spread
        return float(x), float(y), float(z)

    size, pace = rng.lognormal(0, 0.2), rng.uniform(0.9, 1.15)
    qrs = (
        Wave(-0.026, 0.009, near(-0.14, -0.05, -0.2)),
        Wave(0.0, 0.012, near(0.95, 0.75, 0.3)),
        Wave(0.026, 0.011, near(-0.22, -0.15, 0.75)),
    )
    return Heart(
        conduction=rng.uniform(0.13, 0.19),
        qt=rng.uniform(0.37, 0.43),
        p=np.array(near(0.07, 0.11, 0.0)) * rng.uniform(0.7, 1.3),
        qrs=scaled(
            tuple(replace(wave, time=wave.time * pace, width=wave.width * pace) for wave in qrs), size
        ),
        st=np.array(near(0.01, 0.01, -0.02)),
        t=np.array(near(0.22, 0.17, -0.13)) * rng.uniform(0.7, 1.2),
    )


def scaled(waves: tuple[Wave, ...], factor: float) -> tuple[Wave, ...]:
    """Returns waves with other amplitudes."""
    return tuple(replace(wave, vector=_tuple(factor * np.array(wave.vector))) for wave in waves)


def axis_of(heart: Heart) -> float:
    """Returns the electric axis of QRS in the frontal plane, degrees: 0 is to the left, 90 to the feet."""
    x, y = _FRONTAL @ sum(wave.width * np.array(wave.vector) for wave in heart.qrs)
    return float(np.degrees(np.arctan2(y, x)))


def turned(heart: Heart, axis: float) -> Heart:
    """Returns a heart with another electric axis of QRS, degrees, and a T wave that follows it a little."""
    angle = (axis - axis_of(heart) + 180) % 360 - 180
    qrs = tuple(replace(wave, vector=_tuple(_turn(np.array(wave.vector), angle))) for wave in heart.qrs)
    return replace(heart, qrs=qrs, t=_turn(heart.t, angle / 4))


def right_bundle_branch_block(heart: Heart, rng: np.random.Generator) -> Heart:
    """Returns a heart whose right ventricle comes late: a slow last part to the right and to the front."""
    strength, late = rng.uniform(0.7, 1.2), rng.uniform(0.055, 0.07)
    first = tuple(
        replace(wave, vector=_tuple(np.array(wave.vector) * (0.4 if wave.time > 0.01 else 0.9)))
        for wave in heart.qrs
    )
    last = Wave(late, rng.uniform(0.018, 0.023), _tuple(strength * np.array([-0.6, -0.05, -0.65])))
    return replace(heart, qrs=(*first, last), t=heart.t + strength * np.array([0.1, 0.0, 0.16]))


def left_bundle_branch_block(heart: Heart, rng: np.random.Generator) -> Heart:
    """Returns a heart whose left ventricle comes late: no septal wave, a broad notched R, discordant ST and T."""
    size = float(np.linalg.norm(heart.qrs[1].vector)) * rng.uniform(0.7, 0.95)
    notch, width = rng.uniform(0.05, 0.065), rng.uniform(0.022, 0.028)
    first = np.array([0.6, 0.3, 0.5]) + rng.normal(0, 0.06, 3)
    second = np.array([0.7, 0.2, 0.45]) + rng.normal(0, 0.06, 3)
    qrs = (
        Wave(-0.01, width, _tuple(size * first)),
        Wave(notch - 0.01, width, _tuple(size * second)),
    )
    away = -(first + second) / 2 * size
    return replace(heart, qrs=qrs, st=0.12 * away, t=rng.uniform(0.3, 0.5) * away)


def left_ventricular_hypertrophy(heart: Heart, rng: np.random.Generator, strain: bool) -> Heart:
    """Returns a heart with a thick left ventricle: high QRS to the left and the back; ``strain`` turns ST and T."""
    factor = rng.uniform(1.4, 2.0)
    qrs = tuple(
        replace(wave, vector=_tuple(np.array(wave.vector) * (1 if wave.time < -0.01 else factor)))
        for wave in heart.qrs
    )
    if not strain:
        return replace(heart, qrs=qrs)
    away = np.array([-1.0, -0.3, 0.4]) * rng.uniform(0.7, 1.2)
    return replace(heart, qrs=qrs, st=heart.st + 0.09 * away, t=0.5 * heart.t + 0.3 * away)


def ischaemia(heart: Heart, rng: np.random.Generator, wall: str) -> Heart:
    """Returns a heart with a wall that lacks blood: ST lies low over it, and T turns round."""
    to = np.array(WALLS[wall]) / np.linalg.norm(WALLS[wall])
    t = heart.t - to * (to @ heart.t + rng.uniform(0.08, 0.25))
    return replace(heart, st=heart.st - rng.uniform(0.05, 0.13) * to, t=t)


def dipole(heart: Heart, beats: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Returns the dipole over time.

    Args:
        heart: Its waves.
        beats: Times of the R waves, s, rising; the first and the last may lie outside of ``times``.
        times: ``(n,)``, s.

    Returns:
        ``(n, 3)``, mV.
    """
    interval = np.diff(beats, prepend=2 * beats[0] - beats[1])
    stretch = np.cbrt(np.clip(interval, 0.35, 1.5))
    end = heart.qt * stretch - 0.04  # the QT interval begins some 40 ms before the top of R
    tall = max(wave.time for wave in heart.qrs)
    middle = tall + 0.03 + 0.35 * (end - tall - 0.03)
    total = np.zeros((len(times), 3))
    # The P wave is some 90 ms long.
    total += _bells(times, beats + 0.005 - heart.conduction, 0.02)[:, None] * heart.p
    for wave in heart.qrs:
        total += _bells(times, beats + wave.time, wave.width)[:, None] * np.array(wave.vector)
    total += _bells(times, beats + middle, 0.18 * (end - tall))[:, None] * heart.st
    # T rises slowly and falls faster.
    top = end - 0.085 * stretch
    t = _bells(times, beats + top, 0.038 * stretch)
    t += 0.4 * _bells(times, beats + top - 0.05 * stretch, 0.05 * stretch)
    return total + t[:, None] * heart.t


def _bells(times: np.ndarray, tops: np.ndarray, widths: np.ndarray | float) -> np.ndarray:
    """Sum of Gaussian bells of height 1: ``(n,)``."""
    return np.exp(-0.5 * ((times - tops[:, None]) / np.reshape(widths, (-1, 1))) ** 2).sum(0)


def _turn(vector: np.ndarray, degrees: float) -> np.ndarray:
    """Turns what the frontal leads see of a dipole; depth stays."""
    angle = np.radians(degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    seen = _FRONTAL @ vector
    change = np.linalg.solve(_FRONTAL[:, :2], turn @ seen - seen)
    return vector + np.array([*change, 0.0])


def _tuple(vector: np.ndarray) -> tuple[float, float, float]:
    x, y, z = vector.tolist()
    return x, y, z
