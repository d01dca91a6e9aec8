"""Reads the cases that a configuration names: finds, checks, interprets and splits them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from core.errors import ConfigError, DataError
from core.files import MadeFolder
from tasks.segmentation.config import DataConfig
from tasks.segmentation.data import split, synthetic
from tasks.segmentation.data.cases import FLAT, Case, SegmentationData
from tasks.segmentation.data.gather import Pool, gather, give_channels
from tasks.segmentation.data.layouts import VESSEL, find_cases
from tasks.segmentation.data.meaning import FOREGROUND, count_classes, find_classes, numbers_objects
from tasks.segmentation.data.reader import CaseReader
from tasks.segmentation.data.scan import Look, scan_of
from tasks.segmentation.data.volumes import read_labels
from tasks.segmentation.labels import Labels, object_labels

SHOWN = 5
"""Cases that are named one by one when they are left out; more are counted."""
MADE: dict[str, Callable[[Path], None]] = {"cells": synthetic.write_cells, "organs": synthetic.write_organs}
"""Data sets that are made."""


def load_data(config: DataConfig, labelled: bool = True) -> SegmentationData:
    """Reads, checks and splits the cases that a configuration names.

    A case that cannot be used is left out with a note, and the others go on. Voxels are not kept.

    Args:
        config: Paths and options.
        labelled: Whether cases without labels are left out; pre-training takes them.

    Raises:
        ConfigError: Options contradict each other.
        DataError: Cases are missing, or too few can be used.
    """
    split.check(config)
    stored = config.name == "folder" or (config.name == "auto" and bool(config.path or config.test_path))
    if stored:
        path = config.path or config.test_path
        if not path:
            raise ConfigError("--data.name folder needs --data.path FOLDER")
        return _load(config, Path(path).resolve().name, labelled)
    name = "cells" if config.name == "auto" else config.name
    if config.path or config.test_path:
        raise ConfigError(f"--data.name {name} takes no path; leave --data.name or the path out")
    folder = MadeFolder()
    MADE[name](folder.path / name)
    data = _load(replace(config, path=str(folder.path / name)), name, labelled)
    data.folder = folder
    return data


def _load(config: DataConfig, name: str, labelled: bool) -> SegmentationData:
    main = find_cases(Path(config.path), config.layout, labelled) if config.path else None
    other = find_cases(Path(config.test_path), config.layout, labelled) if config.test_path else None
    pool = gather(main, other, labelled)
    wanted, names = give_channels(pool, config)
    labels = _labels(pool, config)
    chosen = tuple(config.channels) if config.channels is not None else tuple(range(wanted))
    cases, own = _cases(pool, labels, wanted, chosen)
    first = next(iter(pool.dropped), "the folder has none")
    if not cases:
        raise DataError(f"{config.path or config.test_path}: no usable case; {first}")
    if main is not None and len(cases) < 2:
        more = f" ({first})" if pool.dropped else ""
        raise DataError(
            f"{config.path}: one case alone, {cases[0].name}, cannot be learned from and tested{more}; give more cases"
        )
    if main is not None and len(own) == len(cases):
        raise DataError(f"{config.path}: no case is left to learn from; {first}")
    folds, notes = split.make_folds([case.name for case in cases], own, config)
    reader = CaseReader(labels, wanted, chosen)
    notes = [*_left_out(pool.dropped), *pool.notes, *_odd(cases, pool, labels), *notes]
    data = SegmentationData(name, cases, folds, labels, names, reader.read, notes)
    if not data.flat:
        return data
    # The only slice of an image has no thickness: else its axis could seem to be finer than those of the image.
    data.cases = [_flat(case) for case in cases]
    return data


def _labels(pool: Pool, config: DataConfig) -> Labels:
    looks = pool.looks
    known = {name: look for name, look in looks.items() if look.values}
    described = next((found.labels for found in pool.found if found.labels), None)
    if not known:
        return described or Labels(("background",), (0,))
    if config.instances == "yes":
        return _objects(pool, "--data.instances yes")
    auto = config.instances == "auto" and described is None
    if (
        auto
        and all(look.geometry.shape[0] == 1 for look in looks.values())
        and numbers_objects(known.values())
    ):
        return _objects(pool, "--data.instances no takes them for classes")
    if described is not None:
        return described
    labels, wrong, notes = find_classes(_first(pool, known))
    pool.notes += notes
    for name, reason in wrong.items():
        pool.drop(name, reason)
    if pool.found[0].layout == "drive" and labels.names == ("background", FOREGROUND):
        return replace(labels, names=("background", VESSEL))
    return labels


def _first(pool: Pool, known: dict[str, Look]) -> dict[str, Look]:
    """What is learned from decides what labels mean, and not a test set."""
    first = {name: look for name, look in known.items() if name not in pool.test}
    return first if len(first) == len(known) or first else known


def _objects(pool: Pool, hint: str) -> Labels:
    most = max(len(set(look.values) - {0}) for look in pool.looks.values())
    pool.notes.append(
        f"labels number objects, up to {most} in a case: edge and core of objects are learned ({hint})"
    )
    return object_labels()


def _cases(pool: Pool, labels: Labels, wanted: int, channels: tuple[int, ...]) -> tuple[list[Case], set[int]]:
    cases: list[Case] = []
    for name in sorted(pool.looks):
        raw, look = pool.raw[name], pool.looks[name]
        values = look.values
        if labels.instances and values and raw.label is not None:
            from tasks.segmentation.objects import objects_to_classes

            values = dict(Counter(objects_to_classes(read_labels(raw.label)[0]).ravel().tolist()))
        try:
            classes = count_classes(values, labels)
        except DataError as error:
            pool.drop(name, str(error))
            continue
        scan = scan_of(look, list(channels), wanted, classes)
        cases.append(Case(name, raw.images, raw.label, raw.mask, look.geometry, scan))
    return cases, {i for i, case in enumerate(cases) if case.name in pool.test}


def _left_out(dropped: list[str]) -> list[str]:
    """Returns a line for each case up to a number, and beyond it one for each further reason."""
    lines = [f"left out: {line}" for line in dropped[:SHOWN]]
    more: dict[str, list[str]] = {}
    for line in dropped[SHOWN:]:
        name, reason = line.split(": ", 1)
        # The same reason has other numbers and names in it for each case.
        more.setdefault(re.sub(r"\S*[\d/.]\S*", "", reason.replace(name, "")), []).append(line)
    for alike in more.values():
        others = [line.split(": ")[0] for line in alike[1:]]
        lines.append(f"left out: {alike[0]}" + (f"; for the same reason {_some(others)}" if others else ""))
    return lines


def _odd(cases: list[Case], pool: Pool, labels: Labels) -> list[str]:
    """Says which cases are kept though they are unusual."""
    notes = []
    empty = [
        case.name
        for case in cases
        if case.label and not any(case.scan.classes.get(i, 0) for i in range(1, len(labels.names)))
    ]
    if empty:
        notes.append(f"{_some(empty)}: no label but the background; kept")
    thin = [case.name for case in cases if case.geometry.shape[0] == 1]
    if thin and len(thin) < len(cases):
        notes.append(f"{_some(thin)}: one slice alone, among volumes; kept")
    blank = [case.name for case in cases if pool.looks[case.name].constant]
    if blank:
        notes.append(f"{_some(blank)}: all voxels are equal; kept")
    return notes


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:SHOWN])
    return shown if len(names) <= SHOWN else f"{shown} and {len(names) - SHOWN} more"


def _flat(case: Case) -> Case:
    _, y, x = case.geometry.spacing
    spacing = (FLAT * max(y, x), y, x)
    return replace(
        case, geometry=replace(case.geometry, spacing=spacing), scan=replace(case.scan, spacing=spacing)
    )
