"""Windows of a stream, scored as if each were a recording of its own, without computing shared features again."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from core.errors import ConfigError
from tasks.speech.data.audio import fit

if TYPE_CHECKING:
    from tasks.speech.spotter import Spotter

BATCH = 64
"""Windows that are scored together where so many are there."""


class WindowScorer:
    """Scores the windows of a stream as if each were a recording of its own.

    Window ``k`` begins ``k * hop`` after the start and is as long as the model's clips. Windows share the mel energies
    of their inner frames, which are computed once; frames that reach over an end of a window see its own continuation
    there. What normalises over time (pcen) starts anew in each window. What lies after the last whole window is not
    scored.

    Args:
        spotter: The model.
        hop: Time from one window to the next, s; rounded as :func:`round_hop` does.

    Raises:
        ConfigError: ``hop`` is no time.
    """

    def __init__(self, spotter: Spotter, hop: float) -> None:
        front = spotter.front
        self.spotter, self.length = spotter, spotter.length
        self.frames_apart = check_hop(hop, front.hop, spotter.rate)
        self.hop = self.frames_apart * front.hop
        self.half = front.n_fft // 2
        frames = front.frames(self.length)
        self.inner = frames - 2 * front.edge
        # Which sample stands where in the two continued ends of a window; 0 is none, the first sample is 1.
        numbers = torch.arange(1, self.length + 1, dtype=torch.float64, device=spotter.device)
        padded = F.pad(numbers[None], (self.half, self.half), mode=front.pad)[0].long()
        size = (front.edge - 1) * front.hop + front.n_fft
        right = (frames - front.edge) * front.hop
        ends = torch.cat([padded[:size], padded[right : right + size]])
        self._ends, self._inside = (ends - 1).clamp_min(0), ends > 0
        self._samples = np.zeros(0, np.float32)
        self._first = 0  # place of the first of them in the stream
        self._energies = front.filters.new_zeros(0, front.filters.shape[1])
        self._frame = (
            front.edge
        )  # place of the first of them; frame t of the stream is centred on sample t * hop
        self._window = 0  # windows that were scored

    def feed(self, samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Takes the next samples ``(N,)`` of the stream, at the model's rate.

        Returns:
            End ``(K,)`` in s and scores ``(K, C)`` of each window that they complete.
        """
        parts = [np.zeros((0, len(self.spotter.classes)), np.float32)]
        first, step = self._window, BATCH * self.hop
        for start in range(0, len(samples), step):
            self._samples = np.concatenate(
                [self._samples, samples[start : start + step].astype(np.float32, copy=False)]
            )
            ready = (self._received - self.length) // self.hop + 1 - self._window
            if ready > 0:
                parts.append(self._score(ready))
                self._trim()
        numbers = np.arange(first, self._window)
        return (numbers * self.hop + self.length) / self.spotter.rate, np.concatenate(parts)

    def flush(self) -> tuple[np.ndarray, np.ndarray]:
        """Ends the stream: one that is shorter than a window is scored in the middle of zeros.

        Returns:
            As :meth:`feed`; such a window ends with the stream.
        """
        if self._window or not self._received:
            return self.feed(self._samples[:0])
        self._window = 1
        scores = self.spotter.scores(fit(self._samples, self.length)[None])
        return np.array([self._received / self.spotter.rate]), scores

    @property
    def _received(self) -> int:
        return self._first + len(self._samples)

    def _score(self, count: int) -> np.ndarray:
        """Scores the next windows, whose samples are there."""
        begin = self._window * self.hop - self._first
        samples = torch.from_numpy(self._samples).to(self.spotter.device)
        windows = samples[begin : begin + (count - 1) * self.hop + self.length].unfold(
            0, self.length, self.hop
        )
        if self.inner <= 0:  # no frame can be shared
            self._window += count
            return self.spotter.scores(windows)
        front = self.spotter.front
        ends = (windows[:, self._ends] * self._inside).reshape(2 * count, -1)
        left, right = front.energies(ends).unflatten(0, (count, 2)).unbind(1)
        first = self._window * self.frames_apart + front.edge
        self._window += count
        last = first + (count - 1) * self.frames_apart + self.inner
        self._energies = torch.cat([self._energies, self._new_energies(samples, last)])
        inner = self._energies[first - self._frame : last - self._frame].unfold(
            0, self.inner, self.frames_apart
        )
        features = front.finish(torch.cat([left, inner.transpose(1, 2), right], 1))
        return self.spotter.feature_scores(features)

    def _new_energies(self, samples: Tensor, last: int) -> Tensor:
        """Returns the energies of the frames after those that are kept, up to ``last``."""
        front = self.spotter.front
        begin, end = (
            frame * front.hop - self.half - self._first
            for frame in (self._frame + len(self._energies), last - 1)
        )
        return front.energies(samples[None, begin : end + front.n_fft])[0]

    def _trim(self) -> None:
        """Forgets what no window to come needs."""
        front, energies = self.spotter.front, self._energies
        drop = min(self._window * self.frames_apart + front.edge - self._frame, len(energies))
        following = (
            (self._frame + len(energies)) * front.hop - self.half if self.inner > 0 else self._received
        )
        self._energies, self._frame = energies[drop:].clone(), self._frame + drop
        place = min(self._window * self.hop, following, self._received)
        self._samples, self._first = self._samples[place - self._first :], place


def round_hop(spotter: Spotter, hop: float) -> float:
    """Returns the whole number of frames of the model's features that is nearest to ``hop``, in s; at least one frame.

    Raises:
        ConfigError: ``hop`` is no time.
    """
    step = spotter.front.hop
    return check_hop(hop, step, spotter.rate) * step / spotter.rate


def check_hop(hop: float, samples: int, rate: int) -> int:
    """Returns how many frames of the features, ``samples`` apart, are nearest to ``hop`` seconds; at least one.

    Raises:
        ConfigError: It is not finite and above 0.
    """
    if not 0 < hop < math.inf:
        raise ConfigError(f"--scoring.hop {hop:g} (of predict: --hop) must be a finite time above 0 s")
    return max(round(hop * rate / samples), 1)
