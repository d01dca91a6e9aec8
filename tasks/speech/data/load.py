"""Reads the recordings that a configuration names: words, splits and noise."""

from __future__ import annotations

import difflib
import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np

from core.data.cache import Store
from core.data.split import Fold, check_share
from core.errors import ConfigError, DataError
from tasks.speech.config import SILENCE, UNKNOWN, DataConfig
from tasks.speech.data import espeak, synthetic
from tasks.speech.data.assemble import assemble
from tasks.speech.data.audio import RATES, printable
from tasks.speech.data.clips import SpeechData
from tasks.speech.data.folders import LISTS
from tasks.speech.data.gather import noise_files, read_sources
from tasks.speech.data.noise import read_noise
from tasks.speech.data.pool import Pool, append, read_pool, select
from tasks.speech.data.splits import (
    TEST,
    TRAIN,
    UNUSED,
    drop_shared_speakers,
    drop_twins,
    split_folds,
)


def load_data(config: DataConfig) -> SpeechData:
    """Reads, checks and splits the recordings that a configuration names.

    Raises:
        ConfigError: Options contradict each other, or a word is not there.
        DataError: Recordings are missing or cannot be used.
    """
    stored = config.name == "folder" or (config.name == "auto" and bool(config.path or config.test_path))
    if stored and not config.path:
        config = replace(config, folds=0)  # nothing is learned, and all of it is tested
    _check(config)
    if stored:
        path = config.path or config.test_path
        if not path:
            raise ConfigError("--data.name folder needs --data.path FOLDER")
        return _load(config, printable(Path(path).resolve().name))
    name = "synthetic" if config.name == "auto" else config.name
    if config.path:
        raise ConfigError(f"--data.name {name} takes no path; leave --data.name or --data.path out")
    with tempfile.TemporaryDirectory(prefix="skipway-") as temporary:
        return _load(_make(config, name, Path(temporary) / name), name)


def _make(config: DataConfig, name: str, folder: Path) -> DataConfig:
    """Writes recordings of a made data set, and returns where and under which words they are."""
    if name == "synthetic":
        synthetic.write_words(folder)
        return replace(config, path=str(folder))
    words = ["_".join(word.split()) for word in config.words or []]
    spoken = [word.replace("_", " ") for word in words if word not in (config.old_words or [])]
    if not spoken:
        raise ConfigError("--data.name espeak needs --data.words, the words to speak")
    espeak.write_words(folder, spoken)
    return replace(config, path=str(folder), words=words)


def _check(config: DataConfig) -> None:
    check_share(config.test_share)
    if not 0 <= config.validation_share < 1:
        raise ConfigError(f"--data.validation_share {config.validation_share} must lie between 0 and 1")
    if not RATES[0] <= config.rate <= RATES[1]:
        raise ConfigError(f"--data.rate {config.rate} must lie between {RATES[0]} and {RATES[1]} Hz")
    if not 0.05 <= config.duration <= 60:
        raise ConfigError(f"--data.duration {config.duration} must lie between 0.05 and 60 s")
    for option in ("unknown", "silence", "volume"):
        if not 0 <= getattr(config, option) < float("inf"):
            raise ConfigError(f"--data.{option} {getattr(config, option)} must not be negative")
    if config.replay < 0:
        raise ConfigError(f"--data.replay {config.replay} must not be negative")
    if config.least < 1:
        raise ConfigError(f"--data.least {config.least} must be 1 or more")
    if config.words == [] and config.name != "espeak":
        raise ConfigError("--data.words is an empty list; name the words to spot, or leave it out")
    if config.folds < 0 or config.folds == 1:
        raise ConfigError(f"--data.folds {config.folds}: cross-validation needs 2 folds or more; 0 is off")
    for option in ("test_path", "old_path"):
        if config.folds and getattr(config, option):
            raise ConfigError(f"--data.folds and --data.{option} exclude each other; leave one of them out")
    if config.old_path and not config.old_words:
        raise ConfigError(
            "--data.old_path is for new words of a trained model; give --extend.model MODEL too"
        )
    if {SILENCE, UNKNOWN} & {*(config.words or [])}:
        raise ConfigError(
            f"--data.words: {SILENCE} and {UNKNOWN} are no words; --data.silence and --data.unknown are their shares"
        )


def _load(config: DataConfig, name: str) -> SpeechData:
    store = Store(config.memory)
    main = read_pool(config.path, config, store) if config.path else None
    notes: list[str] = []
    words = _choose_words(config, main, notes)
    sources = read_sources(config, main, words, store)
    for source in sources:
        label = f"{Path(source.pool.path).name}: " if len(sources) > 1 else ""
        notes += [f"{label}{note}" for note in source.pool.notes]
    pool, part = sources[0].pool, np.concatenate([source.part for source in sources])
    old = np.repeat([source.old for source in sources], [len(source.part) for source in sources])
    pool.notes = notes
    for source in sources[1:]:
        append(pool, source.pool)
    drop_shared_speakers(pool, part, TEST)
    drop_twins(pool, part)
    keep = np.flatnonzero(part != UNUSED)
    select(pool, keep)
    part, old = part[keep], old[keep]
    folds = split_folds(pool, config, words) if config.folds else [("model", part)]
    if main is not None:
        words = _learnable(config, pool, folds, words, notes)
    noise = read_noise(noise_files(config, sources), config.rate, store)
    classes = _classes(config, words, pool, folds, not noise.made)
    clips, split = assemble(pool, folds, old, classes, config, noise)
    extends = len(config.old_words or [])
    data = SpeechData(
        name, classes, config.rate, clips, split, noise.train, noise.held, notes, extends, noise.made
    )
    _check_test(data)
    data.notes += [*noise.notes, *_summary(config, data), *store.notes()]
    data.notes = [printable(note) for note in data.notes]
    return data


