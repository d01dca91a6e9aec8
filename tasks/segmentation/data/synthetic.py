"""Made images and volumes with known labels: ``python -m tasks.segmentation.data.synthetic FOLDER --kind organs``.

They are there to try all commands without a download, and promise nothing about real images: a model that was trained
on them finds no real cells and no real organs.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from scipy import ndimage

from core.cli import folder_parser, run_folder_command
from core.data.images.files import Picture, write_picture
from core.errors import DataError
from core.files import is_new
from core.train.seeds import derive_seed

ORGANS = ("head", "tail")
"""Classes of the volumes, from 1."""
Shape = tuple[int, int, int]

_DEBRIS = 3.0
"""Largest radius of what is no cell, pixels."""


def write_cells(folder: Path, seed: int = 0, cases: int = 24, size: int = 96) -> None:
    """Writes ``images/cell_000.png`` (8 bit) and ``labels/cell_000.png`` (16 bit, the number of the cell), and so on.

    Round cells of varying size and brightness that touch each other, some hardly brighter than the uneven background,
    blurred and noisy, among debris as bright as cells. One threshold for an image cannot find them all.

    Args:
        folder: New or empty folder.
        seed: Same seed, same files.
        cases: Number of images; each depends on its own number alone.
        size: Side of an image, pixels.

    Raises:
        DataError: The folder holds something already, or cannot be written.
    """
    _must_be_new(folder)
    for number in range(cases):
        rng = _random_of(seed, "cells", number)
        image, labels = draw_cells(rng, size)
        name = f"cell_{number:03d}.png"
        for kind, pixels in (("images", image), ("labels", labels)):
            write_picture(folder / kind / name, Picture(pixels[..., None]))


def draw_cells(rng: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns an image ``(size, size)`` uint8 and the numbers of its cells ``(size, size)`` uint16, 0 elsewhere."""
    rows, columns = np.mgrid[:size, :size].astype(float)
    labels = np.zeros((size, size), np.uint16)
    light = np.zeros((size, size))
    wanted = max(3, round(rng.uniform(0.8, 1.5) * 24 * (size / 96) ** 2))
    for y, x, radius in _places(rng, size, wanted):
        inside, depth = _blob(rng, rows - y, columns - x, radius)
        # The older cell keeps what both claim, so that they touch and never overlap.
        inside &= labels == 0
        if inside.sum() < 12:
            continue
        labels[inside] = labels.max() + 1
        # A third of the cells is dim; all are a little darker at the rim.
        bright = rng.uniform(0.16, 0.3) if rng.uniform() < 0.35 else rng.uniform(0.35, 0.85)
        light[inside] = bright * (0.75 + 0.25 * np.sqrt(depth[inside]))
    for _ in range(round(rng.uniform(4, 12) * (size / 96) ** 2)):
        y, x = rng.uniform(0, size, 2)
        speck = (rows - y) ** 2 + (columns - x) ** 2 < rng.uniform(0.6, _DEBRIS) ** 2
        light[speck & (labels == 0)] = rng.uniform(0.3, 0.9)
    fields = (_smooth_field(rng, (size, size), size / 3) for _ in range(2))
    uneven, mottle = (0.16 + 0.07 * next(fields)), 0.03 * next(fields)
    sharp = ndimage.gaussian_filter(light, rng.uniform(0.6, 1.1))
    image = (sharp + uneven.clip(0.02) + mottle) * rng.uniform(0.7, 1.0)
    image = image + rng.normal(0, rng.uniform(0.03, 0.06), image.shape)
    return np.round(image.clip(0, 1) * 255).astype(np.uint8), _numbered(labels)


