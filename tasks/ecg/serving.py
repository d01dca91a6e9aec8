"""``predict`` and requests: records in, probabilities of the findings and pages out."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd
from rich.progress import track
from rich.table import Table
from rich.text import Text

from core.commands.results import make_console
from core.data.tally import Tally
from core.errors import ConfigError, DataError, SkipwayError
from core.files import load_json, make_folder
from core.registry import nearest
from core.track.folder import write_atomic
from tasks.ecg.classifier import Classifier
from tasks.ecg.config import LEADS, EcgPredictConfig, Pool, WindowConfig
from tasks.ecg.data.records import Record, find_records, read_record
from tasks.ecg.data.table import TABLES
from tasks.ecg.printing import found_classes, print_page
from tasks.ecg.remarks import remarks

COLUMN = "record"
FOUND = ("file", "findings", "notes")
"""Columns before those of the classes."""
SHOWN = 20
"""Rows of the table on the console, and notes below it."""
EXAMPLE = {"I": 0.6, "II": 1.0, "III": 0.4, "aVR": -0.8, "aVL": 0.1, "aVF": 0.7}
"""Heights of the example's limb leads, mV, which follow from each other as those of a heart do."""
NOTE = "Research software: not a medical device."


def predict_files(classifier: Classifier, config: EcgPredictConfig) -> list[str]:
    """Writes the findings of each record of ``config.input`` to a CSV file, and pages on ECG paper beside it.

    The columns are file, findings (names joined by ;, the most probable first), notes (what was repaired or is
    missing, joined by ;), and the probability of each class.

    Returns:
        One line for each file that could not be used; with ``strict`` the first one is raised instead.

    Raises:
        ConfigError: An option is wrong, or the output cannot be written where it should be.
        DataError: The file cannot be used, or the folder holds no record.
    """
    assert config.input is not None and config.output is not None
    source, target = Path(config.input), Path(config.output)
    if target.is_dir():
        target = target / "findings.csv"
    if target.suffix.lower() != ".csv":
        raise ConfigError(f"--output {target}: write a .csv file")
    if config.finding is not None and config.finding not in classifier.classes:
        hint = nearest(config.finding, classifier.classes) or f" Classes: {', '.join(classifier.classes)}"
        raise ConfigError(f"--finding {config.finding!r} is no class of the model.{hint}")
    files = list_records(source, target)
    make_folder(target.parent, "--output")
    pages = page_names(files, source)
    rows: list[dict[str, Any]] = []
    failures = []
    noted = Tally("records")
    console = make_console()
    # A bar that is not shown would still end with an empty line.
    hidden = len(files) == 1 or not console.is_terminal
    for path, name in track(
        list(zip(files, pages, strict=True)), "reading", console=console, transient=True, disable=hidden
    ):
        try:
            record = read_record(path, config.units, config.input_rate)
            row, signal = _classify(classifier, record, config, config.threshold)
        except SkipwayError as error:
            if config.strict or not source.is_dir():
                raise
            failures.append(str(error))
            continue
        label = path.relative_to(source).as_posix() if source.is_dir() else path.name
        rows.append({"file": label, **row})
        for note in record.notes:
            noted.add(label, note)
        if config.page != "none":
            page = target.parent / f"{name}.{config.page}"
            values = np.array(list(row.values())[len(FOUND) - 1 :])
            print_page(classifier, record, signal, values, config, page)
    if rows:
        _write_table(pd.DataFrame(rows), target)
        _show(classifier, rows, noted.notes(), target, config)
    return failures


def list_records(source: Path, target: Path) -> list[Path]:
    """Returns the records of a folder at any depth, without tables of labels and the result of an earlier run.

    Args:
        source: A folder; or anything else, which is returned and left to its reader.
        target: Where the result is written.

    Raises:
        DataError: The folder holds no record.
    """
    if not source.is_dir():
        return [source]
    found = [
        path
        for path in find_records(source)
        if path.name not in TABLES and path.resolve() != target.resolve()
    ]
    if not found:
        raise DataError(
            f"{source}: no records in this folder; give one with files of .hea, .mat, .csv, .npy or .npz"
        )
    return found


def page_names(files: list[Path], source: Path) -> list[str]:
    """Returns a name without ending for the page of each record, each once, relative to the folder of the result."""
    if not source.is_dir():
        return [path.stem for path in files]
    plain = [path.relative_to(source).with_suffix("").as_posix() for path in files]
    often = Counter(plain)
    return [
        path.relative_to(source).as_posix() if often[name] > 1 else name
        for path, name in zip(files, plain, strict=True)
    ]


def _classify(
    classifier: Classifier, record: Record, window: WindowConfig | None, threshold: float | None
) -> tuple[dict[str, Any], np.ndarray]:
    """Returns findings, notes and probabilities, and the signal ``(leads, samples)`` that the networks saw.

    What was derived, and how the record is unlike those of the training, is added to its notes.
    """
    signal, present = classifier.prepare(record)
    new = remarks(classifier, signal, present, window)
    record.notes = [*dict.fromkeys([*record.notes, *new])]
    values = classifier.probabilities([signal], window=window)[0].astype(np.float64).round(6)
    found = found_classes(classifier, values, threshold)
    # A class may have the name of one of the first columns.
    columns = [f"{name} (class)" if name in FOUND else name for name in classifier.classes]
    row = {
        "findings": ";".join(classifier.classes[i] for i in found),
        "notes": ";".join(record.notes),
        **dict(zip(columns, values.tolist(), strict=True)),
    }
    return row, signal


