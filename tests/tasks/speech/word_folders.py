"""Small folders of recordings in the layouts that are read, and what is asked of the data made of them."""

from __future__ import annotations

import re

import numpy as np
import soundfile

from tasks.speech.config import DataConfig
from tasks.speech.data.load import load_data

RATE, LENGTH = 4000, 400
SPEAKERS = [f"{number:08x}" for number in range(100, 120)]


def sound(name, length=LENGTH):
    """A recording that depends on its name alone."""
    rng = np.random.default_rng([*name.encode()])
    return (0.1 * rng.standard_normal(length)).astype(np.float32)


def save(path, samples=None, rate=RATE, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(
        path, sound(f"{path.parent.name}/{path.name}") if samples is None else samples, rate, **options
    )


def commands(path, words=("bed", "cat", "dog"), speakers=SPEAKERS, ending="wav", noise=True, rare=()):
    """Writes the layout of Speech Commands, without lists."""
    for word in words:
        for speaker in speakers:
            save(path / word / f"{speaker}_nohash_0.{ending}")
    for word in rare:
        for speaker in speakers[:5]:
            save(path / word / f"{speaker}_nohash_0.{ending}")
    if noise:
        for name in ("tap", "bike"):
            save(path / "_background_noise_" / f"{name}.wav", sound(name, 10 * RATE))
    return path


def digits(path, words=3, speakers=("ann", "bob", "cid", "dee"), takes=8):
    """Writes the layout of FSDD."""
    for word in range(words):
        for speaker in speakers:
            for take in range(takes):
                save(path / f"{word}_{speaker}_{take}.wav")
    return path


def read(path=None, **options):
    options = {"rate": RATE, "duration": LENGTH / RATE, "least": 10, **options}
    return load_data(DataConfig(path=str(path) if path else None, **options))


def parts(data, fold=0):
    fold = data.folds[fold]
    return [{data.clips.names[i] for i in part} for part in (fold.train, fold.validation, fold.test)]


def who(data, fold=0):
    fold = data.folds[fold]
    return [{data.clips.speakers[i] for i in p} - {""} for p in (fold.train, fold.validation, fold.test)]


def counts(data, part):
    names = [data.classes[label] for label in data.clips.labels[part]]
    return {name: names.count(name) for name in data.classes if name in names}


def told(data, pattern):
    return [note for note in data.notes if re.search(pattern, note)]
