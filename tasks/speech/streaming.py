"""From audio that arrives in blocks to events: which word was heard, and when."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from core.errors import ConfigError
from tasks.speech.config import SILENCE, UNKNOWN, SpeechScoringConfig
from tasks.speech.windows import WindowScorer

if TYPE_CHECKING:
    from tasks.speech.spotter import Spotter

UNCALIBRATED = 0.5
"""Threshold of models that do not say what thresholds cost."""


def check_scoring(scoring: SpeechScoringConfig, prefix: str = "--scoring.") -> None:
    """Checks how a stream is listened to.

    Args:
        scoring: Times and budget.
        prefix: Of the options in what is said.

    Raises:
        ConfigError: One of them is out of its range.
    """
    if not 0 < scoring.hop < math.inf:
        raise ConfigError(f"{prefix}hop {scoring.hop:g} must be a finite time above 0 s")
    for name in ("average", "refractory", "false_alarms"):
        value = getattr(scoring, name)
        if not 0 <= value < math.inf:
            raise ConfigError(f"{prefix}{name} {value:g} must be finite and not negative")


def trained_scoring(spotter: Spotter) -> SpeechScoringConfig:
    """Returns how the model was listened to when its thresholds were measured; the defaults if it does not say."""
    return SpeechScoringConfig(**spotter.metadata.get("options", {}).get("scoring", {}))


def trained_otherwise(spotter: Spotter, scoring: SpeechScoringConfig) -> str:
    """Names the times of the training that ``scoring`` has otherwise: "hop 0.1 s, average 0.3 s"; empty without any."""
    trained = spotter.metadata.get("options", {}).get("scoring", {})
    times = {name: trained[name] for name in ("hop", "average", "refractory") if name in trained}
    return ", ".join(f"{name} {time:g} s" for name, time in times.items() if time != getattr(scoring, name))


def score_stream(
    spotter: Spotter, audio: np.ndarray | Iterable[np.ndarray], hop: float
) -> tuple[np.ndarray, np.ndarray]:
    """Scores all windows of a recording.

    Args:
        spotter: The model.
        audio: Samples ``(N,)`` at the model's rate, or blocks of them in turn.
        hop: Time from one window to the next, s; rounded to whole frames of the features.

    Returns:
        End ``(K,)`` in s and scores ``(K, C)`` of each window.

    Raises:
        ConfigError: ``hop`` is no time.
    """
    scorer = WindowScorer(spotter, hop)
    parts = [scorer.feed(block) for block in ([audio] if isinstance(audio, np.ndarray) else audio)]
    times, scores = zip(*parts, scorer.flush(), strict=True)
    return np.concatenate(times), np.concatenate(scores)


@dataclass(frozen=True)
class Event:
    """A word that was heard.

    Attributes:
        time: End of the window at which its smoothed score reached the threshold, s.
        word: The word.
        score: Its smoothed score then.
    """

    time: float
    word: str
    score: float


class Detector:
    """Turns the scores of windows into events.

    Scores are averaged over the last windows; before so many were seen there is no event. The best word is heard when
    its average reaches the threshold, at most one word at a time. The same word is heard again when its average was
    below the threshold in between and ``refractory`` has passed.

    Args:
        classes: Names of the classes; silence and unknown are never heard.
        threshold: Least average score of an event.
        average: Time over which scores are averaged, s; at least one window is.
        refractory: Least time between two events of a word, s.
        hop: Time from one window to the next, s; the true one, see :func:`tasks.speech.windows.round_hop`.
    """

    def __init__(
        self, classes: Sequence[str], threshold: float, average: float, refractory: float, hop: float
    ) -> None:
        self.classes, self.threshold, self.refractory = list(classes), threshold, refractory
        self.count = max(1, round(average / hop))
        self._words = np.array([name not in (SILENCE, UNKNOWN) for name in classes])
        self._armed = np.ones(len(classes), bool)
        self._last = np.full(len(classes), -np.inf)
        self._recent = np.zeros((0, len(classes)))
        self._waiting = True  # for the first full average
        self._time = 0.0

    def update(self, times: np.ndarray, scores: np.ndarray) -> list[Event]:
        """Takes the next windows: ends ``(K,)`` in s and scores ``(K, C)``; returns what is heard at them."""
        if not len(times):
            return []
        self._time = float(times[-1])
        joined = np.concatenate([self._recent, scores])
        self._recent = joined[max(len(joined) - self.count + 1, 0) :]
        if len(joined) < self.count:
            return []
        self._waiting = False
        means = np.lib.stride_tricks.sliding_window_view(joined, self.count, axis=0).mean(-1)
        return [
            event
            for time, mean in zip(times[-len(means) :], means, strict=True)
            if (event := self._step(float(time), mean)) is not None
        ]

    def finish(self) -> list[Event]:
        """Ends the stream; one that is shorter than the average is judged by the windows that it has."""
        if not self._waiting or not len(self._recent):
            return []
        event = self._step(self._time, self._recent.mean(0))
        self._waiting = False
        return [] if event is None else [event]

    def _step(self, time: float, mean: np.ndarray) -> Event | None:
        best = int(np.where(self._words, mean, -np.inf).argmax())
        # The tolerance is far below any hop: sums of hops are not exact.
        rested = time - self._last[best] >= self.refractory - 1e-9
        heard = self._words[best] and mean[best] >= self.threshold and self._armed[best] and rested
        self._armed |= mean < self.threshold
        if not heard:
            return None
        self._armed[best], self._last[best] = False, time
        return Event(time, self.classes[best], float(mean[best]))


@dataclass
class OperatingPoints:
    """What thresholds of the detector find and what they cost.

    Attributes:
        thresholds: In ascending order.
        recall: Share of the words that is detected at each, 0 to 1.
        false_alarms: False alarms an hour at each.
        hours: Length of the audio without words that these were counted on, h.
        source: What they were measured on, in words.
    """

    thresholds: list[float]
    recall: list[float]
    false_alarms: list[float]
    hours: float
    source: str

    def choose(self, budget: float) -> float:
        """Returns the lowest threshold from which on no false alarms an hour exceed ``budget``, or else the highest.

        A very low threshold can have few, since a score that never falls below it gives one event.
        """
        over = np.flatnonzero(np.array(self.false_alarms) > budget)
        return self.thresholds[min(over[-1] + 1, len(self.thresholds) - 1) if len(over) else 0]

    def recall_at(self, threshold: float) -> float:
        """Returns the share of the words that is detected, interpolated between the thresholds measured."""
        return float(np.interp(threshold, self.thresholds, self.recall))

    def false_alarms_at(self, threshold: float) -> float:
        """Returns the false alarms an hour, interpolated between the thresholds measured."""
        return float(np.interp(threshold, self.thresholds, self.false_alarms))

    def doubt(self, budget: float) -> str:
        """Says why the threshold for ``budget`` may have more false alarms an hour; empty where nothing says so."""
        if self.false_alarms_at(self.choose(budget)) > budget:
            return f"no threshold keeps to {budget:g} an hour"
        if self.hours * budget < 1:
            return (
                f"{self.hours:.2g} h are too short to tell {budget:g} an hour: more noise (--data.noise_path), or a "
                "larger budget, or --threshold"
            )
        return ""
