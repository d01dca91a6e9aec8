"""Ways in which pictures and volumes go bad."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tests.faults.inputs.damage import Damage

# ---------------------------------------------------------------- pictures


def _picture(change: Callable[[np.ndarray], np.ndarray]) -> Damage:
    def damage(path: Path, rng: random.Random) -> None:
        from PIL import Image

        with Image.open(path) as image:
            values = change(np.asarray(image))
        Image.fromarray(values).save(path, format="PNG")

    return damage


def _mode(mode: str, kind: str = "PNG") -> Damage:
    def damage(path: Path, rng: random.Random) -> None:
        from PIL import Image

        with Image.open(path) as image:
            if image.mode == "I;16":
                image = image.point(lambda v: v / 256, "L")
            other = image.convert(mode)
        other.save(path, format=kind)

    return damage


def _pixel(values: np.ndarray) -> np.ndarray:
    return values[:1, :1]


def _line(values: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(values[:1])


def _even(values: np.ndarray) -> np.ndarray:
    return np.full_like(values, 77)


def _thin(values: np.ndarray) -> np.ndarray:
    return np.tile(values[:2], (1, 60) + (1,) * (values.ndim - 2))


PICTURE: dict[str, Damage] = {
    "one pixel": _picture(_pixel),
    "one line of pixels": _picture(_line),
    "constant": _picture(_even),
    "2 pixels high": _picture(_thin),
    "one bit a pixel": _mode("1"),
    "with a palette": _mode("P"),
    "with transparency": _mode("RGBA"),
    "gray with transparency": _mode("LA"),
    "floating point": _mode("F", "TIFF"),
    "32 bit": _mode("I", "TIFF"),
    "CMYK": _mode("CMYK", "TIFF"),
    "YCbCr": _mode("YCbCr", "JPEG"),
    "a GIF": _mode("L", "GIF"),
}

# ---------------------------------------------------------------- volumes


def _volume(change: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]) -> Damage:
    def damage(path: Path, rng: random.Random) -> None:
        import nibabel

        image = nibabel.load(path)
        values, affine = change(np.asarray(image.dataobj), image.affine)
        nibabel.Nifti1Image(values, affine).to_filename(path)

    return damage


Pair = tuple[np.ndarray, np.ndarray]


def _placed(value: float) -> Damage:
    def damage(path: Path, rng: random.Random) -> None:
        import nibabel

        image = nibabel.load(path)
        other = nibabel.Nifti1Image(np.asarray(image.dataobj), None, image.header)
        for name in ("srow_x", "srow_y", "srow_z"):
            other.header[name] = value
        other.header["sform_code"], other.header["qform_code"] = 1, 0
        other.to_filename(path)

    return damage


def _nan(values: np.ndarray, affine: np.ndarray) -> Pair:
    return np.full(values.shape, np.nan, np.float32), affine


def _some_nan(values: np.ndarray, affine: np.ndarray) -> Pair:
    values = values.astype(np.float32)
    values[0] = np.inf
    return values, affine


def _level(values: np.ndarray, affine: np.ndarray) -> Pair:
    return np.full_like(values, 5), affine


def _enormous(values: np.ndarray, affine: np.ndarray) -> Pair:
    return values.astype(np.float64) * 1e200, affine


def _series(values: np.ndarray, affine: np.ndarray) -> Pair:
    return np.stack([values, values, values], axis=-1), affine


def _slice(values: np.ndarray, affine: np.ndarray) -> Pair:
    return values[:, :, :1], affine


def _tiny(values: np.ndarray, affine: np.ndarray) -> Pair:
    return values[:1, :1, :1], affine


def _far(values: np.ndarray, affine: np.ndarray) -> Pair:
    return values, np.diag([1e-6, 1e6, 1.0, 1.0])


def _fractions(values: np.ndarray, affine: np.ndarray) -> Pair:
    return values.astype(np.float32) + 0.5, affine


def _negative(values: np.ndarray, affine: np.ndarray) -> Pair:
    return -values.astype(np.int16), affine


VOLUME: dict[str, Damage] = {
    "NaN throughout": _volume(_nan),
    "some infinite": _volume(_some_nan),
    "constant": _volume(_level),
    "huge": _volume(_enormous),
    "three volumes": _volume(_series),
    "one slice": _volume(_slice),
    "an affine of zeros": _placed(0),
    "an affine of NaN": _placed(np.nan),
    "one voxel": _volume(_tiny),
    "voxels of 1e-6 and 1e6 mm": _volume(_far),
    "halves": _volume(_fractions),
    "negative": _volume(_negative),
}
