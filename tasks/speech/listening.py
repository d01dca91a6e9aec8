"""``predict --stream``: events of files, of standard input and of a microphone, as lines of JSON."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TextIO

import numpy as np

from core.errors import ConfigError, SkipwayError
from core.files import make_folder
from tasks.speech.config import LIVE_INPUTS, SpeechPredictConfig, SpeechScoringConfig
from tasks.speech.data.audio import RATES, printable, stream_blocks
from tasks.speech.sources import STDIN, list_recordings, live_blocks
from tasks.speech.spotter import Spotter
from tasks.speech.streaming import (
    UNCALIBRATED,
    Detector,
    Event,
    check_scoring,
    trained_otherwise,
    trained_scoring,
)
from tasks.speech.windows import WindowScorer, round_hop

BLOCK = 10.0
"""Length of the blocks in which files are read, s: windows enough to be scored together."""
OF_STREAMS = ("threshold", "false_alarms", "average", "refractory")
"""Options that mean nothing without a stream."""


def listen(spotter: Spotter, config: SpeechPredictConfig) -> list[str]:
    """Writes an event for each word that is heard in ``config.input``.

    A line is ``{"time": 3.2, "start": 2.2, "word": "cat", "score": 0.97}``: the window from ``start`` to ``time``, in
    seconds of the stream, at which the averaged score of the word reached the threshold, and that score. ``"file"``
    comes first where the input is a folder. Each line is written at once; a file of events of recordings takes the
    place of an older one in the end, or on an interrupt if it has any. A live input ends with its stream or with an
    interrupt, any input when the reader of standard output goes away; none of these is an error.

    Returns:
        One line for each file that could not be used; with ``strict`` the first one is raised instead.

    Raises:
        ConfigError: An option is wrong, the output is a folder or an input, or there is no microphone.
        DataError: The file cannot be used, or the folder holds no recording.
    """
    assert config.input is not None
    listener = Listener(spotter, config)
    source, live = Path(config.input), config.input in LIVE_INPUTS
    files = [] if live else list_recordings(source)
    target = None if config.output in (None, "-") else _target(Path(str(config.output)), files)
    blocks = live_blocks(config.input, config.rate, spotter.rate, listener.hop) if live else iter(())
    # Recordings can be heard again, so that an older file stays until the new one is whole. A live input cannot, and
    # what waits for its events may read along; nor can a device or a pipe be replaced.
    if files and target is not None and (target.is_file() or not target.exists()):
        print(listener.said, file=sys.stderr)
        return _replace(target, listener, source, files, config.strict)
    try:
        with nullcontext(sys.stdout) if target is None else _open(target, target) as sink:
            print(listener.said, file=sys.stderr)
            if not live:
                return _follow_files(listener, source, files, sink, config.strict)
            try:
                if not listener.follow(blocks, sink) and config.input == STDIN:
                    print("nothing came from standard input: it must be PCM of 16 bit", file=sys.stderr)
            except KeyboardInterrupt:
                print("stopped", file=sys.stderr)
            return []
    except BrokenPipeError:
        if target is not None:
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
        hop: Time from one window to the next, s.
        said: What its threshold is and costs, one line.

    Raises:
        ConfigError: An option is wrong.
    """

    def __init__(self, spotter: Spotter, config: SpeechPredictConfig) -> None:
        self.spotter, self.scoring = spotter, scoring_of(spotter, config)
        self.hop = round_hop(spotter, self.scoring.hop)
        self.duration = spotter.length / spotter.rate
        self.threshold, self.said = choose_threshold(spotter, config.threshold, self.scoring)

    def follow(self, blocks: Iterable[np.ndarray], sink: TextIO, file: str | None = None) -> int:
        """Writes the events of one stream of blocks ``(n,)`` as they come; returns how many samples came.

        Raises:
            DataError: The blocks' reader fails.
        """
        scoring, count = self.scoring, 0
        scorer = WindowScorer(self.spotter, self.hop)
        detector = Detector(
            self.spotter.classes, self.threshold, scoring.average, scoring.refractory, self.hop
        )
        for block in blocks:
            count += len(block)
            self._write(detector.update(*scorer.feed(block)), sink, file)
        self._write(detector.update(*scorer.flush()) + detector.finish(), sink, file)
        return count

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
        name = printable(path.relative_to(source).as_posix()) if source.is_dir() else None
        try:
            listener.follow(stream_blocks(path, listener.spotter.rate, BLOCK), sink, name)
        except SkipwayError as error:
            if strict or name is None:
                raise
            failures.append(str(error))
    return failures


