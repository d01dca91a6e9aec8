"""Made images with known objects: ``python -m tasks.detection.data.synthetic FOLDER``.

Words and shapes, drawn on parts of the photographs inside scikit-image. They are there to try all commands without a
download, and promise nothing about real images: text in a photograph is harder than text on one.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from core.cli import folder_parser, run_folder_command
from core.data.images.files import Picture, read_picture, write_picture
from core.errors import DataError
from core.files import is_new
from core.train.seeds import derive_seed

CLASSES = ("text", "disc", "square", "triangle")
# Of scikit-image's photographs those without writing and without round things; the photographs themselves are split.
PHOTOGRAPHS = {
    "train": (
        "astronaut",
        "coffee",
        "motorcycle_left",
        "ihc",
        "hubble_deep_field",
        "brick",
        "grass",
        "camera",
    ),
    "test": ("chelsea", "moon", "rocket", "gravel"),
}
COUNTS = {"train": 480, "test": 60}
LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"

_EMPTY = 0.05
"""Share of the images without objects."""
_CONTRAST = 110.0
"""Least distance of the mean colours of an object and of what it covers, of the 441 between black and white."""
_OVERLAP = 0.1
"""Two boxes of an image share less than this of the smaller one, so that no object hides another."""
_FINER = 4
"""Shapes are drawn so many times finer and then averaged, which makes their edges smooth."""
_TRIES = 30


@dataclass(frozen=True)
class Stamp:
    """An object before it has a place.

    Attributes:
        cover: ``(h, w)`` float32, share of each pixel that it covers.
        outline: ``(N, 2)`` float64, x and y from the corner of ``cover``, pixels; all of it lies inside.
    """

    cover: np.ndarray
    outline: np.ndarray


@dataclass(frozen=True)
class Thing:
    """An object in an image.

    Attributes:
        name: One of :data:`CLASSES`.
        outline: ``(N, 2)`` float64, x and y, pixels.
    """

    name: str
    outline: np.ndarray

    @property
    def box(self) -> np.ndarray:
        """Left, top, right, bottom."""
        return np.concatenate([self.outline.min(0), self.outline.max(0)])


def write_overlays(
    folder: Path, seed: int = 0, counts: dict[str, int] | None = None, size: int = 256
) -> None:
    """Writes ``train/overlay_000.jpg``, ``train/_annotations.coco.json`` and the same for ``test``.

    Args:
        folder: New or empty folder.
        seed: Same seed, same files.
        counts: Images of each part; :data:`COUNTS` by default. Each depends on its own number alone.
        size: Side of an image, pixels.

    Raises:
        DataError: The folder holds something already, or cannot be written.
    """
    if not is_new(folder):
        raise DataError(f"{folder} is not an empty folder; name a new folder")
    for part, count in (counts or COUNTS).items():
        described: list[tuple[str, list[Thing]]] = []
        for number in range(count):
            rng = np.random.Generator(np.random.PCG64(derive_seed(seed, "overlays", part, number)))
            image, things = draw_overlay(rng, part, size)
            name = f"overlay_{number:03d}.jpg"
            write_picture(folder / part / name, Picture(image))
            described.append((name, things))
        text = json.dumps(_coco(described, size), separators=(",", ":"))
        try:
            (folder / part / "_annotations.coco.json").write_text(text + "\n", encoding="utf-8")
        except OSError as error:
            raise DataError(f"{folder} cannot be written: {error.strerror or error}") from None


def draw_overlay(rng: np.random.Generator, part: str, size: int) -> tuple[np.ndarray, list[Thing]]:
    """Returns an image ``(size, size, 3)`` uint8 and what was drawn on it.

    Args:
        rng: Random numbers.
        part: Key of :data:`PHOTOGRAPHS`.
        size: Side, pixels.
    """
    image = _background(rng, part, size)
    things: list[Thing] = []
    wanted = 0 if rng.uniform() < _EMPTY else int(rng.integers(2, 7))
    for _ in range(wanted):
        name = CLASSES[int(rng.integers(len(CLASSES)))]
        stamp = _STAMPS[name](rng, size)
        corner = _place(rng, stamp, things, size)
        if corner is None:
            continue
        x, y = corner
        height, width = stamp.cover.shape
        under = image[y : y + height, x : x + width]
        opacity = rng.uniform(0.85, 1.0)
        colour = _colour(rng, _mean_colour(under, stamp.cover), opacity)
        cover = opacity * stamp.cover[..., None]
        under += cover * (colour - under)
        things.append(Thing(name, stamp.outline + np.array(corner)))
    return np.floor(image + 0.5).clip(0, 255).astype(np.uint8), things


@cache
def _photograph(name: str) -> Image.Image:
    import skimage.data

    folder = Path(skimage.data.__file__).parent
    path = next(p for p in sorted(folder.glob(f"{name}.*")) if p.suffix in (".png", ".jpg"))
    pixels = read_picture(path).pixels
    return Image.fromarray(pixels if pixels.shape[2] == 3 else np.repeat(pixels, 3, axis=2))


def _background(rng: np.random.Generator, part: str, size: int) -> np.ndarray:
    """Returns a part of a photograph, ``(size, size, 3)`` float32, in another light and perhaps mirrored."""
    names = PHOTOGRAPHS[part]
    picture = _photograph(names[int(rng.integers(len(names)))])
    side = int(rng.uniform(0.4, 1.0) * min(picture.size))
    x, y = (int(rng.integers(extent - side + 1)) for extent in picture.size)
    cut = picture.resize((size, size), Image.Resampling.BILINEAR, (x, y, x + side, y + side), 2.0)
    pixels = np.asarray(cut, np.float32)
    pixels = pixels[:, ::-1] if rng.uniform() < 0.5 else pixels
    return (pixels * rng.uniform(0.75, 1.1) * rng.uniform(0.92, 1.08, 3).astype(np.float32)).clip(0, 255)


def _text(rng: np.random.Generator, size: int) -> Stamp:
    """A word of 3 to 8 letters, turned by up to 12 degrees; its outline is its box."""
    word = "".join(LETTERS[int(i)] for i in rng.integers(len(LETTERS), size=int(rng.integers(3, 9))))
    font = ImageFont.load_default(size=float(rng.uniform(0.1, 0.16) * size))
    # The font is thin; bold letters are what overlays mostly have.
    stroke = max(1, round(size / 256))
    left, top, right, bottom = (int(v) for v in font.getbbox(word, stroke_width=stroke))
    sheet = Image.new("L", (right - left + 4, bottom - top + 4))
    ImageDraw.Draw(sheet).text((2 - left, 2 - top), word, fill=255, font=font, stroke_width=stroke)
    turned = sheet.rotate(float(rng.uniform(-12, 12)), Image.Resampling.BICUBIC, expand=True)
    cover = np.asarray(turned, np.float32) / 255
    rows, columns = (np.flatnonzero((cover > 0.5).any(axis)) for axis in (1, 0))
    # Letters end where less than half of a pixel is theirs; the faint rim around them is no part of the box.
    left, top, right, bottom = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
    return Stamp(cover, np.array([(left, top), (right, top), (right, bottom), (left, bottom)], float))


def _disc(rng: np.random.Generator, size: int) -> Stamp:
    return _regular(rng.uniform(0.05, 0.14) * size, 48, 0.0)


def _square(rng: np.random.Generator, size: int) -> Stamp:
    turn = np.pi / 4 + rng.uniform(-np.pi / 9, np.pi / 9)
    return _regular(rng.uniform(0.07, 0.18) * size, 4, turn)


def _triangle(rng: np.random.Generator, size: int) -> Stamp:
    return _regular(rng.uniform(0.07, 0.18) * size, 3, rng.uniform(0, 2 * np.pi))


def _regular(radius: float, corners: int, turn: float) -> Stamp:
    """Returns a regular polygon."""
    angles = turn + np.arange(corners) * 2 * np.pi / corners
    points = radius * np.stack([np.cos(angles), np.sin(angles)], 1)
    points -= points.min(0)
    width, height = np.ceil(points.max(0)).astype(int)
    sheet = Image.new("L", (_FINER * int(width), _FINER * int(height)))
    # Pillow's coordinates are those of the middles of pixels, ours count from the corner of the image.
    drawn = [(_FINER * x - 0.5, _FINER * y - 0.5) for x, y in points]
    ImageDraw.Draw(sheet).polygon(drawn, fill=255)
    return Stamp(np.asarray(sheet.reduce(_FINER), np.float32) / 255, points)


_STAMPS = {"text": _text, "disc": _disc, "square": _square, "triangle": _triangle}


def _place(rng: np.random.Generator, stamp: Stamp, things: list[Thing], size: int) -> tuple[int, int] | None:
    """Returns left and top of a free place, or ``None`` if none is found."""
    height, width = stamp.cover.shape
    if max(height, width) > size:
        return None
    for _ in range(_TRIES):
        x, y = int(rng.integers(size - width + 1)), int(rng.integers(size - height + 1))
        box = Thing("", stamp.outline + np.array([x, y])).box
        if all(_shared(box, thing.box) < _OVERLAP for thing in things):
            return x, y
    return None


def _shared(a: np.ndarray, b: np.ndarray) -> float:
    """Returns the share of the smaller of two boxes that the other one covers."""
    sides = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    return float(np.prod(sides.clip(0)) / min(np.prod(a[2:] - a[:2]), np.prod(b[2:] - b[:2])))


def _mean_colour(pixels: np.ndarray, cover: np.ndarray) -> np.ndarray:
    return np.tensordot(cover, pixels, 2) / cover.sum()


def _colour(rng: np.random.Generator, under: np.ndarray, opacity: float) -> np.ndarray:
    """Returns a colour ``(3,)`` float32 that can be told from what it covers."""
    for _ in range(_TRIES):
        colour = rng.uniform(0, 255, 3)
        if opacity * np.linalg.norm(colour - under) >= _CONTRAST:
            return colour.astype(np.float32)
    return np.full(3, 255.0 if under.mean() < 128 else 0.0, np.float32)


def _coco(described: list[tuple[str, list[Thing]]], size: int) -> dict[str, Any]:
    """Returns the content of a COCO file; numbers count from 1."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, (name, things) in enumerate(described, 1):
        images.append({"id": number, "file_name": name, "width": size, "height": size})
        for thing in things:
            x, y = thing.outline.T
            # Gauss's area formula.
            area = abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1))) / 2
            left, top, right, bottom = thing.box
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": CLASSES.index(thing.name) + 1,
                    "bbox": [round(float(v), 3) for v in (left, top, right - left, bottom - top)],
                    "area": round(area, 3),
                    "iscrowd": 0,
                    "segmentation": [[round(float(v), 3) for v in thing.outline.ravel()]],
                }
            )
    categories = [{"id": i, "name": name, "supercategory": ""} for i, name in enumerate(CLASSES, 1)]
    return {"images": images, "annotations": annotations, "categories": categories}


def main(argv: list[str] | None = None) -> int:
    """Writes the data set into a folder; returns the exit code."""
    parser = folder_parser(
        "tasks.detection.data.synthetic",
        "Writes photographs with words and shapes drawn on them, and their boxes and outlines as COCO JSON. They "
        "promise nothing about real images.",
    )

    def write(options: argparse.Namespace) -> str:
        write_overlays(options.folder, options.seed)
        return f"overlays in {options.folder}"

    return run_folder_command(parser, write, argv)


if __name__ == "__main__":
    sys.exit(main())
