"""A long recording made of clips in noise, with known times, and what a detector finds in it.

The terms, for a recording in which words are spoken at known times:

- The *time of a word* goes from its start to one length of a clip after its end.
- A word is *detected* if an event of that word falls into its time; an event detects one word at most.
- Any other event in the time of a word is a *confusion*: another word was heard, or the same one twice.
- Any other event is a *false alarm*. Its rate is taken over the time that is no word's: noise and unknown words.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tasks.speech.config import UNKNOWN, SpeechScoringConfig
from tasks.speech.data.clips import SpeechData
from tasks.speech.spotter import Spotter
from tasks.speech.streaming import Detector, Event, OperatingPoints, score_stream
from tasks.speech.windows import round_hop

CLIPS = 150
"""Most clips of words, and most clips of unknown words, over all folds."""
ALONE = 3600.0
"""Most noise without a clip at the end, s, over all folds."""
GAPS = (0.5, 2.0)
"""Shortest and longest time between two clips, s."""
VOLUME = 0.1
"""Factor of the noise beside clips: the largest with which they are trained by default."""
PIECE = 10.0
"""Length of a piece of noise, s; the recordings take turns."""
END = (0.96, 0.97, 0.98, 0.985, 0.99, 0.9925, 0.995, 0.9975, 0.999, 0.9995, 0.9999)
THRESHOLDS = (*(i / 40 for i in range(2, 39)), *END)
"""Of the detector; closer together at the end, where the scores of trained networks lie."""


@dataclass
class Scene:
    """A recording with spoken words at known times.

    Attributes:
        audio: ``(N,)`` samples.
        words: Start and end, s, and name of every spoken word, by start.
        seconds: Length of the recording.
    """

    audio: np.ndarray
    words: list[tuple[float, float, str]]
    seconds: float

    @property
    def times(self) -> list[tuple[float, float]]:
        """The time of each word, s."""
        return [(start, min(2 * end - start, self.seconds)) for start, end, _ in self.words]

    @property
    def negative(self) -> float:
        """Seconds that are the time of no word."""
        covered, last = 0.0, 0.0
        for start, until in self.times:
            covered += until - max(start, min(last, until))
            last = max(last, until)
        return self.seconds - covered


@dataclass
class Counts:
    """What a detector found: numbers of events, of words, and hours that are no word's. Folds add up."""

    detected: int = 0
    confusions: int = 0
    false_alarms: int = 0
    words: int = 0
    hours: float = 0.0

    def __add__(self, other: Counts) -> Counts:
        return Counts(*(a + b for a, b in zip(vars(self).values(), vars(other).values(), strict=True)))

    @property
    def recall(self) -> float:
        """Share of the words that were detected; 0 without words."""
        return self.detected / max(1, self.words)

    @property
    def rate(self) -> float:
        """False alarms an hour."""
        return self.false_alarms / self.hours


