"""Ways in which arrays and recordings go bad."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tests.faults.inputs.damage import Damage

# ---------------------------------------------------------------- arrays


def _array(change: Callable[[np.ndarray, random.Random], np.ndarray]) -> Damage:
    def damage(path: Path, rng: random.Random) -> None:
        values = change(np.load(path), rng)
        with path.open("wb") as file:
            np.save(file, values)

    return damage


def _fill(value: float) -> Callable[[np.ndarray, random.Random], np.ndarray]:
    def change(values: np.ndarray, rng: random.Random) -> np.ndarray:
        return np.full(values.shape, value, np.result_type(values, np.float32))

    return change


def _spot(value: float) -> Callable[[np.ndarray, random.Random], np.ndarray]:
    def change(values: np.ndarray, rng: random.Random) -> np.ndarray:
        values = values.astype(np.result_type(values, np.float32))
        values.flat[rng.randrange(values.size)] = value
        return values

    return change


def _flat(values: np.ndarray, rng: random.Random) -> np.ndarray:
    return values.reshape(-1)


def _deeper(values: np.ndarray, rng: random.Random) -> np.ndarray:
    return values[None]


def _turned(values: np.ndarray, rng: random.Random) -> np.ndarray:
    return values.T


def _none(values: np.ndarray, rng: random.Random) -> np.ndarray:
    return values[:0]


def _one(values: np.ndarray, rng: random.Random) -> np.ndarray:
    return values[(slice(0, 1),) * values.ndim]


def _scalar(values: np.ndarray, rng: random.Random) -> np.ndarray:
    return values.reshape(-1)[0]


def _words(values: np.ndarray, rng: random.Random) -> np.ndarray:
    return np.array(["a", "b"])


def _kind(kind: str) -> Callable[[np.ndarray, random.Random], np.ndarray]:
    def change(values: np.ndarray, rng: random.Random) -> np.ndarray:
        return values.real.astype(kind)

    return change


ARRAY: dict[str, Damage] = {
    "NaN throughout": _array(_fill(np.nan)),
    "constant": _array(_fill(3.0)),
    "huge": _array(_fill(1e30)),
    "one NaN": _array(_spot(np.nan)),
    "one infinity": _array(_spot(np.inf)),
    "one huge value": _array(_spot(1e38)),
    "one axis": _array(_flat),
    "an axis more": _array(_deeper),
    "transposed": _array(_turned),
    "without samples": _array(_none),
    "one sample": _array(_one),
    "a single number": _array(_scalar),
    "words": _array(_words),
    "whole numbers": _array(_kind("int64")),
    "half precision": _array(_kind("float16")),
    "booleans": _array(_kind("bool")),
    "dates": _array(_kind("datetime64[s]")),
}

# ---------------------------------------------------------------- recordings


def _sound(
    change: Callable[[np.ndarray], np.ndarray], rate: int | None = None, kind: str = "FLOAT"
) -> Damage:
    def damage(path: Path, rng: random.Random) -> None:
        import soundfile

        samples, own = soundfile.read(path)
        soundfile.write(path, change(samples), rate or own, format="WAV", subtype=kind)

    return damage


def _silent(samples: np.ndarray) -> np.ndarray:
    return 0 * samples


def _not_a_number(samples: np.ndarray) -> np.ndarray:
    return np.where(np.arange(len(samples)) % 9 == 0, np.nan, samples)


def _loud(samples: np.ndarray) -> np.ndarray:
    return samples * 1e30


def _nothing(samples: np.ndarray) -> np.ndarray:
    return samples[:0]


def _short(samples: np.ndarray) -> np.ndarray:
    return samples[:1]


def _eight(samples: np.ndarray) -> np.ndarray:
    return np.repeat(samples[:, None], 8, axis=1)


def _as_is(samples: np.ndarray) -> np.ndarray:
    return samples


SOUND: dict[str, Damage] = {
    "silent": _sound(_silent),
    "NaN": _sound(_not_a_number),
    "huge": _sound(_loud),
    "without samples": _sound(_nothing),
    "one sample": _sound(_short),
    "eight channels": _sound(_eight),
    "rate 1 Hz": _sound(_as_is, 1),
    "rate 44,100 Hz": _sound(_as_is, 44_100),
    "rate 2,000,000 Hz": _sound(_as_is, 2_000_000),
    "8 bit": _sound(_as_is, kind="PCM_U8"),
    "double precision": _sound(_as_is, kind="DOUBLE"),
    "mu-law": _sound(_as_is, kind="ULAW"),
}
