"""``predict --stream``: events of files, of standard input and of a microphone, as lines of JSON."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable
from contextlib import nullcontext
from pathlib import Path
from typing import TextIO

import numpy as np

from core.errors import ConfigError, SkipwayError
from core.files import make_folder
from tasks.speech.config import SpeechPredictConfig
from tasks.speech.data.audio import RATES, stream_blocks
from tasks.speech.sources import LIVE, list_recordings, live_blocks
from tasks.speech.spotter import Spotter
from tasks.speech.streaming import Detector, Event
from tasks.speech.windows import WindowScorer, check_hop

BLOCK = 10.0
"""Length of the blocks in which files are read, s: windows enough to be scored together."""
UNCALIBRATED = 0.5
"""Threshold for models that do not say what thresholds cost."""


def listen(spotter: Spotter, config: SpeechPredictConfig) -> list[str]:
    """Writes an event for each word that is heard in ``config.input``.

    A line is ``{"time": 3.2, "start": 2.2, "word": "cat", "score": 0.97}``: the window from ``start`` to ``time``, in
    seconds of the stream, at which the averaged score of the word reached the threshold, and that score. ``"file"``
    comes first where the input is a folder. Each line is written at once. A live input ends with its stream or
    with an interrupt, any input when the reader of standard output goes away; none of these is an error.

    Returns:
        One line for each file that could not be used; with ``strict`` the first one is raised instead.

    Raises:
        ConfigError: An option is wrong, the output is a folder or an input, or there is no microphone.
        DataError: The file cannot be used, or the folder holds no recording.
    """
    assert config.input is not None
    check(spotter, config)
    listener = Listener(spotter, config)
    source, live = Path(config.input), config.input in LIVE
    files = [] if live else list_recordings(source)
    blocks = live_blocks(config.input, config.rate, spotter.rate, config.hop) if live else iter(())
    to_stdout = config.output in (None, "-")
    print(listener.said, file=sys.stderr)
    try:
        with nullcontext(sys.stdout) if to_stdout else _create(Path(str(config.output)), files) as sink:
            if not live:
                return _follow_files(listener, source, files, sink, config.strict)
            try:
                listener.follow(blocks, sink)
            except KeyboardInterrupt:
                print("stopped", file=sys.stderr)
            return []
    except BrokenPipeError:
        if not to_stdout:
            raise
        # The reader has seen enough. What is still buffered must not fail again when the process ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return []


class Listener:
    """A model with the options of ``predict``.

    Args:
        spotter: The model.
        config: The options.

    Attributes:
        said: What its threshold is and costs, one line.
    """

    def __init__(self, spotter: Spotter, config: SpeechPredictConfig) -> None:
        self.spotter, self.config = spotter, config
        self.duration = spotter.length / spotter.rate
        self.threshold, self.said = choose_threshold(spotter, config)

    def follow(self, blocks: Iterable[np.ndarray], sink: TextIO, file: str | None = None) -> None:
        """Writes the events of one stream of blocks ``(n,)`` as they come.

        Raises:
            DataError: The blocks' reader fails.
        """
        config = self.config
        scorer = WindowScorer(self.spotter, config.hop)
        detector = Detector(
            self.spotter.classes, self.threshold, config.average, config.refractory, config.hop
        )
        for block in blocks:
            self._write(detector.update(*scorer.feed(block)), sink, file)
        self._write(detector.update(*scorer.flush()) + detector.finish(), sink, file)

    def _write(self, events: list[Event], sink: TextIO, file: str | None) -> None:
        for event in events:
            line: dict[str, str | float] = {} if file is None else {"file": file}
            line |= {"time": round(event.time, 3), "start": round(max(event.time - self.duration, 0.0), 3)}
            line |= {"word": event.word, "score": round(event.score, 4)}
            print(json.dumps(line), file=sink, flush=True)


def _follow_files(
    listener: Listener, source: Path, files: list[Path], sink: TextIO, strict: bool
) -> list[str]:
    failures = []
    for path in files:
        name = path.relative_to(source).as_posix() if source.is_dir() else None
        try:
            listener.follow(stream_blocks(path, listener.spotter.rate, BLOCK), sink, name)
        except SkipwayError as error:
            if strict or name is None:
                raise
            failures.append(str(error))
    return failures


def _create(target: Path, files: list[Path]) -> TextIO:
    """Opens a file for events, in place of an older one."""
    make_folder(target.parent, "--output")
    if target.exists() and any(target.samefile(path) for path in files):
        raise ConfigError(f"--output {target} would replace the input; name another file")
    try:
        return target.open("w", encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"--output {target} cannot be written: {error.strerror}") from None


def choose_threshold(spotter: Spotter, config: SpeechPredictConfig) -> tuple[float, str]:
    """Returns the threshold of events, and one line on where it is from and what it costs.

    It is ``config.threshold``, or else the lowest one that keeps to the false alarms an hour of ``config`` or of the
    training.
    """
    points, trained = spotter.operating_points, spotter.metadata.get("options", {}).get("scoring", {})
    if points is None:
        threshold = UNCALIBRATED if config.threshold is None else config.threshold
        return threshold, f"threshold {threshold:.3g}; what it costs was not measured for this model"
    budget = trained.get("false_alarms", 1.0) if config.false_alarms is None else config.false_alarms
    threshold = points.choose(budget) if config.threshold is None else config.threshold
    alarms = points.false_alarms_at(threshold)
    line = (
        f"threshold {threshold:.3g}: {alarms:.1f} false alarms an hour in {points.hours:.2f} h, "
        f"{100 * points.recall_at(threshold):.0f} % of the words detected, on {points.source}"
    )
    if config.threshold is None and alarms > budget:
        line += f"; no threshold keeps to {budget:g} an hour"
    other = [
        f"{name} {trained[name]:g} s"
        for name in ("hop", "average", "refractory")
        if trained.get(name, getattr(config, name)) != getattr(config, name)
    ]
    return threshold, line + (f"; measured with {', '.join(other)}" if other else "")


def check(spotter: Spotter, config: SpeechPredictConfig) -> None:
    """Raises ``ConfigError`` where an option is out of its range, or ``hop`` does not fit the features."""
    if config.threshold is not None and not 0 <= config.threshold <= 1:
        raise ConfigError(f"--threshold {config.threshold:g} must lie between 0 and 1")
    if not config.hop > 0:
        raise ConfigError(f"--hop {config.hop:g} must be more than 0 s")
    check_hop(config.hop, spotter.front.hop, spotter.rate)
    if config.rate is not None and not RATES[0] <= config.rate <= RATES[1]:
        raise ConfigError(f"--rate {config.rate} must lie between {RATES[0]} and {RATES[1]} Hz")
    for name in ("average", "refractory", "false_alarms"):
        value = getattr(config, name)
        if value is not None and not value >= 0:
            raise ConfigError(f"--{name} {value:g} must not be negative")