def _target(target: Path, files: list[Path]) -> Path:
    """Returns where events go, once it is clear that they may."""
    make_folder(target.parent, "--output")
    if target.exists() and any(target.samefile(path) for path in files):
        raise ConfigError(f"--output {target} would replace the input; name another file")
    if target.is_dir():
        raise ConfigError(f"--output {target} cannot be written: it is a folder")
    return target.resolve()  # a link stays one


def _open(path: Path, target: Path) -> TextIO:
    try:
        return path.open("w", encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"--output {target} cannot be written: {error.strerror}") from None


def _replace(target: Path, listener: Listener, source: Path, files: list[Path], strict: bool) -> list[str]:
    """Writes events to a file that takes the place of ``target`` in the end, or with what it has on an interrupt."""
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        with _open(temporary, target) as sink:
            try:
                failures = _follow_files(listener, source, files, sink, strict)
            except KeyboardInterrupt:
                if sink.tell():
                    temporary.replace(target)
                raise
        if len(failures) < len(files):
            temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
    return failures


def choose_threshold(
    spotter: Spotter, threshold: float | None, scoring: SpeechScoringConfig
) -> tuple[float, str]:
    """Returns the threshold of events, and one line on where it is from and what it costs.

    Args:
        spotter: The model.
        threshold: As it was asked for; by default the lowest one that keeps to the false alarms of ``scoring``.
        scoring: How the model is listened to.
    """
    points, asked = spotter.operating_points, threshold is not None
    if points is None:
        threshold = UNCALIBRATED if threshold is None else threshold
        return threshold, f"threshold {threshold:.3g}; what it costs was not measured for this model"
    threshold = points.choose(scoring.false_alarms) if threshold is None else threshold
    said = [
        f"threshold {threshold:.3g}: {points.false_alarms_at(threshold):.1f} false alarms an hour in "
        f"{points.hours:.2f} h, {100 * points.recall_at(threshold):.0f} % of the words detected, on {points.source}",
        "" if asked else points.doubt(scoring.false_alarms),
    ]
    if other := trained_otherwise(spotter, scoring):
        said.append(f"measured with {other}")
    return threshold, "; ".join(filter(None, said))


def scoring_of(spotter: Spotter, config: SpeechPredictConfig) -> SpeechScoringConfig:
    """Returns how the model is listened to: as in its training, where ``config`` does not say otherwise.

    Raises:
        ConfigError: An option is out of its range, or means nothing beside the others.
    """
    if not config.stream:
        for name in OF_STREAMS:
            if getattr(config, name) is not None:
                raise ConfigError(f"--{name} is only for --stream")
    if config.rate is not None and config.input not in LIVE_INPUTS:
        raise ConfigError(f"--rate is only for --input {' and '.join(LIVE_INPUTS)}; files tell theirs")
    if config.rate is not None and not RATES[0] <= config.rate <= RATES[1]:
        raise ConfigError(f"--rate {config.rate} must lie between {RATES[0]} and {RATES[1]} Hz")
    if config.threshold is not None and config.false_alarms is not None:
        raise ConfigError("--threshold and --false_alarms exclude each other; leave one of them out")
    if config.threshold is not None and not 0 <= config.threshold <= 1:
        raise ConfigError(f"--threshold {config.threshold:g} must lie between 0 and 1")
    names = ("hop", "average", "refractory", "false_alarms")
    given = {name: value for name in names if (value := getattr(config, name)) is not None}
    scoring = replace(trained_scoring(spotter), **given)
    check_scoring(scoring, "--")
    return scoring
