"""Reads the records that a configuration names: layouts, classes and splits."""

from __future__ import annotations

import difflib
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from core.data.cache import Store
from core.data.split import Fold
from core.errors import ConfigError, DataError
from tasks.ecg.config import DataConfig
from tasks.ecg.data import synthetic
from tasks.ecg.data.challenge import class_key, same_class
from tasks.ecg.data.checks import check_options, drop_twins, rare_notes, unique_names
from tasks.ecg.data.dataset import EcgData
from tasks.ecg.data.gather import Pool, read_pool
from tasks.ecg.data.leads import wanted_leads
from tasks.ecg.data.listing import Label
from tasks.ecg.data.split import split_records

DEALT = 5
"""Records of a label from which on the split gives each side its share."""


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
    store = Store(config.memory)
    pools = [read_pool(Path(path), config, store) for path in (config.path,) if path]
    pools += [read_pool(Path(path), config, store, tested=True) for path in (config.test_path,) if path]
    pool = pools[0]
    first = len(pool.entries) if config.path else 0
    if len(pools) > 1:
        _append(pool, pools[1])
    tested = len(pool.entries) - first
    drop_twins(pool, first)
    first = len(pool.entries) - tested
    if config.path and not first:
        raise DataError(
            f"{config.path}: no record is left to learn from; all are those of {config.test_path}"
        )
    classes = _choose(config, pool, pool.labels[:first] if config.path else pool.labels)
    if pool.listing.explain:
        pool.notes += pool.listing.explain(pool.codes, classes)
    # Each side has its own names of the classes.
    labels = np.concatenate(
        [_positives(side, classes) for side in (pool.labels[:first], pool.labels[first:])]
    )
    official = [entry.fold for entry in pool.entries]
    folds, notes = split_records(pool.patients, _stratifying(pool.labels), official, first, config)
    learned, held = (
        np.unique(np.concatenate([getattr(fold, part) for fold in folds])) for part in ("train", "test")
    )
    names = [label.name for label in classes]
    rare = rare_notes(names, labels, learned, held)
    notes = [*pool.notes, *notes, *rare, *_summary(pool, labels, folds), *store.notes()]
    if pool.synthetic:
        notes.insert(0, "the records are synthetic: they promise nothing about real electrocardiograms")
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
    pool.listing.codes = other.listing.codes | pool.listing.codes
    pool.synthetic |= other.synthetic
    pool.notes += [f"{other.listing.folder.name}: {note}" for note in other.notes]


def _positives(labels: Sequence[Sequence[str]], classes: Sequence[Label]) -> np.ndarray:
    """Returns which records are positive for which classes, whatever name of a class the records have."""
    names = {label for found in labels for label in found}
    meant = [{*same_class(label.name, names)} for label in classes]
    rows = [[not each.isdisjoint(found) for each in meant] for found in labels]
    return np.array(rows, bool).reshape(len(labels), len(classes))


def _stratifying(labels: Sequence[Sequence[str]]) -> np.ndarray:
    """Returns which records have which labels that are frequent enough to be dealt out, ``(records, labels)``.

    Labels that are no classes are among them: the split is the same for all choices of classes.
    """
    found = [{class_key(label) for label in each} for each in labels]
    counts = Counter(key for each in found for key in each)
    keys = sorted(key for key, count in counts.items() if count >= DEALT)
    return np.array([[key in each for key in keys] for each in found], bool).reshape(len(labels), len(keys))


def _choose(config: DataConfig, pool: Pool, labels: Sequence[Sequence[str]]) -> list[Label]:
    """Returns the classes: those that are named, or else those with enough positive records.

    Args:
        config: Names them, or says how many are enough.
        pool: What was read; a note is added.
        labels: Of the records that are counted.
    """
    listing = pool.listing
    counts = Counter(label for found in labels for label in found)
    if config.labels:
        return _named(config, pool, counts)
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
        pool.notes.append(
            f"{len(few)} labels with fewer than {config.least} records are no classes: {', '.join(few[:6])}{more}; "
            "see --data.least"
        )
    find = listing.find
    found = [find(name) if find else None for name in chosen]
    return [
        label or Label(name, listing.codes.get(name, "")) for name, label in zip(chosen, found, strict=True)
    ]


def _named(config: DataConfig, pool: Pool, counts: Counter[str]) -> list[Label]:
    """Returns the classes of the labels that options name, each once, under the names that these give.

    An abbreviation or a code is written out where the layout has codes.
    """
    classes: dict[tuple[str, ...], Label] = {}
    for label in config.labels or []:
        found = pool.listing.find(label) if pool.listing.find else None
        name = found.name if found else label
        same = same_class(name, counts)
        if config.path and not same:
            near = difflib.get_close_matches(label, counts, 3, 0) or ["none"]
            raise ConfigError(
                f"--data.labels: {config.path} has no records with {label!r}; nearest: {', '.join(near)}"
            )
        code = (
            found.code
            if found
            else next((pool.listing.codes[n] for n in same if n in pool.listing.codes), "")
        )
        if name.lower() == label.lower():
            name = label
        classes.setdefault(tuple(same or [class_key(name)]), Label(name, code))
    return list(classes.values())


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
