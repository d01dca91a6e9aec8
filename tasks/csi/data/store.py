"""Channels on disk: folders in the layout of CSI-4CAST's data, and what they were made from."""

from __future__ import annotations

import hashlib
import json
import pickle
import shutil
import tempfile
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from torch import Tensor

from core.data.cache import cache_home
from core.errors import ConfigError, DataError
from core.files import load_json
from tasks.csi.config import ChannelConfig

FORMAT = 1
"""Raised when the same parameters and seed give other channels than before."""
HISTORY, UPLINK, DOWNLINK = "H_U_hist.pt", "H_U_pred.pt", "H_D_pred.pt"
PARAMETERS = "parameters.json"
SYMBOLS = 14
"""OFDM symbols of a slot."""
PREFIX = 6
"""Samples of the cyclic prefix."""


def antennas(channel: ChannelConfig) -> int:
    """Returns the number of antennas: two polarisations of each element."""
    return 2 * channel.rows * channel.columns


def report_interval(channel: ChannelConfig) -> float:
    """Returns the time from one report to the next, s.

    A symbol lasts ``(n + 6) / (n spacing)`` with ``n`` subcarriers of uplink, gap and downlink, as in CSI-4CAST's
    resource grid.
    """
    carriers = 2 * channel.subcarriers + channel.gap
    return channel.period * SYMBOLS * (carriers + PREFIX) / (carriers * channel.spacing)


def sample_bytes(channel: ChannelConfig) -> int:
    """Returns the size of a sample on disk: history, uplink and downlink."""
    reports = channel.history + 2 * channel.horizon
    return antennas(channel) * reports * channel.subcarriers * 8


def parameters(channel: ChannelConfig, seed: int) -> dict[str, object]:
    """Returns all that the channels of a condition depend on.

    Raises:
        ConfigError: Sionna is not installed.
    """
    try:
        sionna = version("sionna-no-rt")
    except PackageNotFoundError:
        raise ConfigError(
            "generated channels need sionna-no-rt: pip install 'skipway[csi]', or give --data.path"
        ) from None
    names = ChannelConfig.__dataclass_fields__
    values = {name: value for name, value in asdict(channel).items() if name in names}
    return {"format": FORMAT, "sionna": sionna, **values, "seed": seed}


def cache_folder(cache: str | None, channel: ChannelConfig, seed: int) -> Path:
    """Returns the folder in the cache that is named by the digest of the parameters.

    Args:
        cache: ``--data.cache``; by default ``csi`` in ``$SKIPWAY_CACHE`` or ``~/.cache/skipway``.
        channel: Parameters.
        seed: Seed.
    """
    root = Path(cache) if cache else cache_home() / "csi"
    text = json.dumps(parameters(channel, seed), sort_keys=True)
    return root / hashlib.sha256(text.encode()).hexdigest()[:16]


def read_parameters(folder: Path) -> dict[str, object] | None:
    """Returns what a folder's channels are made from; None if it does not say.

    Raises:
        DataError: Its list of them cannot be read, or lacks a parameter.
    """
    path = folder / PARAMETERS
    if not path.exists():
        return None
    try:
        found = load_json(path.read_text())
    except (OSError, ValueError):
        found = None
    if not isinstance(found, dict) or not ChannelConfig.__dataclass_fields__.keys() <= found.keys():
        raise DataError(f"{path} cannot be read; generate the folder {folder} again, or choose another")
    return found


def claim(folder: Path, wanted: dict[str, object]) -> None:
    """Writes down what a folder's channels are made from, or checks it.

    Raises:
        DataError: The folder holds channels of other parameters, or its list of them cannot be read.
    """
    path, found = folder / PARAMETERS, read_parameters(folder)
    if found is None:
        if any(child.name in ("train", "test") for child in folder.iterdir()):
            raise DataError(f"{folder} holds channels without {PARAMETERS}; choose another folder")
        temporary = path.with_suffix(".tmp")
        temporary.write_text(json.dumps(wanted, indent=2) + "\n")
        temporary.replace(path)
        return
    if changed := [f"{name} {found.get(name)}" for name in wanted if found.get(name) != wanted[name]]:
        raise DataError(f"{folder} holds channels of other parameters ({', '.join(changed)}); choose another")


def write_condition(folder: Path, files: dict[str, Tensor]) -> None:
    """Writes a condition's files all at once, in place of those that were there.

    Args:
        folder: Its folder.
        files: Tensors by file name.

    Raises:
        OSError: The disk is full or not writable; nothing is left behind.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=".unfinished-", dir=folder.parent))
    try:
        for name, tensor in files.items():
            _save(tensor, temporary / name)
        temporary.chmod(0o755)
        shutil.rmtree(folder, ignore_errors=True)
        temporary.replace(folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def remove_unfinished(folder: Path) -> None:
    """Removes what a run that was killed left in the folder of a part."""
    for path in folder.glob(".unfinished-*"):
        shutil.rmtree(path, ignore_errors=True)


def stored_samples(folder: Path) -> int:
    """Returns how many samples of a condition are there; 0 if a file is missing or damaged."""
    try:
        return min(len(open_tensor(folder / name)) for name in (HISTORY, UPLINK, DOWNLINK))
    except DataError:
        return 0


def open_tensor(path: Path) -> Tensor:
    """Opens a file of ``torch.save`` without reading its values, and without running code that it may hold.

    Raises:
        DataError: It is missing or damaged, or holds something else.
    """
    if not path.is_file():
        raise DataError(f"{path} is missing")
    try:
        tensor = torch.load(path, weights_only=True, mmap=True, map_location="cpu")
    except (OSError, RuntimeError, ValueError, EOFError, pickle.UnpicklingError):
        raise DataError(f"{path} is damaged, or no tensor of torch.save; write it again") from None
    if not isinstance(tensor, Tensor) or tensor.dim() == 0:
        raise DataError(f"{path} holds no tensor of channels")
    return tensor


def _save(tensor: Tensor, path: Path) -> None:
    """Saves a tensor; a full disk is an ``OSError``, which PyTorch hides in a ``RuntimeError``."""
    try:
        with path.open("wb") as stream:
            torch.save(tensor, stream)
    except RuntimeError as error:
        reason = error.__context__
        raise OSError(str(reason.strerror if isinstance(reason, OSError) else error)) from None