def _places(rng: np.random.Generator, size: int, wanted: int) -> Iterator[tuple[float, float, float]]:
    """Yields row, column and radius of cells; two of three lie against one that was placed before."""
    placed: list[tuple[float, float, float]] = []
    for _ in range(wanted):
        radius = float(np.clip(rng.lognormal(np.log(6.5), 0.25), 4, 11))
        y, x = rng.uniform(0, size, 2)
        if placed and rng.uniform() < 0.67:
            near_y, near_x, near = placed[rng.integers(len(placed))]
            angle, distance = rng.uniform(0, 2 * np.pi), 0.9 * (near + radius)
            y, x = near_y + distance * np.sin(angle), near_x + distance * np.cos(angle)
        # Cells cut by the border are kept, heaps of cells are not.
        if not (0 <= y < size and 0 <= x < size):
            continue
        if any(np.hypot(y - v, x - u) < 0.8 * (radius + r) for v, u, r in placed):
            continue
        placed.append((y, x, radius))
        yield y, x, radius


def _blob(
    rng: np.random.Generator, dy: np.ndarray, dx: np.ndarray, radius: float
) -> tuple[np.ndarray, np.ndarray]:
    """Returns where a roundish shape is, and the depth in it: 0 at the rim, 1 in the middle."""
    angle = np.arctan2(dy, dx)
    edge = np.full(dy.shape, 1.0)
    for waves, strength in ((2, 0.14), (3, 0.07), (5, 0.03)):
        edge += strength * rng.normal() * np.cos(waves * angle + rng.uniform(0, 2 * np.pi))
    depth = 1 - np.hypot(dy, dx) / (radius * edge.clip(0.6, 1.4))
    return depth > 0, depth


def _numbered(labels: np.ndarray) -> np.ndarray:
    """Keeps the largest piece of each cell, which a neighbour may have cut in two, and counts without gaps."""
    result = np.zeros_like(labels)
    for number in np.unique(labels[labels > 0]):
        pieces, _ = ndimage.label(labels == number)
        largest = pieces == np.bincount(pieces[pieces > 0]).argmax()
        result[largest] = result.max() + 1
    return result


def write_organs(folder: Path, seed: int = 0, cases: int = 16, shape: Shape = (24, 40, 32)) -> None:
    """Writes an nnU-Net raw folder of volumes: ``imagesTr/organ_000_0000.nii.gz``, ``labelsTr/organ_000.nii.gz``.

    Two organs of nearly equal brightness lie next to each other, in a pose and size of their own in each volume, among
    other things that are as bright. Spacings differ between volumes and between axes, the light is uneven, and the
    scale of the intensities varies over orders of magnitude, as that of MRI does.

    Args:
        folder: New or empty folder.
        seed: Same seed, same voxels and same files.
        cases: Number of volumes; each depends on its own number alone.
        shape: ``(Z, Y, X)`` voxels.

    Raises:
        DataError: The folder holds something already, or cannot be written.
    """
    _must_be_new(folder)
    try:
        for name in ("imagesTr", "labelsTr"):
            (folder / name).mkdir(parents=True)
        for number in range(cases):
            image, labels, spacing = draw_organs(_random_of(seed, "organs", number), shape)
            _write_volume(folder / "imagesTr" / f"organ_{number:03d}_0000.nii.gz", image, spacing)
            _write_volume(folder / "labelsTr" / f"organ_{number:03d}.nii.gz", labels, spacing)
        description = {
            "channel_names": {"0": "MRI"},
            "labels": {"background": 0, **{name: i for i, name in enumerate(ORGANS, 1)}},
            "numTraining": cases,
            "file_ending": ".nii.gz",
        }
        (folder / "dataset.json").write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise DataError(f"{folder} cannot be written: {error.strerror or error}") from None