def _choose_words(config: DataConfig, main: Pool | None, notes: list[str]) -> list[str]:
    """Returns the words to spot, without those of a model that is extended."""
    given, old = config.words, {*(config.old_words or [])}
    if main is None:
        if not given:
            raise ConfigError("--data.test_path alone needs --data.words, the words to test")
        return [word for word in dict.fromkeys(given) if word not in old]
    counts = Counter(word for word in main.words if word not in old and word != UNKNOWN)
    if given:
        chosen = [word for word in dict.fromkeys(given) if word not in old]
        for word in chosen:
            if word not in counts:
                near = difflib.get_close_matches(word, counts, 3, 0) or ["none"]
                raise ConfigError(
                    f"--data.words: {config.path} has no recordings of {word!r}; nearest: {', '.join(near)}"
                )
    else:
        chosen = sorted(word for word, count in counts.items() if count >= config.least)
    if not chosen:
        most = ", ".join(f"{word} {count}" for word, count in counts.most_common(3)) or "none"
        kind = "new word" if old else "word"
        raise DataError(
            f"{config.path}: no {kind} has {config.least} recordings (most: {most}); lower --data.least or name the "
            "words by --data.words"
        )
    rare = [f"{word} {count}" for word, count in counts.items() if word not in chosen]
    if rare and not given:
        more = ", ..." if len(rare) > 3 else ""
        notes.append(
            f"{len(rare)} words with fewer than {config.least} recordings are none to spot: {', '.join(rare[:3])}"
            f"{more}; see --data.least"
        )
    return sorted(chosen) if old else chosen


def _learnable(
    config: DataConfig, pool: Pool, folds: list[tuple[str, np.ndarray]], words: list[str], notes: list[str]
) -> list[str]:
    """Returns the words of which every fold has recordings to learn from; words that were named must have some."""
    spoken = np.array(pool.words)
    missing: dict[str, str] = {}
    for name, part in folds:
        learned = {*spoken[part == TRAIN].tolist()}
        if not config.folds and not learned.intersection(words):
            held = "in the test or the validation"
            raise DataError(
                f"{config.path}: no recording is left to learn from: their speakers are all {held}, or they are there "
                f"twice; give recordings of other speakers than those {_held_out(config)}"
            )
        missing |= {word: name for word in words if word not in learned}
    if not missing:
        return words
    word, fold = next(iter(missing.items()))
    if config.words or config.folds:
        where = f" in the fold {fold}" if config.folds else ""
        raise DataError(
            f"{config.path}: no recording of {word!r} to learn from{where}: all are held out or left out; record it "
            "with other speakers, or leave it out of --data.words"
        )
    notes.append(f"none to spot, since all their recordings are held out: {', '.join(missing)}")
    return [word for word in words if word not in missing]


def _held_out(config: DataConfig) -> str:
    if config.test_path:
        return "of --data.test_path"
    return "of the test in --data.old_path" if config.old_path else f"named by {' and '.join(LISTS.values())}"


def _classes(
    config: DataConfig, words: list[str], pool: Pool, folds: list[tuple[str, np.ndarray]], recorded: bool
) -> list[str]:
    if config.old_words:
        return [*config.old_words, *words]
    other = ~np.isin(pool.words, words)
    learned = all((other & (part == TRAIN)).any() for _, part in folds)
    # A model that is tested alone has the classes that its options ask for, whatever is in the folder.
    alone = config.path is None
    silence = [SILENCE] if config.silence and (recorded or alone) else []
    unknown = [UNKNOWN] if config.unknown and (learned or alone) else []
    classes = [*silence, *unknown, *words]
    if len(classes) < 2:
        raise DataError(
            f"{config.path or config.test_path}: {classes[0]} is the only class; give recordings of other words or "
            "of noise"
        )
    return classes


def _check_test(data: SpeechData) -> None:
    tested = np.unique(np.concatenate([data.clips.labels[fold.test] for fold in data.folds]))
    if not len(tested):
        raise DataError(
            "no recording is left to test on; name other words by --data.words, or give more recordings"
        )
    names = {data.classes[label] for label in tested}
    untested = [name for name in data.classes if name not in names]
    if untested:
        data.notes.append(f"no recordings to test on: {', '.join(untested)}")


def _summary(config: DataConfig, data: SpeechData) -> list[str]:
    notes = []
    if data.made_noise:
        reason = (
            ", and there is no class of silence" if config.silence and SILENCE not in data.classes else ""
        )
        notes.append(f"no recordings of noise: white and pink noise are made{reason}; see --data.noise_path")
    if config.old_words and not config.old_path and config.path:
        notes.append("nothing of the old words is rehearsed or tested; --data.old_path is their data")
    if len(data.folds) == 1:
        return [*notes, _sizes(data.folds[0])]
    sizes = [f"{fold.name}: {_sizes(fold)}" for fold in data.folds]
    return [*notes, *sizes]


def _sizes(fold: Fold) -> str:
    return (
        f"{len(fold.train)} to learn from, {len(fold.validation)} to validate on, {len(fold.test)} to test on"
    )
