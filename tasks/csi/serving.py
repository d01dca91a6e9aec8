"""``predict`` and requests: histories of channels in, their next reports out."""

from __future__ import annotations

import base64
import io
import os
import pickle
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from rich.progress import track

from core.commands.results import make_console
from core.errors import ConfigError, DataError, SkipwayError
from core.files import from_base64, make_folder, tell_left_out
from tasks.csi.config import CsiPredictConfig
from tasks.csi.predictor import Predictor

ENDINGS = (".npy", ".npz", ".pt")
COLUMN, ANSWER = "history", "prediction"
MARK = "_predicted"
UNREADABLE = (OSError, EOFError, ValueError, RuntimeError, TypeError)


def predict_files(predictor: Predictor, config: CsiPredictConfig) -> list[str]:
    """Predicts the histories of ``config.input`` into files of ``config.output``.

    Returns:
        One line for each file that could not be used; with ``strict`` the first one is raised instead.

    Raises:
        ConfigError: The output cannot be written where it should be.
        DataError: The file cannot be used, or the folder holds none.
    """
    assert config.input is not None and config.output is not None
    if config.batch < 1:
        raise ConfigError(f"--batch {config.batch} must be 1 or more")
    source, target = Path(config.input), Path(config.output)
    files = _list_files(source)
    into_folder = source.is_dir() or target.is_dir() or not target.suffix
    if source.is_dir() and target.is_file():
        raise ConfigError(f"--input {source} is a folder and --output {target} is a file; name a folder")
    if not into_folder and target.suffix.lower() not in ENDINGS:
        raise ConfigError(f"--output {target}: write a file of {', '.join(ENDINGS)}")
    make_folder(target if into_folder else target.parent, "--output")
    console = make_console()
    failures = []
    hidden = len(files) == 1 or not console.is_terminal
    for path in track(files, "predicting", console=console, transient=True, disable=hidden):
        goal = target
        if into_folder:
            relative = path.relative_to(source) if source.is_dir() else Path(path.name)
            goal = target / relative.with_name(f"{path.stem}{MARK}.npy")
        try:
            if goal.exists() and goal.samefile(path):
                raise ConfigError(f"--output {goal} would replace the input; name another file or folder")
            line = _predict_file(predictor, path, goal, config.batch)
        except SkipwayError as error:
            if config.strict or not source.is_dir():
                raise
            failures.append(str(error))
        else:
            console.print(line, markup=False, soft_wrap=True)
    return failures


def default_output(config: CsiPredictConfig) -> str | None:
    """Returns ``H_U_hist_predicted.npy`` for ``H_U_hist.pt``, ``x_predicted`` for a folder ``x``; none for the root."""
    path = Path(config.input or "")
    if path.name in ("", ".."):
        path = path.resolve()
    if not path.name:
        return None
    return str(
        path.with_name(f"{path.name if path.is_dir() else path.stem}{MARK}{'' if path.is_dir() else '.npy'}")
    )


def read_channels(path: Path) -> np.ndarray:
    """Reads complex channels from a .pt, .npy or .npz file; an .npz has one array, or one called ``history``.

    Raises:
        DataError: The file cannot be read, or does not hold an array.
    """
    readers: dict[str, Callable[[Path], Any]] = {".pt": _read_pt, ".npy": _read_npy, ".npz": _read_npz}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise DataError(f"{path}: give a file of {', '.join(ENDINGS)}")
    try:
        values = reader(path)
    except (*UNREADABLE, pickle.UnpicklingError, zipfile.BadZipFile) as error:
        if isinstance(error, SkipwayError):
            raise
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise DataError(f"{path}: cannot be read as an array ({reason})") from None
    if not isinstance(values, np.ndarray):
        raise DataError(f"{path}: holds {type(values).__name__} and no tensor; save one with torch.save")
    return values


def check_history(values: np.ndarray, predictor: Predictor, where: str) -> tuple[np.ndarray, list[str]]:
    """Checks what a network is asked to continue.

    Args:
        values: Complex ``(N, A, T, K)``, or one sample ``(A, T, K)``.
        predictor: The network.
        where: File or row, for messages.

    Returns:
        complex64 ``(N, A, history, K)``, and what was assumed, one line each.

    Raises:
        DataError: Type or shape are wrong, or values are missing.
    """
    if not np.iscomplexobj(values):
        raise DataError(f"{where}: holds {values.dtype} numbers; a channel is complex")
    if values.ndim not in (3, 4):
        raise DataError(
            f"{where}: has shape {values.shape}; give (samples, antennas, reports, subcarriers), or one sample without "
            "the first"
        )
    samples = values if values.ndim == 4 else values[None]
    if not samples.size:
        raise DataError(f"{where}: is empty, of shape {values.shape}")
    _, antennas, reports, subcarriers = samples.shape
    if subcarriers != predictor.subcarriers:
        raise DataError(
            f"{where}: has {subcarriers} subcarriers, and the model takes {predictor.subcarriers}"
        )
    if reports < predictor.history:
        raise DataError(f"{where}: has {reports} reports, and the model needs {predictor.history}")
    notes = []
    if reports > predictor.history:
        notes.append(f"the last {predictor.history} of {reports} reports are used")
        samples = samples[:, :, -predictor.history :]
    if antennas != predictor.antennas:
        notes.append(f"{antennas} antennas, and the model was trained with {predictor.antennas}")
    for i, sample in enumerate(samples):
        if not np.isfinite(sample).all():
            raise DataError(f"{where}: sample {i} has NaN or infinite values; leave it out")
    return samples.astype(np.complex64, copy=False), notes


