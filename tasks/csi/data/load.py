"""Reads the channels that a configuration names, and makes those that are not there yet."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from core.data.cache import Store
from core.errors import ConfigError, DataError
from tasks.csi.config import ChannelConfig, DataConfig
from tasks.csi.data.checks import check_data, conditions_of
from tasks.csi.data.dataset import Channels, Condition, CsiData
from tasks.csi.data.files import FOLDERS, Opened, find_condition, open_condition
from tasks.csi.data.store import PARAMETERS, antennas, cache_folder, read_parameters, report_interval

AT_ONCE = 64
"""Samples that are read together."""


@dataclass
class Source:
    """Files that a part is read from.

    Attributes:
        conditions: Conditions.
        files: Those of each.
        counts: How many samples of each are read.
    """

    conditions: list[Condition]
    files: list[Opened]
    counts: list[int]


def load_data(config: DataConfig) -> CsiData:
    """Reads, checks and splits the channels that a configuration names.

    The last samples of each condition to learn from are for validation. The channels to test on are made from other
    seeds, or read from other folders; what is tested on is neither learned from nor for validation, and what is
    learned from is not for validation.

    Raises:
        ConfigError: Options are wrong or contradict each other.
        DataError: Files are missing or cannot be used, were made with other options, or cannot be written.
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
        _check_parameters(config, root, notes)
        if "train" in conditions and not any((root / place).is_dir() for place in FOLDERS["train"]):
            del conditions["train"]
            notes.append(f"{root} has no {FOLDERS['train'][0]}: there is nothing to learn from")
    else:
        root = _generated(config, conditions)
    learned, tested = (
        _open(config, root, part, conditions.get(part, []), notes) for part in ("train", "test")
    )
    train, validation, test = _read_parts(config, learned, tested, notes)
    return CsiData(
        name=root.resolve().name if stored else "cdl",
        duplex=config.duplex,
        train=train,
        validation=validation,
        test=test,
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


def _check_parameters(config: DataConfig, root: Path, notes: list[str]) -> None:
    """Compares the options with what the channels of a folder were made with."""
    found = read_parameters(root)
    if found is None:
        notes.append("report interval and carrier are taken from the options: the files do not say")
        return
    names = ChannelConfig.__dataclass_fields__
    if changed := [name for name in names if found[name] != getattr(config, name)]:
        made = " ".join(f"--data.{name} {json.dumps(found[name])}" for name in changed)
        given = ", ".join(json.dumps(getattr(config, name)) for name in changed)
        raise DataError(
            f"{root / PARAMETERS}: the channels were made with {made}, not {given}; give these options"
        )


def _open(config: DataConfig, root: Path, part: str, conditions: list[Condition], notes: list[str]) -> Source:
    wanted = _samples(config, part)
    files = [open_condition(find_condition(root, part, item), config, config.duplex) for item in conditions]
    counts = [min(len(item), wanted) for item in files]
    if few := sum(count < wanted for count in counts):
        notes.append(
            f"{few} of {len(counts)} conditions to {'learn from' if part == 'train' else 'test on'} have fewer"
            f" than {wanted} samples: {sum(counts):,} in all"
        )
    return Source(conditions, files, counts)


def memory_bytes(config: ChannelConfig, counts: list[int]) -> int:
    """Returns the memory that channels take, which beyond ``--data.memory`` is a mapped file.

    Args:
        config: Panel, band and reports.
        counts: Samples of each condition.
    """
    return antennas(config) * (config.history + config.horizon) * config.subcarriers * 8 * sum(counts)


def _read_parts(
    config: DataConfig, learned: Source, tested: Source, notes: list[str]
) -> tuple[Channels, Channels, Channels]:
    """Reads what is learned from, the last share of each condition for validation, and what is tested on."""
    ends = [count - round(config.validation_share * count) for count in learned.counts]
    first = [range(end) for end in ends]
    last = [range(end, count) for end, count in zip(ends, learned.counts, strict=True)]
    known: set[bytes] = set()
    store = Store(config.memory)
    test = _read(config, tested, [range(count) for count in tested.counts], known, store)
    train = _read(config, learned, first, known, store)
    validation = _read(config, learned, last, known, store)
    notes += store.notes()
    dropped, held = sum(ends) - len(train), sum(learned.counts) - sum(ends) - len(validation)
    if dropped or held:
        notes.append(
            f"dropped {dropped:,} samples to learn from that are test samples too, and {held:,} for validation that"
            " are test samples or learned from too"
        )
    left = {*train.condition.tolist()}
    emptied = [learned.conditions[i].name for i, span in enumerate(first) if span and i not in left]
    if emptied:
        shown = ", ".join(emptied[:5]) + (", ..." if len(emptied) > 5 else "")
        notes.append(f"{len(emptied)} conditions have nothing left to learn from: {shown}")
    return train, validation, test


def _read(
    config: DataConfig, source: Source, spans: list[range], known: set[bytes], store: Store
) -> Channels:
    """Reads a span of each condition but for samples that are known, and adds those that it read to them.

    The arrays are filled in place, so that channels are in memory once.
    """
    size, panel = sum(len(span) for span in spans), antennas(config)
    history = store.empty((size, panel, config.history, config.subcarriers), np.complex64)
    target = store.empty((size, panel, config.horizon, config.subcarriers), np.complex64)
    condition = np.empty(size, np.int64)
    end, marks = 0, set()
    for place, (item, span) in enumerate(zip(source.files, spans, strict=True)):
        for start in range(span.start, span.stop, AT_ONCE):
            for past, future in zip(*item.read(range(start, min(start + AT_ONCE, span.stop))), strict=True):
                mark = hashlib.sha256(past.tobytes() + future.tobytes()).digest()
                if mark not in known:
                    history[end], target[end], condition[end] = past, future, place
                    end += 1
                    marks.add(mark)
    known |= marks
    return Channels(history[:end], target[:end], condition[:end], source.conditions)
