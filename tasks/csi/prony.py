"""Prony's method for each delay, shared by the antennas, after Prony-based angular-delay prediction (PAD).

"Addressing the Curse of Mobility in Massive MIMO With Prony-Based Angular-Delay Domain Channel Predictions", Yin, Wang,
Liu and Gesbert, IEEE JSAC 38(12), 2020: the channel is taken to angles and delays, where a bin holds few paths and is a
sum of few complex exponentials over time, whose linear recurrence is fitted to the history and continued. What is here
is not the paper's algorithm, see :func:`prony_angular_delay`.
"""

from __future__ import annotations

import numpy as np

LOADING = 1e-4
"""Penalty of a recurrence, relative to the mean power of its delay; without it noise makes wild recurrences."""
LARGEST = 2.0
"""Most that a prediction may have, relative to the largest value of its history: recurrences can grow without end."""


def prony_angular_delay(history: np.ndarray, horizon: int, order: int) -> np.ndarray:
    """Continues channels; they need nothing but their own history.

    The paper fits a recurrence to each bin of angle and delay; the code of CSI-4CAST fits one to all of them. Here each
    delay has one for all its angles: a cluster of paths has one delay and a few Doppler shifts, and antennas are many
    equations against noise. The discrete Fourier transform over antennas is unitary and would not change such a fit, so
    that only the one over subcarriers is computed.

    Args:
        history: Complex ``(N, A, T, K)``: samples, antennas, reports, subcarriers.
        horizon: Reports to predict.
        order: Exponentials at each delay; at most half of the reports are used.

    Returns:
        complex64 ``(N, A, horizon, K)``.
    """
    reports = history.shape[2]
    order = min(order, reports // 2)
    if not order:  # one report tells nothing of change
        return np.repeat(history[:, :, -1:], horizon, axis=2).astype(np.complex64)
    bins = np.fft.ifft(history.astype(np.complex128), axis=3, norm="ortho").transpose(
        0, 3, 1, 2
    )  # (N, K, A, T)
    windows = np.lib.stride_tricks.sliding_window_view(bins, order + 1, axis=3)
    equations = windows.reshape(*bins.shape[:2], -1, order + 1)
    weights = _recurrence(equations[..., :-1], equations[..., -1:])
    state, steps = bins[..., -order:], []
    limit = LARGEST * np.abs(bins).max(3)
    for _ in range(horizon):
        value = (state * weights[:, :, None]).sum(3)
        value *= limit / np.maximum(np.abs(value), np.maximum(limit, np.finfo(np.float64).tiny))
        steps.append(value)
        state = np.concatenate([state[..., 1:], value[..., None]], 3)
    predicted = np.stack(steps, 2)  # (N, K, horizon, A)
    return np.fft.fft(predicted, axis=1, norm="ortho").transpose(0, 3, 2, 1).astype(np.complex64)


def _recurrence(past: np.ndarray, following: np.ndarray) -> np.ndarray:
    """Solves ``past (..., E, P) @ weights = following (..., E, 1)`` with a penalty; returns ``(..., P)``."""
    order = past.shape[-1]
    adjoint = past.conj().swapaxes(-1, -2)
    gram = adjoint @ past
    power = np.trace(gram, axis1=-2, axis2=-1).real / order
    gram = gram + (LOADING * power + np.finfo(np.float64).tiny)[..., None, None] * np.eye(order)
    return np.linalg.solve(gram, adjoint @ following)[..., 0]