def compose(
    data: SpeechData,
    clips: np.ndarray,
    noise: Sequence[np.ndarray],
    seed: int,
    folds: int = 1,
    fold: int = 0,
) -> Scene:
    """Places clips of words and of unknown words in noise, in random order; then each recording of noise as it is.

    Args:
        data: The clips.
        clips: ``(K,)`` positions; those of the silence class are left out, since noise is everywhere.
        noise: Recordings at the rate of the data; none for silence.
        seed: Of order, gaps and noise.
        folds: Recordings among which the clips and the noise alone are shared out.
        fold: Which of them this is, from 0.
    """
    rng = np.random.default_rng(seed)
    unknown = data.clips.labels[clips] == (data.classes.index(UNKNOWN) if UNKNOWN in data.classes else -1)
    known = np.isin(data.clips.labels[clips], [data.classes.index(word) for word in data.words])
    most = max(1, CLIPS // folds)
    chosen = np.concatenate([rng.permutation(clips[part])[:most] for part in (known, unknown)])
    rng.shuffle(chosen)
    length = data.clips.waves.shape[1]
    gaps = (rng.uniform(*GAPS, len(chosen)) * data.rate).astype(int)
    starts = length + np.cumsum(gaps) + np.arange(len(chosen)) * length
    spoken_until = int(length + gaps.sum() + len(chosen) * length)
    alone = _alone(noise, int(ALONE * data.rate), folds, fold)
    total = spoken_until + len(alone)
    audio = np.concatenate([_bed(noise, spoken_until, round(PIECE * data.rate), rng), alone])
    spoken = []
    for start, clip in zip(starts.tolist(), chosen.tolist(), strict=True):
        audio[start : start + length] += data.clips.wave(clip)
        name = data.classes[data.clips.labels[clip]]
        if name in data.words:
            spoken.append((start / data.rate, (start + length) / data.rate, name))
    return Scene(np.clip(audio, -1, 1), spoken, total / data.rate)


def _alone(noise: Sequence[np.ndarray], most: int, folds: int, fold: int) -> np.ndarray:
    """The share of a fold of all recordings in a row, of which ``most`` samples at most are shared out."""
    total = min(sum(map(len, noise)), most)
    begin, end = fold * total // folds, (fold + 1) * total // folds
    parts, first = [np.zeros(0, np.float32)], 0
    for recording in noise:
        parts.append(recording[max(begin - first, 0) : max(end - first, 0)])
        first += len(recording)
    return np.concatenate(parts)


def _bed(noise: Sequence[np.ndarray], length: int, piece: int, rng: np.random.Generator) -> np.ndarray:
    bed = np.zeros(length, np.float32)
    if noise:
        for turn, first in enumerate(range(0, length, piece)):
            recording = noise[turn % len(noise)]
            part = bed[first : first + piece]
            offset = int(rng.integers(len(recording)))
            part += VOLUME * np.take(recording, np.arange(offset, offset + len(part)), mode="wrap")
    return bed


def judge(events: Sequence[Event], scene: Scene) -> Counts:
    """Compares the events of a detector, in any order, with what was spoken."""
    result = Counts(words=len(scene.words), hours=scene.negative / 3600)
    found = np.zeros(len(scene.words), bool)
    starts, untils = (np.array([span[i] for span in scene.times]) for i in (0, 1))
    names = np.array([name for _, _, name in scene.words])
    for event in sorted(events, key=lambda e: e.time):
        during = (starts <= event.time) & (event.time <= untils)
        hits = np.flatnonzero(during & (names == event.word) & ~found)
        if len(hits):
            found[hits[0]] = True
        elif during.any():
            result.confusions += 1
        else:
            result.false_alarms += 1
    result.detected = int(found.sum())
    return result


def sweep(
    spotter: Spotter, scene: Scene, scoring: SpeechScoringConfig, thresholds: Sequence[float]
) -> list[Counts]:
    """Runs the detector over a recording once for each threshold; returns what it found."""
    times, scores = score_stream(spotter, scene.audio, scoring.hop)
    hop = round_hop(spotter, scoring.hop)
    # The averages are the same for all thresholds; the detectors below get them as if they were scores.
    count = min(max(1, round(scoring.average / hop)), len(scores))
    means = np.lib.stride_tricks.sliding_window_view(scores.astype(np.float64), count, axis=0).mean(-1)
    times, best = times[count - 1 :], means[:, spotter.word_indices].max(1)
    found = []
    for threshold in thresholds:
        detector = Detector(spotter.classes, threshold, hop, scoring.refractory, hop)
        # Of windows below the threshold that follow each other, the first tells the detector all.
        hot = best >= threshold
        told = hot | np.append(True, hot[:-1])
        found.append(judge(detector.update(times[told], means[told]), scene))
    return found


def operating_points(thresholds: Sequence[float], counts: Sequence[Counts], source: str) -> OperatingPoints:
    """Returns what each threshold finds and costs; ``source`` says on what."""
    return OperatingPoints(
        list(thresholds), [c.recall for c in counts], [c.rate for c in counts], counts[0].hours, source
    )
