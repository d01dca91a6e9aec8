"""Reads the channels that a configuration names, and makes those that are not there yet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil

from core.errors import ConfigError, DataError
from tasks.csi.config import DataConfig
from tasks.csi.data.checks import check_data, conditions_of
from tasks.csi.data.dataset import Channels, Condition, CsiData
from tasks.csi.data.files import FOLDERS, find_condition, open_condition
from tasks.csi.data.store import antennas, cache_folder, report_interval


@dataclass
class Plan:
    """Samples of a part that are read.

    Attributes:
        part: train or test.
        conditions: Conditions.
        folders: Folder of each.
        samples: Most samples of each.
    """

    part: str
    conditions: list[Condition]
    folders: list[Path]
    samples: int


def load_data(config: DataConfig) -> CsiData:
    """Reads, checks and splits the channels that a configuration names.

    The last samples of each condition to learn from are for validation. The channels to test on are made from other
    seeds, or read from other folders; a channel that is in both parts is dropped from training.

    Raises:
        ConfigError: Options are wrong or contradict each other, or the channels do not fit into memory.
        DataError: Files are missing or cannot be used, or cannot be written.
    """
    check_data(config)
    stored = config.name == "files" or (config.name == "auto" and config.path is not None)
    if stored and not config.path:
        raise ConfigError("--data.name files needs --data.path FOLDER")
    if not stored and config.path:
        raise ConfigError(f"--data.name {config.name} takes no path; leave --data.name or --data.path out")
    notes: list[str] = []
    conditions = {"test": conditions_of(config, "test")}
    if config.samples:
        conditions["train"] = conditions_of(config, "train")
    if stored:
        root = Path(config.path or "")
        if not root.is_dir():
            raise DataError(f"--data.path {root} is no folder")
        if "train" in conditions and not any((root / place).is_dir() for place in FOLDERS["train"]):
            del conditions["train"]
            notes.append(f"{root} has no {FOLDERS['train'][0]}: there is nothing to learn from")
    else:
        _check_memory(config, _planned_bytes(config, conditions))
        root = _generated(config, conditions)
    plans = {part: _plan(config, root, part, conditions.get(part, [])) for part in ("train", "test")}
    if stored:
        _check_memory(config, sum(_counted_bytes(config, plan) for plan in plans.values()))
    parts = {part: _read(config, plan, notes) for part, plan in plans.items()}
    train, validation = _split(parts["train"], config.validation_share)
    train, validation = (_without_twins(side, parts["test"], notes) for side in (train, validation))
    return CsiData(
        name=root.resolve().name if stored else "cdl",
        duplex=config.duplex,
        train=train,
        validation=validation,
        test=parts["test"],
        disturbances=list(config.test_noise),
        spacing=config.spacing,
        carrier=config.carrier,
        interval=report_interval(config),
        rows=config.rows,
        columns=config.columns,
        notes=notes,
    )


def _generated(config: DataConfig, conditions: dict[str, list[Condition]]) -> Path:
    """Returns the folder in the cache that holds the channels, with all of them in it."""
    from tasks.csi.data.generator import ensure_channels

    folder = cache_folder(config.cache, config, config.seed)
    for part, items in conditions.items():
        ensure_channels(folder, config, config.seed, part, items, _samples(config, part), config.workers)
    return folder


def _samples(config: DataConfig, part: str) -> int:
    return config.test_samples if part == "test" else config.samples


def _plan(config: DataConfig, root: Path, part: str, conditions: list[Condition]) -> Plan:
    folders = [find_condition(root, part, item) for item in conditions]
    return Plan(part, conditions, folders, _samples(config, part))


def _bytes_in_memory(config: DataConfig) -> int:
    return antennas(config) * (config.history + config.horizon) * config.subcarriers * 8


def _planned_bytes(config: DataConfig, conditions: dict[str, list[Condition]]) -> int:
    return _bytes_in_memory(config) * sum(
        len(items) * _samples(config, part) for part, items in conditions.items()
    )


def _counted_bytes(config: DataConfig, plan: Plan) -> int:
    opened = [open_condition(folder, config, config.duplex) for folder in plan.folders]
    return _bytes_in_memory(config) * sum(min(len(item), plan.samples) for item in opened)


def _check_memory(config: DataConfig, size: int) -> None:
    free = psutil.virtual_memory().available
    if size > free:
        raise ConfigError(
            f"the channels take {size / 1e9:.1f} GB of memory and {free / 1e9:.1f} GB are free; lower --data.samples"
            " or --data.test_samples, or name fewer models, delay spreads or speeds"
        )


def _read(config: DataConfig, plan: Plan, notes: list[str]) -> Channels:
    """Reads a part into two arrays that are as large as needed, so that it is in memory once."""
    opened = [open_condition(folder, config, config.duplex) for folder in plan.folders]
    counts = [min(len(item), plan.samples) for item in opened]
    few = sum(count < plan.samples for count in counts)
    if few:
        notes.append(
            f"{few} of {len(counts)} conditions to {'learn from' if plan.part == 'train' else 'test on'} have fewer"
            f" than {plan.samples} samples: {sum(counts):,} in all"
        )
    shape = (sum(counts), antennas(config))
    history = np.empty((*shape, config.history, config.subcarriers), np.complex64)
    target = np.empty((*shape, config.horizon, config.subcarriers), np.complex64)
    start = 0
    for item, count in zip(opened, counts, strict=True):
        history[start : start + count], target[start : start + count] = item.read(count)
        start += count
    return Channels(history, target, np.repeat(np.arange(len(counts)), counts), plan.conditions)


def _split(channels: Channels, share: float) -> tuple[Channels, Channels]:
    """Returns channels to learn from and for validation: the last share of each condition, rounded."""
    held = np.zeros(len(channels), bool)
    for place in range(len(channels.conditions)):
        here = np.flatnonzero(channels.condition == place)
        held[here[len(here) - round(share * len(here)) :]] = True
    return _select(channels, ~held), _select(channels, held)


def _select(channels: Channels, which: np.ndarray) -> Channels:
    """Selects samples; all of them without a copy."""
    return channels if which.all() else channels.select(which)


def _without_twins(channels: Channels, test: Channels, notes: list[str]) -> Channels:
    """Drops samples that are also tested on; two channels are the same if an antenna's first report is."""
    known = {*_marks(test)}
    kept = np.array([mark not in known for mark in _marks(channels)], bool)
    if kept.all():
        return channels
    dropped = int((~kept).sum())
    notes.append(
        f"{dropped:,} samples to learn from or for validation are test samples too, and were dropped"
    )
    return channels.select(kept)


def _marks(channels: Channels) -> Sequence[bytes]:
    return [sample[0, 0].tobytes() for sample in channels.history]
