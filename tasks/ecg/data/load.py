"""Reads the records that a configuration names: layouts, classes and splits."""

from __future__ import annotations

import difflib
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from core.errors import ConfigError, DataError
from tasks.ecg.config import DataConfig
from tasks.ecg.data import synthetic
from tasks.ecg.data.checks import check_options, drop_twins, rare_notes, unique_names
from tasks.ecg.data.dataset import EcgData, Fold
from tasks.ecg.data.gather import Pool, read_pool
from tasks.ecg.data.leads import wanted_leads
from tasks.ecg.data.listing import Label
from tasks.ecg.data.split import split_records


def load_data(config: DataConfig) -> EcgData:
    """Reads, checks and splits the records that a configuration names.

    Without any path they are made. With a test path alone nothing is learned, all of it is tested, and the classes are
    those that ``labels`` names.

    Raises:
        ConfigError: Options contradict each other, or a class is not there.
        DataError: Records are missing or cannot be used.
    """
    if not config.path:
        config = replace(config, folds=0 if config.test_path else config.folds)
    check_options(config)
    made = config.name == "synthetic" or (config.name == "auto" and not config.path and not config.test_path)
    if not made:
        path = config.path or config.test_path
        if not path:
            raise ConfigError(f"--data.name {config.name} needs --data.path FOLDER")
        return _load(config, Path(path).resolve().name)
    if config.path or config.test_path:
        option = "path" if config.path else "test_path"
        raise ConfigError(f"--data.name synthetic takes no folder; leave --data.name or --data.{option} out")
    with tempfile.TemporaryDirectory(prefix="skipway-") as temporary:
        folder = Path(temporary) / "synthetic"
        synthetic.write_records(folder)
        config = replace(
            config,
            name="challenge",
            path=str(folder),
            labels=config.labels or list(synthetic.FINDINGS.values()),
            patient=config.patient or synthetic.PATIENT,
        )
        return _load(config, "synthetic")


def _load(config: DataConfig, name: str) -> EcgData:
    pools = [read_pool(Path(path), config) for path in (config.path, config.test_path) if path]
    pool = pools[0]
    first = len(pool.entries) if config.path else 0
    classes = _choose(config, pools, pool.notes)
    explain = pool.listing.explain
    if explain:
        pool.notes += explain([codes for each in pools for codes in each.codes], classes)
    if len(pools) > 1:
        _append(pool, pools[1])
    tested = len(pool.entries) - first
    drop_twins(pool, first)
    first = len(pool.entries) - tested
    if config.path and not first:
        raise DataError(
            f"{config.path}: no record is left to learn from; all are those of {config.test_path}"
        )
    labels = np.array([[label.name in found for label in classes] for found in pool.labels], bool)
    official = [entry.fold for entry in pool.entries]
    folds, notes = split_records(pool.patients, labels, official, first, config)
    learned, held = (
        np.unique(np.concatenate([getattr(fold, part) for fold in folds])) for part in ("train", "test")
    )
    names = [label.name for label in classes]
    rare = rare_notes(names, labels, learned, held)
    notes = [*pool.notes, *notes, *rare, *_summary(pool, labels, folds)]
    if pool.synthetic:
        notes.insert(0, "the records are made: they promise nothing about real electrocardiograms")
    return EcgData(
        name=name,
        classes=names,
        codes=[label.code for label in classes],
        leads=wanted_leads(config.leads),
        rate=config.rate,
        names=unique_names(pool.names),
        patients=pool.patients,
        signals=pool.signals,
        present=np.stack(pool.present),
        labels=labels,
        folds=folds,
        notes=[printable(note) for note in notes],
        synthetic=pool.synthetic,
    )


def printable(text: str) -> str:
    """Returns a text in which what cannot be printed, such as a line break in a file's name, is escaped."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


def _append(pool: Pool, other: Pool) -> None:
    for column in ("entries", "patients", "known", "signals", "present", "labels", "codes", "contents"):
        getattr(pool, column).extend(getattr(other, column))
    pool.synthetic |= other.synthetic
    pool.notes += [f"{other.listing.folder.name}: {note}" for note in other.notes]


def _choose(config: DataConfig, pools: Sequence[Pool], notes: list[str]) -> list[Label]:
    """Returns the classes: those that are named, or else those with enough positive records."""
    listing = pools[0].listing
    counts = Counter(label for found in pools[0].labels for label in found)
    codes = {key: code for pool in reversed(pools) for key, code in pool.listing.codes.items()}
    if config.labels:
        return [_named(label, config, pools[0], counts, codes) for label in _once(config, pools[0])]
    candidates = listing.candidates or sorted(counts)
    chosen = [name for name in candidates if counts[name] >= config.least]
    if not chosen:
        most = ", ".join(f"{name} {count}" for name, count in counts.most_common(3)) or "none"
        raise DataError(
            f"{listing.folder}: no class has {config.least} positive records (most: {most}); lower --data.least or "
            "name classes by --data.labels"
        )
    few = [f"{name} {counts[name]}" for name in candidates if 0 < counts[name] < config.least]
    if few:
        more = ", ..." if len(few) > 6 else ""
        notes.append(
            f"{len(few)} labels with fewer than {config.least} records are no classes: {', '.join(few[:6])}{more}; "
            "see --data.least"
        )
    find = listing.find
    found = [find(name) if find else None for name in chosen]
    return [label or Label(name, codes.get(name, "")) for name, label in zip(chosen, found, strict=True)]


def _once(config: DataConfig, pool: Pool) -> list[str]:
    """Returns the labels that options name, without other names of the same class."""
    find = pool.listing.find
    seen: dict[str, str] = {}
    for label in config.labels or []:
        found = find(label) if find else None
        seen.setdefault(found.name if found else label, label)
    return list(seen.values())


def _named(label: str, config: DataConfig, pool: Pool, counts: Counter[str], codes: dict[str, str]) -> Label:
    """Returns the class of a label that an option names."""
    find = pool.listing.find
    found = find(label) if find else None
    if found is None and (label in counts or not config.path):
        found = Label(label, codes.get(label, ""))
    if found is None or (config.path and not counts[found.name]):
        near = difflib.get_close_matches(label, counts, 3, 0) or ["none"]
        raise ConfigError(
            f"--data.labels: {config.path} has no records with {label!r}; nearest: {', '.join(near)}"
        )
    return found


def _summary(pool: Pool, labels: np.ndarray, folds: Sequence[Fold]) -> list[str]:
    notes = []
    none = int((~labels.any(1)).sum())
    if none:
        notes.append(f"{none} of {len(labels)} records are positive for no class")
    for fold in folds:
        label = f"{fold.name}: " if len(folds) > 1 else ""
        sizes = [
            f"{len(part)} records of {len({pool.patients[i] for i in part})} patients to {what}"
            for part, what in (
                (fold.train, "learn from"),
                (fold.validation, "validate on"),
                (fold.test, "test on"),
            )
        ]
        notes.append(label + ", ".join(sizes))
    return notes