def serve_frame(predictor: Predictor, frame: pd.DataFrame, params: dict[str, Any]) -> pd.DataFrame:
    """Continues the histories in the column ``history``, base64 of .npy files.

    Args:
        predictor: The network.
        frame: One row a file, complex ``(N, A, T, K)`` or ``(A, T, K)``.
        params: None.

    Returns:
        One row a file: ``prediction``, base64 of a .npy file, complex64 with ``horizon`` reports.

    Raises:
        DataError: The column is missing, or a row is no such file.
    """
    if COLUMN not in frame:
        raise DataError(f"the request needs a column {COLUMN!r} with .npy files as base64 text")
    answers = []
    for i, text in enumerate(frame[COLUMN]):
        where = f"row {i}: {COLUMN}"
        try:
            values = np.load(io.BytesIO(from_base64(text, where, "a .npy file")), allow_pickle=False)
        except (ValueError, EOFError, OSError) as error:
            if isinstance(error, SkipwayError):
                raise
            raise DataError(f"{where} is no .npy file") from None
        history, _ = check_history(np.asarray(values), predictor, where)
        predicted = predictor.predict(history)
        answers.append(_encoded(predicted if values.ndim == 4 else predicted[0]))
    return pd.DataFrame({ANSWER: answers})


def example_request(predictor: Predictor) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Returns a request with the history of one antenna, two paths with Doppler shifts, and no parameters."""
    time = np.arange(predictor.history)[:, None]
    subcarrier = np.arange(predictor.subcarriers)
    paths = (
        (1.0, 0.05, 0.02),
        (0.5, -0.08, 0.06),
    )  # amplitude, and cycles for each report and each subcarrier
    channel = sum(
        a * np.exp(2j * np.pi * (doppler * time - delay * subcarrier)) for a, doppler, delay in paths
    )
    return pd.DataFrame({COLUMN: [_encoded(np.asarray(channel)[None, None].astype(np.complex64))]}), {}


def _list_files(source: Path) -> list[Path]:
    if source.is_file():
        return [source]
    inside = sorted(
        path
        for path in source.rglob("*")
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(source).parts)
    )
    arrays = [path for path in inside if path.suffix.lower() in ENDINGS]
    # In the layout of CSI-4CAST's data the truth stands beside the histories.
    chosen = [path for path in arrays if not path.stem.endswith(("_pred", MARK))]
    if not chosen:
        raise DataError(f"{source}: no histories in this folder; give one with files of {', '.join(ENDINGS)}")
    if truths := len(arrays) - len(chosen):
        print(f"{truths} file{'s' * (truths != 1)} left out: _pred and {MARK} are no histories")
    tell_left_out([path.name for path in inside if path.suffix.lower() not in ENDINGS])
    return chosen


def _predict_file(predictor: Predictor, path: Path, goal: Path, batch: int) -> str:
    values = read_channels(path)
    history, notes = check_history(values, predictor, str(path))
    predicted = predictor.predict(history, batch)
    goal.parent.mkdir(parents=True, exist_ok=True)
    _write(goal, predicted if values.ndim == 4 else predicted[0])
    count, antennas, reports, subcarriers = predicted.shape
    size = f"{count} sample{'s' * (count != 1)}, {antennas} antennas, {reports} reports, {subcarriers} subcarriers"
    return f"written    {goal}: {size}" + "".join(f"\n           {note}" for note in notes)


def _write(path: Path, values: np.ndarray) -> None:
    """Writes a file as a whole: an older one stays until then."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            if path.suffix.lower() == ".pt":
                torch.save(torch.from_numpy(values), file)
            elif path.suffix.lower() == ".npz":
                np.savez(file, prediction=values)
            else:
                np.save(file, values)
        os.replace(temporary, path)
    except OSError as error:
        raise ConfigError(f"--output {path} cannot be written: {error.strerror}") from None
    finally:
        temporary.unlink(missing_ok=True)


def _read_pt(path: Path) -> Any:
    with warnings.catch_warnings():
        # torch warns of rare kinds of tensors; those that cannot be used are errors here.
        warnings.simplefilter("ignore")
        value = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        if not isinstance(value, torch.Tensor):
            return value
        if value.dtype == torch.complex32:  # NumPy has no such type
            value = value.to(torch.complex64)
        return value.detach().resolve_conj().resolve_neg().numpy()


def _read_npy(path: Path) -> Any:
    return np.load(path, mmap_mode="c", allow_pickle=False)


def _read_npz(path: Path) -> Any:
    # Of a damaged archive NumPy would leave its own file open.
    with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        if COLUMN not in arrays.files and len(arrays.files) != 1:
            raise DataError(f"{path}: has the arrays {', '.join(arrays.files)}; call one {COLUMN}")
        return arrays[COLUMN if COLUMN in arrays.files else arrays.files[0]]


def _encoded(values: np.ndarray) -> str:
    file = io.BytesIO()
    np.save(file, values)
    return base64.b64encode(file.getvalue()).decode()
