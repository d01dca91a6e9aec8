"""Parts of an image that differ from what surrounds them, and what they look like; no network."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from skimage.filters import threshold_multiotsu

SIDE = 256
"""Longer side that images are shrunk to, pixels."""
SMALLEST = 12
"""Pixels that a region has at least, of the shrunk image."""
MOST = 200
"""Regions of an image, the largest ones."""
JOINED = (0, 3, 7)
"""Gaps that are bridged, pixels of the shrunk image: letters become words."""
LEVELS = 3
"""Otsu's thresholds of a map."""

Box = tuple[int, int, int, int]
"""Left, top, right, bottom, pixels of the shrunk image."""
Masks = dict[Box, np.ndarray]
"""Regions by their boxes, uint8 of 0 and 1, as large as the box; of several with one box the first."""


@dataclass(frozen=True)
class Regions:
    """Candidates in one image.

    Attributes:
        boxes: ``(N, 4)`` float32: left, top, right, bottom, pixels of the image.
        looks: ``(N, 16)`` float32, see :func:`_look`.
    """

    boxes: np.ndarray
    looks: np.ndarray


def find_regions(image: np.ndarray) -> Regions:
    """Finds connected regions that differ from the background in lightness or colour.

    The background is the median of the image in CIE L*a*b*, and also a median of the surroundings of each pixel. The
    distances from both are cut at Otsu's thresholds (IEEE Trans. SMC 1979; Liao et al., J. Inf. Sci. Eng. 2001, for
    several), small gaps are bridged and holes filled. Maximally stable extremal regions of the lightness (Matas et al.,
    BMVC 2002) come on top.

    Args:
        image: RGB ``(H, W, 3)`` uint8.
    """
    height, width = image.shape[:2]
    scale = min(1.0, SIDE / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    lab = cv2.cvtColor(small.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    masks: Masks = {}
    for foreground in _foregrounds(small, lab):
        for gap in JOINED:
            _add_components(masks, foreground, gap)
    _add_stable(masks, lab)
    ordered = sorted(masks.items(), key=_box_area, reverse=True)[:MOST]
    if not ordered:
        return Regions(np.zeros((0, 4), np.float32), np.zeros((0, 16), np.float32))
    boxes = np.array([box for box, _ in ordered], np.float32)
    looks = np.stack([_look(lab, box, mask) for box, mask in ordered])
    factors = np.array([width / size[0], height / size[1]] * 2, np.float32)
    return Regions(boxes * factors, looks)


def _foregrounds(small: np.ndarray, lab: np.ndarray) -> list[np.ndarray]:
    """Returns what is far from the background at each threshold, ``(H, W)`` bool each."""
    whole = np.linalg.norm(lab - np.median(lab, (0, 1)), axis=2)
    # An odd window of about a third of the image.
    window = max(3, min(small.shape[:2]) // 3 | 1)
    blurred = cv2.medianBlur(small, window).astype(np.float32) / 255
    around = np.linalg.norm(lab - cv2.cvtColor(blurred, cv2.COLOR_RGB2LAB), axis=2)
    found: list[np.ndarray] = []
    for distance in (whole, around):
        # Otsu's method looks at a histogram; whole numbers of it are enough.
        levels = np.round(distance).astype(np.uint8)
        count = min(LEVELS, len(np.unique(levels)) - 1)
        found += [levels > t for t in (threshold_multiotsu(levels, count + 1) if count else ())]
    return found


def _add_components(masks: Masks, foreground: np.ndarray, gap: int) -> None:
    closed: np.ndarray = foreground.astype(np.uint8)
    if gap:
        closed = cv2.morphologyEx(closed, cv2.MORPH_CLOSE, np.ones((1, gap), np.uint8))
    # What touches by a thin bridge falls apart.
    opened = cv2.morphologyEx(closed, cv2.MORPH_OPEN, np.ones((5, 5), np.uint8))
    for layer in (closed, opened):
        outlines, _ = cv2.findContours(layer, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        for outline in outlines:
            left, top, width, height = cv2.boundingRect(outline)
            mask = np.zeros((height, width), np.uint8)
            # Filled: holes belong to the region.
            cv2.drawContours(mask, [outline], -1, 1, cv2.FILLED, offset=(-left, -top))
            _add(masks, (left, top, left + width, top + height), mask)


def _add_stable(masks: Masks, lab: np.ndarray) -> None:
    if min(lab.shape[:2]) < 3:
        return
    lightness = np.clip(lab[..., 0] * 2.55, 0, 255).astype(np.uint8)
    finder = cv2.MSER.create(delta=5, min_area=SMALLEST)
    regions, corners = finder.detectRegions(lightness)
    for points, (left, top, width, height) in zip(map(np.asarray, regions), np.asarray(corners), strict=True):
        mask = np.zeros((height, width), np.uint8)
        mask[points[:, 1] - top, points[:, 0] - left] = 1
        _add(masks, (int(left), int(top), int(left + width), int(top + height)), mask)


def _add(masks: Masks, box: Box, mask: np.ndarray) -> None:
    if np.count_nonzero(mask) >= SMALLEST:
        masks.setdefault(box, mask)


def _box_area(item: tuple[Box, np.ndarray]) -> int:
    left, top, right, bottom = item[0]
    return (right - left) * (bottom - top)


def _look(lab: np.ndarray, box: Box, mask: np.ndarray) -> np.ndarray:
    """Returns what a region looks like: size (4), shape (2), colour (3) and its spread (1), contrast (3), edges (3).

    Sizes are logarithms of shares of the image. Contrast is the difference from the part of the box, enlarged by a
    quarter to each side, outside the region. Edges say which sides of the image the box touches.
    """
    left, top, right, bottom = box
    rows, columns = lab.shape[:2]
    width, height = right - left, bottom - top
    more_x, more_y = width // 4 + 1, height // 4 + 1
    first_x, first_y = max(0, left - more_x), max(0, top - more_y)
    outer = lab[first_y : bottom + more_y, first_x : right + more_x]
    around = np.ones(outer.shape[:2], np.uint8)
    around[top - first_y : bottom - first_y, left - first_x : right - first_x] -= mask
    mean, spread = cv2.meanStdDev(lab[top:bottom, left:right], mask=mask)
    colour = mean[:, 0]
    contrast = colour - cv2.mean(outer, mask=around)[:3] if around.any() else np.zeros(3)
    return np.array(
        [
            np.log(width / columns),
            np.log(height / rows),
            np.log(mask.sum() / (rows * columns)),
            np.log(width / height),
            mask.mean(),
            mask[height // 4 : height - height // 4, width // 4 : width - width // 4].mean(),
            *colour,
            spread.mean(),
            *contrast,
            float(left == 0) + float(right == columns),
            float(top == 0) + float(bottom == rows),
            np.linalg.norm(contrast),
        ],
        np.float32,
    )
