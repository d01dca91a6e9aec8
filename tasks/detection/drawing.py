"""Pictures with what was found, and what is there, drawn in them."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from tasks.detection.data.dataset import Targets
from tasks.detection.results import Detections
from tasks.detection.rle import decode

GOLDEN = 0.618034
"""Steps of the golden ratio around the circle of hues keep any number of colours apart."""
OPACITY = 0.4
"""Of masks."""
LARGEST = 32
"""Largest letters, pixels: those of a large picture would hide its objects."""
SMALLEST = 11
"""Height of letters, pixels."""
Colour = tuple[int, int, int]


def colour_of(label: int) -> Colour:
    """Returns the colour of a class, RGB."""
    # The second turn is darker, as hues come close to the first ones.
    red, green, blue = colorsys.hsv_to_rgb((0.02 + label * GOLDEN) % 1, 0.85, (1.0, 0.75)[label // 8 % 2])
    return round(red * 255), round(green * 255), round(blue * 255)


def draw(
    image: np.ndarray, detections: Detections | None, classes: Sequence[str], truth: Targets | None = None
) -> np.ndarray:
    """Draws boxes with class and score, masks, and the true boxes in white.

    Args:
        image: RGB ``(H, W, 3)`` uint8; it is not changed.
        detections: What was found; the most certain is drawn last.
        classes: Names of the classes.
        truth: What is there; crowds are left out.

    Returns:
        RGB ``(H, W, 3)`` uint8.
    """
    pixels = image.copy()
    if detections is not None and detections.masks is not None:
        for runs, label in zip(detections.masks, detections.labels, strict=True):
            inside = decode(runs)
            blend = (1 - OPACITY) * pixels[inside] + OPACITY * np.array(colour_of(int(label)))
            pixels[inside] = (blend + 0.5).astype(np.uint8)
    picture = Image.fromarray(pixels)
    canvas = ImageDraw.Draw(picture)
    side = max(image.shape[:2])
    width = max(1, round(side / 400))
    if truth is not None:
        for box in truth.boxes[~truth.crowd]:
            _frame(canvas, box, (0, 0, 0), width + 2)
            _frame(canvas, box, (255, 255, 255), width)
    if detections is not None:
        font = _font(min(LARGEST, max(SMALLEST, round(side / 45))))
        for i in reversed(range(len(detections))):
            _frame(canvas, detections.boxes[i], colour_of(int(detections.labels[i])), width + 1)
        # After all frames, which would cross them.
        for i in reversed(range(len(detections))):
            label = int(detections.labels[i])
            text = f"{classes[label]} {detections.scores[i]:.2f}"
            _label(canvas, detections.boxes[i], text, colour_of(label), font, picture.size)
    return np.asarray(picture)


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    # Pillow's own has no letters beyond English ones.
    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", size)


def _frame(canvas: ImageDraw.ImageDraw, box: np.ndarray, colour: Colour, width: int) -> None:
    # Pillow's corners are pixels, and the last one is inside.
    left, top, right, bottom = (round(float(value)) for value in box)
    canvas.rectangle((left, top, max(left, right - 1), max(top, bottom - 1)), outline=colour, width=width)


def _label(
    canvas: ImageDraw.ImageDraw,
    box: np.ndarray,
    text: str,
    colour: Colour,
    font: ImageFont.FreeTypeFont,
    size: tuple[int, int],
) -> None:
    """Writes above the box, inside it where there is no room above, and never beyond the picture."""
    _, _, right, bottom = canvas.textbbox((0, 0), text, font=font)
    width, height = round(right) + 4, round(bottom) + 4
    x = max(0, min(round(float(box[0])), size[0] - width))
    y = round(float(box[1])) - height
    y = y if y >= 0 else max(0, round(float(box[1])))
    canvas.rectangle((x, y, x + width, y + height), fill=colour)
    bright = 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2] > 140
    canvas.text((x + 2, y + 1), text, fill=(0, 0, 0) if bright else (255, 255, 255), font=font)