def draw_organs(
    rng: np.random.Generator, shape: Shape
) -> tuple[np.ndarray, np.ndarray, tuple[float, float, float]]:
    """Returns a volume float32, its classes uint8, both ``(Z, Y, X)``, and the spacing of these axes, mm."""
    in_plane = rng.uniform(0.85, 1.15)
    spacing = (rng.uniform(1.4, 2.2), in_plane, in_plane)
    extent = np.array(shape) * spacing
    grid = np.indices(shape).reshape(3, -1).T * spacing
    bend = np.stack([_smooth_field(rng, shape, shape[1] / 5).ravel() for _ in range(3)], 1)
    points = grid + 0.04 * extent.min() * bend
    # All lengths are shares of the smallest extent of the volume, so that organs fit into any shape.
    unit = 0.29 * extent.min() * rng.uniform(0.85, 1.15)
    middle = extent * (0.5 + rng.uniform(-0.09, 0.09, 3))
    turn = _rotation(rng, 0.3)
    head, tail = (
        _ellipsoid(points, middle + turn[1] * side * unit, turn, unit * rng.normal(size, 0.08))
        for side, size in ((-0.85, np.array([0.9, 1.0, 1.0])), (0.8, np.array([0.75, 1.25, 0.7])))
    )
    labels = np.where(np.minimum(head, tail) >= 1, 0, np.where(head < tail, 1, 2)).astype(np.uint8)
    light = np.array([0.45, 1.0, 0.88])[labels]
    for _ in range(rng.integers(8, 14)):
        place, size = extent * rng.uniform(0, 1, 3), unit * rng.uniform(0.3, 0.75, 3)
        other = _ellipsoid(points, place, _rotation(rng, np.pi), size)
        # Away from the organs, of which it would seem to be a part.
        light[(other < 1) & (np.minimum(head, tail) > 1.4)] = rng.uniform(0.8, 1.1)
    volume = ndimage.gaussian_filter(light.reshape(shape), (0.4, 0.6, 0.6))
    volume += 0.06 * _smooth_field(rng, shape, shape[1] / 12)
    volume *= 1 + 0.18 * _smooth_field(rng, shape, shape[1] / 3)
    volume += rng.normal(0, rng.uniform(0.06, 0.12), shape)
    scale = 10 ** rng.uniform(1, 5)
    return (volume.clip(0.01) * scale).astype(np.float32), labels.reshape(shape), spacing


def _ellipsoid(points: np.ndarray, middle: np.ndarray, turn: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Returns the distance ``(N,)`` of points ``(N, 3)`` from a middle, 1 on the surface; ``size`` holds half axes."""
    return np.linalg.norm((points - middle) @ turn.T / size, axis=1)


def _rotation(rng: np.random.Generator, most: float) -> np.ndarray:
    """Returns a rotation ``(3, 3)`` by up to ``most`` radians around each axis."""
    from scipy.spatial.transform import Rotation

    return Rotation.from_euler("xyz", rng.uniform(-most, most, 3)).as_matrix()


def _smooth_field(rng: np.random.Generator, shape: tuple[int, ...], sigma: float) -> np.ndarray:
    """Returns noise that changes over ``sigma`` voxels, of mean 0 and standard deviation 1."""
    field = ndimage.gaussian_filter(rng.standard_normal(shape), [min(sigma, n / 2) for n in shape])
    return (field - field.mean()) / field.std()


def _write_volume(path: Path, array: np.ndarray, spacing: tuple[float, float, float]) -> None:
    """Writes ``(Z, Y, X)`` as NIfTI, whose order of the axes is the reverse; it stores no time, so files are equal."""
    import nibabel

    affine = np.diag([*spacing[::-1], 1.0])
    nibabel.save(nibabel.Nifti1Image(array.T, affine), path)


def _random_of(seed: int, kind: str, number: int) -> np.random.Generator:
    """Returns the generator of one case: none depends on what was made before."""
    return np.random.Generator(np.random.PCG64(derive_seed(seed, kind, number)))


def _must_be_new(folder: Path) -> None:
    if not is_new(folder):
        raise DataError(f"{folder} is not an empty folder; name a new folder")


WRITERS: dict[str, Callable[[Path, int], None]] = {"cells": write_cells, "organs": write_organs}
"""Kind to what writes it."""


def main(argv: list[str] | None = None) -> int:
    """Writes a data set into a folder; returns the exit code."""
    parser = folder_parser(
        "tasks.segmentation.data.synthetic",
        "Writes made images of cells, or made volumes of organs, with their labels. They promise nothing about real "
        "images.",
    )
    parser.add_argument(
        "--kind", choices=list(WRITERS), default="cells", help="images or volumes (default cells)"
    )

    def write(options: argparse.Namespace) -> str:
        WRITERS[options.kind](options.folder, options.seed)
        return f"{options.kind} in {options.folder}"

    return run_folder_command(parser, write, argv)


if __name__ == "__main__":
    sys.exit(main())
