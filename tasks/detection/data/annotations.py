"""What readers of all formats share: rows become arrays, and bad rows become notes."""

from __future__ import annotations

import os
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tasks.detection.data.dataset import ImageSet
from tasks.detection.data.headers import Header, read_headers, turn_points
from tasks.detection.data.notes import Notes
from tasks.detection.data.outlines import pick_outlines, ring_areas

ROUNDING = 0.01
"""Boxes reach this far beyond their image without a word, pixels: text files round."""


class _Image(NamedTuple):
    file: Path
    source: str
    identifier: int | None
    declared: tuple[int, int] | None


class AnnotationBuilder:
    """Collects the images and rows of one part; no Python object is kept for a row.

    Args:
        row: What a row of the files is called in notes: line, or annotation.
        notes: Where notes go.
        relative: Boxes and outlines are given as shares of the image's sides, not in pixels.
    """

    def __init__(self, row: str, notes: Notes, relative: bool = False) -> None:
        self.row = row
        self.notes = notes
        self.relative = relative
        self.images: list[_Image] = []
        self._image = array("q")
        self._label = array("q")
        self._box = array("d")
        self._crowd = array("b")
        self._area = array("d")
        self._row = array("q")
        self._points = array("f")
        self._lengths = array("q")
        self._rings = array("q")

    def image(
        self, file: Path, source: str, identifier: int | None = None, declared: tuple[int, int] | None = None
    ) -> int:
        """Adds an image, with or without objects.

        Args:
            file: Where it is.
            source: The annotation file, for notes.
            identifier: Its number in the COCO sense; ``None`` counts from 1.
            declared: Width and height that the annotations tell; ``None`` or zeros where they do not.

        Returns:
            Its position, for :meth:`add`.
        """
        known = declared if declared is not None and min(declared) > 0 else None
        self.images.append(_Image(file, source, identifier, known))
        return len(self.images) - 1

    def add(
        self,
        image: int,
        label: int,
        box: Sequence[float],
        row: int,
        crowd: bool = False,
        area: float = float("nan"),
        rings: Sequence[np.ndarray] = (),
    ) -> None:
        """Adds an object; whether it can be used is found out in :meth:`build`.

        Args:
            image: Position of its image.
            label: Position of its class.
            box: Left, top, right, bottom; NaN for what is no number.
            row: Line, or number of the annotation.
            crowd: Not to be learned.
            area: Of the object, pixels; NaN where the file does not tell.
            rings: Its outline, each ring ``(N, 2)``.
        """
        self._image.append(image)
        self._label.append(label)
        self._box.extend(box)
        self._crowd.append(crowd)
        self._area.append(area)
        self._row.append(row)
        self._rings.append(len(rings))
        for ring in rings:
            self._lengths.append(len(ring))
            self._points.frombytes(np.ascontiguousarray(ring, np.float32).tobytes())

    def where(self, image: int, row: int) -> str:
        """Returns the words that lead a user to a row."""
        return f"{self.images[image].source} {self.row} {row}"

    def relabel(self, labels: Sequence[int]) -> None:
        """Replaces each label by ``labels[label]``."""
        self._label = array("q", [labels[label] for label in self._label])

    def used(self) -> set[int]:
        """Returns the labels that occur."""
        return set(self._label)

    @property
    def outlined(self) -> bool:
        """Whether any object has an outline."""
        return len(self._lengths) > 0

    def build(self, root: Path, outlines: bool) -> ImageSet:
        """Checks all rows against the images and makes arrays of them.

        Args:
            root: Folder that all images lie below.
            outlines: Whether the set gets polygons.

        Returns:
            The images that can be read, in the order in which they were added, and their objects.
        """
        headers = read_headers([item.file for item in self.images])
        ready = [self._ready(item, header) for item, header in zip(self.images, headers, strict=True)]
        image, boxes = _array(self._image, np.int64), _array(self._box, np.float64).reshape(-1, 4)
        points = _array(self._points, np.float32).reshape(-1, 2)
        lengths, counts = _array(self._lengths, np.int64), _array(self._rings, np.int64)
        usable = np.array([header is not None for header in ready], bool)
        sizes = np.array([header.upright if header else (1, 1) for header in ready], np.int32).reshape(-1, 2)
        scale = sizes.astype(np.float64)
        of_point = np.repeat(np.repeat(image, counts), lengths)
        if self.relative:
            boxes = boxes * np.tile(scale[image], 2)
            points = (points * scale[of_point]).astype(np.float32)
        boxes, points = self._turned(ready, scale, image, boxes, of_point, points)
        keep, boxes, cut = self._checked(usable[image], scale, boxes)
        masks = ring_areas(points, lengths, counts)
        area = self._areas(boxes, masks, cut)
        order = np.nonzero(keep)[0]
        order = order[np.argsort(image[order], kind="stable")]
        position = np.cumsum(usable) - 1
        names = [item.file.relative_to(root).as_posix() for item in self._kept(usable)]
        ids = [item.identifier for item in self._kept(usable)]
        numbered = None not in ids and len(set(ids)) == len(ids)
        start = np.zeros(len(names) + 1, np.int64)
        np.cumsum(np.bincount(position[image[order]], minlength=len(names)), out=start[1:])
        return ImageSet(
            root,
            np.array(names, dtype=str),
            sizes[usable],
            np.array(ids if numbered else range(1, len(ids) + 1), np.int64),
            start,
            boxes[order].astype(np.float32),
            _array(self._label, np.int64)[order],
            _array(self._crowd, np.int8)[order].astype(bool),
            area[order].astype(np.float32),
            pick_outlines(points, lengths, counts, order) if outlines else None,
        )

    def _kept(self, usable: np.ndarray) -> list[_Image]:
        return [item for item, good in zip(self.images, usable, strict=True) if good]

    def _ready(self, item: _Image, header: Header | None) -> Header | None:
        """Returns the header if the image can be used, with the turn that its boxes still need."""
        if header is None:
            self.notes.add("image", "that cannot be read, dropped", str(item.file))
            return None
        if header.orientation == 1 and item.declared in (None, header.upright):
            return header
        if item.declared in (None, header.upright):
            what = "with an EXIF turn, boxes taken as drawn on the upright image"
            self.notes.add("image", what, str(item.file))
            return Header(*header.upright, 1)
        stored = (header.width, header.height)
        if item.declared == stored:
            what = "with an EXIF turn, boxes turned with it"
            self.notes.add("image", what, str(item.file))
            return header
        assert item.declared is not None
        sides, said = "x".join(map(str, stored)), "x".join(map(str, item.declared))
        what = "of another size than annotated, dropped"
        self.notes.add("image", what, f"{item.file} is {sides}, {item.source} tells {said}")
        return None

    def _turned(
        self,
        ready: list[Header | None],
        scale: np.ndarray,
        image: np.ndarray,
        boxes: np.ndarray,
        of_point: np.ndarray,
        points: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray]:
        codes = np.array([header.orientation if header else 1 for header in ready], np.int64)
        for code in np.unique(codes[codes > 1]).tolist():
            rows, parts = np.flatnonzero(codes[image] == code), np.flatnonzero(codes[of_point] == code)
            sizes = scale[image[rows]]
            first = _turn_each(boxes[rows, :2], sizes, code)
            second = _turn_each(boxes[rows, 2:], sizes, code)
            # A box that was inverted in the file must stay so: the turn alone exchanges the sides.
            wrong = (boxes[rows, 2:] <= boxes[rows, :2]).any(1, keepdims=True)
            upright = np.concatenate([np.minimum(first, second), np.maximum(first, second)], axis=1)
            boxes[rows] = np.where(wrong, 0, upright)
            points[parts] = _turn_each(points[parts], scale[of_point[parts]], code)
        return boxes, points

    def _checked(
        self, usable: np.ndarray, scale: np.ndarray, boxes: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns which rows are kept, the boxes cut to their images, and which were cut."""
        image = _array(self._image, np.int64)
        keep = usable.copy()
        keep &= ~self._note(
            keep & ~np.isfinite(boxes).all(1), "box", "with a value that is no number, dropped"
        )
        flat = ((boxes[:, 2:] - boxes[:, :2]) <= 0).any(1)
        keep &= ~self._note(keep & flat, "box", "without area, dropped")
        limits = np.tile(scale[image], 2)
        cut_boxes = np.clip(boxes, 0, limits).astype(np.float32).astype(np.float64)
        beyond = (np.abs(cut_boxes - boxes) > ROUNDING).any(1) & keep
        gone = ((cut_boxes[:, 2:] - cut_boxes[:, :2]) <= 0).any(1)
        keep &= ~self._note(keep & gone, "box", "outside of the image, dropped")
        cut = self._note(keep & beyond, "box", "reaching beyond the image, cut to it")
        keep &= ~self._note(self._repeated(keep, image, cut_boxes), "box", "given twice, dropped once")
        return keep, cut_boxes, cut

    def _repeated(self, keep: np.ndarray, image: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        label, crowd = _array(self._label, np.int64), _array(self._crowd, np.int8)
        rows = np.nonzero(keep)[0]
        keys = np.column_stack([image[rows], label[rows], crowd[rows], boxes[rows]])
        # The sort is stable, so that the first of equal rows is the one that stays.
        order = np.lexsort(keys.T[::-1])
        same = (keys[order][1:] == keys[order][:-1]).all(1)
        repeated = np.zeros(len(image), bool)
        repeated[rows[order[1:][same]]] = True
        return repeated

    def _note(self, rows: np.ndarray, noun: str, what: str) -> np.ndarray:
        found = np.nonzero(rows)[0]
        if len(found):
            first = self.where(self._image[found[0]], self._row[found[0]])
            self.notes.add(noun, what, first, len(found))
        return rows

    def _areas(self, boxes: np.ndarray, masks: np.ndarray, cut: np.ndarray) -> np.ndarray:
        told = _array(self._area, np.float64)
        sides = np.maximum(boxes[:, 2:] - boxes[:, :2], 0)
        own = np.where(masks > 0, masks, sides[:, 0] * sides[:, 1])
        # What the file tells of a box that was cut is the area of the whole box.
        trusted = np.isfinite(told) & (told > 0) & ~(cut & (masks <= 0))
        return np.where(trusted, told, own)


def common_folder(files: Sequence[Path]) -> Path:
    """Returns the deepest folder that all files lie below."""
    return Path(os.path.commonpath([file.parent for file in files]))


def _turn_each(points: np.ndarray, upright: np.ndarray, code: int) -> np.ndarray:
    """Turns points ``(N, 2)`` of images of one orientation, each with its image's upright sides ``(N, 2)``."""
    # In an image without sides a turn only swaps and negates; the origin of a unit image tells which side to add.
    moved = turn_points(np.zeros((1, 2)), Header(1, 1, code))
    return turn_points(points, Header(0, 0, code)) + moved * upright


def _array(values: array[int] | array[float], kind: type) -> np.ndarray:
    return np.array(values, dtype=kind)
