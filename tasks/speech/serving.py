"""``predict`` and requests: recordings in, the word of each out."""

from __future__ import annotations

import base64
import io
import math
import numbers
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import soundfile
from rich.progress import track
from rich.table import Table
from rich.text import Text

from core.commands.results import make_console
from core.errors import ConfigError, DataError, SkipwayError
from core.files import from_base64, make_folder
from core.track.folder import write_atomic
from tasks.speech.config import LIVE_INPUTS, SpeechPredictConfig
from tasks.speech.data.audio import printable, read_recording, stream_blocks
from tasks.speech.listening import BLOCK, listen, scoring_of
from tasks.speech.sources import list_recordings
from tasks.speech.spotter import Spotter
from tasks.speech.streaming import score_stream, trained_scoring

COLUMN = "audio"
FOUND = ("file", "word", "score", "start")
"""Columns before those of the classes."""
SHOWN = 20
"""Rows of the table on the console."""


def predict_files(spotter: Spotter, config: SpeechPredictConfig) -> list[str]:
    """Names the word of each recording of ``config.input`` in a CSV file, or with ``stream`` writes events.

    The columns are file, word, score, start (in s, of the clip in a longer recording), and the score of each class.

    Returns:
        One line for each file that could not be used; with ``strict`` the first one is raised instead.

    Raises:
        ConfigError: An option is wrong, or the output cannot be written where it should be.
        DataError: The file cannot be used, or the folder holds no recording.
    """
    assert config.input is not None and config.output is not None
    if config.stream:
        return listen(spotter, config)
    if config.input in LIVE_INPUTS:
        raise ConfigError(f"--input {config.input} needs --stream")
    hop = scoring_of(spotter, config).hop
    source, target = Path(config.input), Path(config.output)
    if target.is_dir():
        target = target / "words.csv"
    if target.suffix.lower() != ".csv":
        raise ConfigError(f"--output {config.output}: write a .csv file")
    files = list_recordings(source)
    make_folder(target.parent, "--output")
    rows: list[dict[str, Any]] = []
    failures = []
    console = make_console()
    # A bar that is not shown would still end with an empty line.
    hidden = len(files) == 1 or not console.is_terminal
    for path in track(files, "listening", console=console, transient=True, disable=hidden):
        name = printable(path.relative_to(source).as_posix() if source.is_dir() else path.name)
        try:
            blocks = stream_blocks(path, spotter.rate, BLOCK)
            rows.append({"file": name, **best_clip(spotter, blocks, hop)})
        except SkipwayError as error:
            if config.strict or not source.is_dir():
                raise
            failures.append(str(error))
    if rows:
        write_table(pd.DataFrame(rows), target)
        _show(rows, target)
    return failures


def best_clip(spotter: Spotter, audio: np.ndarray | Iterable[np.ndarray], hop: float) -> dict[str, Any]:
    """Returns what a recording holds: word, score, start, and the score of each class.

    Args:
        spotter: The model.
        audio: Samples ``(N,)`` at the model's rate, or blocks of them. A recording longer than a clip is searched for
            the window in which a word has the highest score; a shorter one is set in the middle of zeros.
        hop: Time from one window to the next, s; rounded to whole frames of the features.

    Raises:
        ConfigError: ``hop`` is no time.
        DataError: The blocks' reader fails.
    """
    times, scores = score_stream(spotter, audio, hop)
    window = scores[:, spotter.word_indices].max(1).argmax()
    values = scores[window].astype(np.float64).round(6)
    start = max(float(times[window]) - spotter.length / spotter.rate, 0.0)
    best = int(values.argmax())
    # A class may have the name of one of the first columns, as "start" is a word.
    columns = [f"{name} (class)" if name in FOUND else name for name in spotter.classes]
    found = {"word": spotter.classes[best], "score": float(values[best]), "start": round(start, 3)}
    return found | dict(zip(columns, values.tolist(), strict=True))


def write_table(frame: pd.DataFrame, target: Path) -> None:
    """Writes a CSV file as a whole: an older one stays until then.

    Raises:
        ConfigError: It cannot be written.
    """
    try:
        write_atomic(target, frame.to_csv(index=False))
    except OSError as error:
        raise ConfigError(f"--output {target} cannot be written: {error.strerror}") from None


def _show(rows: list[dict[str, Any]], target: Path) -> None:
    console = make_console()
    table = Table()
    for name in FOUND:
        table.add_column(name, justify="left" if name in ("file", "word") else "right")
    for row in rows[:SHOWN]:
        table.add_row(
            Text(row["file"]), Text(row["word"]), f"{row['score']:.3f}", f"{row['start']:.1f}"
        )  # brackets in a name are no markup
    console.print(table)
    more = f", of which {SHOWN} are shown" if len(rows) > SHOWN else ""
    count = f"{len(rows)} recording{'s' * (len(rows) != 1)}"
    console.print(f"written    {target}: {count}{more}", markup=False, soft_wrap=True)


def serve_frame(spotter: Spotter, frame: pd.DataFrame, params: dict[str, Any]) -> pd.DataFrame:
    """Names the words of the recordings in the column ``audio``, base64 of files of any format.

    Args:
        spotter: The model.
        frame: One row a recording.
        params: ``hop``: time between two looks at a recording that is longer than a clip, s; by default that of the
            training.

    Returns:
        One row a recording: word, score, start in s, and the score of each class.

    Raises:
        DataError: The column is missing, a row is not audio, or ``hop`` is no time.
    """
    if COLUMN not in frame:
        raise DataError(f"the request needs a column {COLUMN!r} with audio files as base64 text")
    hop = params.get("hop", trained_scoring(spotter).hop)
    if not isinstance(hop, numbers.Real) or not 0 < float(hop) < math.inf:
        raise DataError(f"the parameter hop must be a finite time above 0 s, not {hop!r}")
    return pd.DataFrame(
        [best_clip(spotter, _decoded(spotter, i, text), float(hop)) for i, text in enumerate(frame[COLUMN])]
    )


def _decoded(spotter: Spotter, row: int, text: Any) -> np.ndarray:
    data = from_base64(text, f"row {row}: {COLUMN}", "an audio file")
    # The reader goes by content; a file keeps one way in.
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "recording"
        path.write_bytes(data)
        try:
            return read_recording(path, spotter.rate).samples
        except SkipwayError as error:
            # The caller knows the row and not our files.
            raise DataError(f"row {row}: {str(error).replace(f'{path}: ', '')}") from None


def example_request(spotter: Spotter) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Returns a request with one WAV file of a second, a tone in noise, and the default parameters."""
    time = np.arange(spotter.rate) / spotter.rate
    noise = np.random.default_rng(0).standard_normal(len(time))
    samples = 0.3 * np.sin(2 * np.pi * 440 * time) * np.hanning(len(time)) + 0.01 * noise
    file = io.BytesIO()
    soundfile.write(file, samples, spotter.rate, format="WAV", subtype="PCM_16")
    return pd.DataFrame({COLUMN: [base64.b64encode(file.getvalue()).decode()]}), {
        "hop": trained_scoring(spotter).hop
    }
