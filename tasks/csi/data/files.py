"""Reads channels from files in the layout of CSI-4CAST's data.

``train/regular``, ``test/regular`` and ``test/generalization`` hold a folder for each condition, such as
``cm_A_ds_030_ms_001``, with complex tensors ``(samples, antennas, reports, subcarriers)``: ``H_U_hist.pt``,
``H_U_pred.pt`` and ``H_D_pred.pt``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from core.errors import DataError
from tasks.csi.config import ChannelConfig
from tasks.csi.data.dataset import Condition
from tasks.csi.data.store import DOWNLINK, HISTORY, UPLINK, antennas, open_tensor

FOLDERS = {"train": ("train/regular",), "test": ("test/regular", "test/generalization")}
"""Where conditions are looked for."""
TARGETS = {"tdd": UPLINK, "fdd": DOWNLINK}


@dataclass
class Opened:
    """Files of a condition whose values are not read yet.

    Attributes:
        folder: Their folder.
        history: ``(samples, antennas, reports, subcarriers)``.
        target: ``(samples, antennas, horizon, subcarriers)``.
        target_name: Name of its file.
    """

    folder: Path
    history: Tensor
    target: Tensor
    target_name: str

    def __len__(self) -> int:
        return len(self.history)

    def read(self, samples: range) -> tuple[np.ndarray, np.ndarray]:
        """Reads samples as complex64, at least one.

        Raises:
            DataError: A value is not finite, a history is 0 throughout, or so is a report of an antenna that is to be
                predicted.
        """
        history = _read(self.history, samples, self.folder / HISTORY)
        target = _read(self.target, samples, self.folder / self.target_name)
        if len(silent := np.argwhere(~target.any(3))):
            sample, antenna, report = silent[0].tolist()
            raise DataError(
                f"{self.folder / self.target_name}: report {report} of antenna {antenna} of sample {samples[sample]}"
                " is 0 throughout, and errors are relative to its power; remove the sample or the antenna"
            )
        return history, target


def find_condition(root: Path, part: str, condition: Condition) -> Path:
    """Returns the folder of a condition.

    Raises:
        DataError: There is none.
    """
    places = [root / place for place in FOLDERS[part]]
    for place in places:
        if (place / condition.name).is_dir():
            return place / condition.name
    there = sorted({path.name for place in places if place.is_dir() for path in place.glob("cm_*_ds_*_ms_*")})
    shown = f"; there are {', '.join(there[:5])}{', ...' if len(there) > 5 else ''}" if there else ""
    prefix = "" if part == "train" else "test_"
    raise DataError(
        f"{' or '.join(str(place) for place in places)} has no folder {condition.name}{shown}; set"
        f" --data.{prefix}models, --data.{prefix}delay_spreads and --data.{prefix}speeds to what is there"
    )


def open_condition(folder: Path, channel: ChannelConfig, duplex: str) -> Opened:
    """Opens the files of a condition and compares their shapes with what is expected.

    Args:
        folder: Folder of the condition.
        channel: Numbers of antennas, reports and subcarriers.
        duplex: tdd or fdd.

    Raises:
        DataError: A file is missing or damaged, or has another type or shape.
    """
    name = TARGETS[duplex]
    history, target = open_tensor(folder / HISTORY), open_tensor(folder / name)
    _check(folder / HISTORY, history, channel, channel.history, "history")
    _check(folder / name, target, channel, channel.horizon, "horizon")
    if len(history) != len(target):
        raise DataError(
            f"{folder}: {HISTORY} has {len(history)} samples and {name} has {len(target)}; they belong in pairs"
        )
    return Opened(folder, history, target, name)


def _check(path: Path, tensor: Tensor, channel: ChannelConfig, reports: int, option: str) -> None:
    if not tensor.is_complex():
        raise DataError(
            f"{path} is of type {str(tensor.dtype).removeprefix('torch.')}; complex64 is expected"
        )
    if tensor.dim() != 4:
        raise DataError(
            f"{path} has the shape {tuple(tensor.shape)}; (samples, antennas, reports, subcarriers) is expected"
        )
    expected = (
        (antennas(channel), "antennas", "--data.rows and --data.columns"),
        (reports, "reports", f"--data.{option}"),
        (channel.subcarriers, "subcarriers", "--data.subcarriers"),
    )
    for found, (wanted, what, options) in zip(tensor.shape[1:], expected, strict=True):
        if found != wanted:
            raise DataError(f"{path} has {found} {what}, not {wanted}; check the file, or set {options}")
    if not len(tensor):
        raise DataError(f"{path} has no samples")


def _read(tensor: Tensor, samples: range, path: Path) -> np.ndarray:
    values = tensor[samples.start : samples.stop].to(torch.complex64).resolve_conj().numpy()
    power = np.abs(values.reshape(len(values), -1)).max(1)
    if bad := np.flatnonzero(~np.isfinite(power)).tolist():
        raise DataError(f"{path}: sample {samples[bad[0]]} has values that are not finite; remove it")
    if bad := np.flatnonzero(power == 0).tolist():
        raise DataError(f"{path}: sample {samples[bad[0]]} is 0 throughout; remove it")
    return values
