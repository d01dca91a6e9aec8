"""Windows of records: where they begin, and how what a network says about them becomes one answer a record."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from tasks.ecg.config import Pool

POOL: Pool = "max"
"""How the probabilities of windows become one where nothing is asked for."""


def stride_of(stride: float | None, length: int, rate: int) -> int:
    """Returns the samples from one window to the next, at least 1; half a window of ``length`` for ``None``.

    Args:
        stride: Time from one window to the next, s.
        length: Samples of a window.
        rate: Sampling rate, Hz.
    """
    return max(1, length // 2 if stride is None else round(stride * rate))


def window_starts(samples: int, length: int, stride: int) -> np.ndarray:
    """Returns the first sample of each window ``(W,)``, int64.

    The last window ends with the record, so that it is closer to the one before where the stride does not fit. A
    record that is shorter than a window has one, from its first sample on.
    """
    if samples <= length:
        return np.zeros(1, np.int64)
    starts = np.arange(0, samples - length + 1, stride)
    return starts if starts[-1] == samples - length else np.append(starts, samples - length)


def cut(signal: np.ndarray, starts: np.ndarray, length: int) -> np.ndarray:
    """Returns windows ``(W, leads, length)`` of a signal ``(leads, samples)``; zeros follow a short one."""
    missing = length - signal.shape[1]
    if missing > 0:
        signal = np.pad(signal, ((0, 0), (0, missing)))
    views = np.lib.stride_tricks.sliding_window_view(signal, length, axis=1)
    return views[:, starts].transpose(1, 0, 2)


def window_counts(signals: Sequence[np.ndarray], length: int, stride: int) -> np.ndarray:
    """Returns the number of windows of each signal ``(leads, samples)``, int64 ``(N,)``."""
    return np.array([len(window_starts(s.shape[1], length, stride)) for s in signals], np.int64)


def batches(signals: Sequence[np.ndarray], length: int, stride: int, size: int) -> Iterator[np.ndarray]:
    """Yields the windows of all signals in order, ``(up to size, leads, length)``; records may share a batch."""
    waiting: list[np.ndarray] = []
    count = 0
    for signal in signals:
        starts = window_starts(signal.shape[1], length, stride)
        while len(starts):
            taken, starts = starts[: size - count], starts[size - count :]
            waiting.append(cut(signal, taken, length))
            count += len(taken)
            if count == size:
                yield np.concatenate(waiting)
                waiting, count = [], 0
    if waiting:
        yield np.concatenate(waiting)


def pool(values: np.ndarray, counts: np.ndarray, how: str) -> np.ndarray:
    """Returns one row a record.

    Args:
        values: ``(W, C)``, the windows of the first record, then of the second, and so on.
        counts: Windows of each record ``(N,)``, all 1 or more, with sum ``W``.
        how: ``max`` or ``mean``.

    Returns:
        ``(N, C)`` in the type of ``values``.
    """
    if not len(counts):
        return values[:0]
    first = np.cumsum(counts) - counts
    if how == "max":
        return np.maximum.reduceat(values, first, axis=0)
    sums = np.add.reduceat(values, first, axis=0, dtype=np.float64)
    return (sums / counts[:, None]).astype(values.dtype)