def _write_table(frame: pd.DataFrame, target: Path) -> None:
    """Writes a CSV file as a whole: an older one stays until then."""
    try:
        write_atomic(target, frame.to_csv(index=False))
    except OSError as error:
        raise ConfigError(f"--output {target} cannot be written: {error.strerror}") from None


def _show(
    classifier: Classifier,
    rows: list[dict[str, Any]],
    notes: list[str],
    target: Path,
    config: EcgPredictConfig,
) -> None:
    console = make_console()
    table = Table()
    for name in ("file", "findings", "most probable"):
        table.add_column(name)
    for row in rows[:SHOWN]:
        values = np.array(list(row.values())[len(FOUND) :])
        best = int(values.argmax())
        # Brackets in a name are no markup.
        table.add_row(
            Text(row["file"]),
            Text(row["findings"].replace(";", "; ") or "none"),
            Text(f"{classifier.classes[best]} {values[best]:.3f}"),
        )
    console.print(table)
    for note in notes[:SHOWN]:
        console.print(f"note       {note}", markup=False, soft_wrap=True)
    if len(notes) > SHOWN:
        console.print(
            f"note       {len(notes) - SHOWN} more kinds of notes are in {target}",
            markup=False,
            soft_wrap=True,
        )
    more = f", of which {SHOWN} are shown" if len(rows) > SHOWN else ""
    count = f"{len(rows)} record{'s' * (len(rows) != 1)}"
    console.print(f"written    {target}: {count}{more}", markup=False, soft_wrap=True)
    if config.page != "none":
        where = f"{target.parent}: {len(rows)} page{'s' * (len(rows) != 1)} (.{config.page})"
        console.print(f"printed    {where}", markup=False, soft_wrap=True)
    console.print(NOTE + (" The model was trained on synthetic records." if classifier.synthetic else ""))


def serve_frame(classifier: Classifier, frame: pd.DataFrame, params: dict[str, Any]) -> pd.DataFrame:
    """Names the findings of the records in the column ``record``.

    Args:
        classifier: The model.
        frame: One row a record, JSON text: ``{"signal": [[...]], "rate": 500, "leads": ["I", ...]}`` with ``signal``
            ``(leads, samples)`` in mV, ``rate`` in Hz, and names of the leads, by default the standard twelve.
        params: ``pool``: how windows become one answer, max or mean; by default as in training.

    Returns:
        One row a record: findings, joined by ;, notes, and the probability of each class.

    Raises:
        DataError: The column is missing, a row is no such record, or ``pool`` is something else.
    """
    if COLUMN not in frame:
        raise DataError(f"the request needs a column {COLUMN!r} with records as JSON text")
    pool = params.get("pool")
    if pool is not None and pool not in get_args(Pool):
        raise DataError(f"the parameter pool must be max or mean, not {pool!r}")
    window = WindowConfig(pool=pool)
    return pd.DataFrame([_answer(classifier, i, text, window) for i, text in enumerate(frame[COLUMN])])


def _answer(classifier: Classifier, row: int, text: Any, window: WindowConfig) -> dict[str, Any]:
    record = _parsed(row, text)
    try:
        return _classify(classifier, record, window, None)[0]
    except SkipwayError as error:
        raise DataError(f"row {row}: {str(error).removeprefix(f'{record.name}: ')}") from None


def _parsed(row: int, text: Any) -> Record:
    try:
        content = load_json(text)
        signal = np.asarray(content["signal"], np.float64)
        rate, leads = float(content["rate"]), [str(name) for name in content.get("leads", LEADS)]
    except (AttributeError, KeyError, TypeError, ValueError):
        raise DataError(
            f'row {row}: {COLUMN} is not JSON text such as {{"signal": [[0.1, ...], ...], "rate": 500, "leads": ["I", '
            "...]} with as many numbers in each lead"
        ) from None
    if signal.ndim != 2 or len(signal) != len(leads):
        shape = " x ".join(map(str, signal.shape))
        raise DataError(
            f"row {row}: signal is {shape or 'a number'}; it must be {len(leads)} leads x samples"
        )
    # Files are checked and repaired in one place.
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "record.npz"
        np.savez(path, signal=signal, rate=rate, leads=np.array(leads), units="mV")
        try:
            return read_record(path)
        except SkipwayError as error:
            raise DataError(f"row {row}: {str(error).replace(f'{path}: ', '')}") from None


def example_request(classifier: Classifier) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Returns a request with one record of 2.5 s, three drawn beats in each lead, and the default parameters."""
    rate = 100
    time = np.arange(250) / rate
    beat = np.zeros(len(time))
    for middle in (0.5, 1.3, 2.1):
        for height, offset, width in ((0.1, -0.18, 0.03), (1.0, 0.0, 0.012), (0.25, 0.27, 0.05)):
            beat += height * np.exp(-0.5 * ((time - middle - offset) / width) ** 2)
    gains = np.array([EXAMPLE.get(lead, 0.9) for lead in classifier.leads])
    signal = (gains[:, None] * beat).round(4).tolist()
    text = json.dumps({"signal": signal, "rate": rate, "leads": classifier.leads})
    return pd.DataFrame({COLUMN: [text]}), {"pool": classifier.window().pool}
