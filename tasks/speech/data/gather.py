"""The folders that a configuration names: words to learn, data of a model that is extended, tests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from core.data.cache import Store
from tasks.speech.config import DataConfig, words_of
from tasks.speech.data.noise import find_noise
from tasks.speech.data.pool import Pool, read_pool
from tasks.speech.data.splits import TEST, TRAIN, split_pool


@dataclass
class Source:
    """A folder of recordings.

    Attributes:
        pool: What is in it.
        part: Part of each, uint8 ``(M,)``.
        old: It is of the model that is extended.
        test: It is for tests alone.
    """

    pool: Pool
    part: np.ndarray
    old: bool = False
    test: bool = False


def read_sources(config: DataConfig, main: Pool | None, words: list[str], store: Store) -> list[Source]:
    """Reads the folders beside the first one; returns all of them.

    Args:
        config: Folders and shares.
        main: Recordings of ``config.path``, if there is one.
        words: Words to spot, without those of a model that is extended.
        store: Keeps the recordings.

    Raises:
        ConfigError: The pattern of the speakers is wrong.
        DataError: A folder cannot be used, or nothing of it can be held out.
    """
    sources: list[Source] = []
    if main is not None:
        part = np.full(len(main.names), TRAIN, np.uint8)
        if not config.folds:
            part = split_pool(main, config, [*words, *(config.old_words or [])], bool(config.test_path))
        sources.append(Source(main, part))
        if config.old_path:
            sources += _read_old(config, config.old_path, store)
    if config.test_path:
        sources.append(_tested(read_pool(config.test_path, config, store)))
    return sources


def noise_files(config: DataConfig, sources: Sequence[Source]) -> list[Path]:
    """Returns the recordings of noise; those of a test folder only where there are no others."""
    if config.noise_path:
        return find_noise(config.noise_path)
    files = [path for source in sources if not source.test for path in source.pool.noise]
    return files or sources[-1].pool.noise


def _read_old(config: DataConfig, path: str, store: Store) -> list[Source]:
    """Reads the data of the model that is extended, split as for its training: its test was never learned from."""
    names = ("test_share", "validation_share", "speaker")
    split = {name: getattr(config, name) for name in names} | (config.old_split or {})
    test = split.get("test_path")
    config = replace(config, path=None, test_path=None, folds=0, **{name: split[name] for name in names})
    pool = read_pool(path, config, store)
    words = words_of(config.old_words or [])
    sources = [Source(pool, split_pool(pool, config, words, bool(test)), old=True)]
    if test and Path(test).is_dir():
        sources.append(_tested(read_pool(test, config, store), old=True))
    elif test:
        pool.notes.append(
            f"nothing of the old words is tested: {test}, the test of their model, is not there"
        )
    return sources


def _tested(pool: Pool, old: bool = False) -> Source:
    return Source(pool, np.full(len(pool.names), TEST, np.uint8), old, test=True)
