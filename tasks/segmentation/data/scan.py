"""One look at each case: whether it can be used, and what the plan needs to know of it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from core.data.images.files import match_channels
from core.errors import DataError
from tasks.segmentation.data.cases import Geometry, Scan
from tasks.segmentation.data.found import RawCase
from tasks.segmentation.data.place import difference
from tasks.segmentation.data.volumes import read_image, read_labels, read_mask

SAMPLES = 10_000
"""Values of a channel that are drawn from a case."""
MOST_SAMPLES = 20_000_000
"""Values of a channel that are drawn from all cases together, for very many cases."""
SEED = 1234
"""Of the generator that draws them, new for each case; nnU-Net's."""


def nonzero_box(image: np.ndarray) -> tuple[tuple[slice, slice, slice], np.ndarray]:
    """Finds what is not zero in any channel, as nnU-Net's crop does.

    Args:
        image: ``(C, Z, Y, X)``.

    Returns:
        The smallest box around it, and the mask inside the box, whose holes are filled in three dimensions. For an
        image of zeros the box is all of it.
    """
    from scipy import ndimage

    nonzero = (image != 0).any(axis=0)
    box = _box(nonzero)
    return box, ndimage.binary_fill_holes(nonzero[box])


def _box(nonzero: np.ndarray) -> tuple[slice, slice, slice]:
    sides = []
    for axis in range(3):
        hit = np.flatnonzero(nonzero.any(axis=tuple({0, 1, 2} - {axis})))
        sides.append(slice(int(hit[0]), int(hit[-1]) + 1) if len(hit) else slice(0, nonzero.shape[axis]))
    return sides[0], sides[1], sides[2]


@dataclass
class Look:
    """What a look at a case told, before it is known what its labels mean and which channels are used.

    Attributes:
        geometry: Of the image.
        channels: In the files.
        gray: Whether three channels are equal everywhere.
        constant: Whether all voxels are equal.
        largest: Largest value.
        content: Hex SHA-256 of the voxels alone: the same image may be there twice with other labels.
        digest: Hex SHA-256 of voxels, labels and mask.
        shape: After the crop.
        relative_size: Share of the voxels that the crop left.
        intensities: ``(channels, N)`` float32; the same N voxels in each channel.
        values: Values of the label map inside the mask, and their voxels; empty without labels.
        pieces: Connected pieces of equal values other than 0, in images; 0 in volumes.
    """

    geometry: Geometry
    channels: int
    gray: bool
    constant: bool
    largest: float
    content: str
    digest: str
    shape: tuple[int, int, int]
    relative_size: float
    intensities: np.ndarray
    values: dict[int, int]
    pieces: int


def look_at(case: RawCase, samples: int = SAMPLES) -> Look:
    """Reads a case once.

    ``intensities`` are drawn with replacement, by a generator with seed 1234, from the voxels inside the crop whose
    label is above 0 (without labels: those that are not 0), so that large cases count no more than small ones.
    Source: nnU-Net v2, fingerprint extraction (which draws more, and for each channel anew).

    Args:
        case: Its files.
        samples: Values of each channel.

    Raises:
        DataError: The case cannot be used; the text does not name it.
    """
    image, geometry = read_image(case.images)
    _check_image(image, geometry)
    labels, mask = None, None
    if case.label is not None:
        labels, where = read_labels(case.label)
        if found := difference(geometry, where):
            raise DataError(f"the label map {case.label.name} {found}")
    if case.mask is not None:
        mask, where = read_mask(case.mask)
        if found := difference(geometry, where):
            raise DataError(f"the field of view {case.mask.name} {found}")
        if not mask.any():
            raise DataError(f"the field of view {case.mask.name} is empty")
    box = _box((image != 0).any(axis=0))
    shape = (box[0].stop - box[0].start, box[1].stop - box[1].start, box[2].stop - box[2].start)
    inside = (image[0] != 0) if labels is None else labels > 0
    if mask is not None:
        inside &= mask
    content = hashlib.sha256(repr(image.shape).encode())
    content.update(image.data)
    digest = content.copy()
    for array in (labels, mask):
        digest.update(b"none" if array is None else array.data)
    return Look(
        geometry,
        len(image),
        len(image) == 3 and bool((image[0] == image[1]).all() and (image[0] == image[2]).all()),
        bool(image.min() == image.max()),
        float(image.max()),
        content.hexdigest(),
        digest.hexdigest(),
        shape,
        float(np.prod(shape) / np.prod(geometry.shape)),
        _draw(image[(slice(None), *box)], inside[box], samples),
        {} if labels is None else _count(labels if mask is None else labels[mask]),
        _pieces(labels[0]) if labels is not None and len(labels) == 1 else 0,
    )


def scan_of(look: Look, channels: list[int], wanted: int, classes: Mapping[int, int]) -> Scan:
    """Returns what is kept of a look.

    Args:
        look: At a case.
        channels: Which of the ``wanted`` channels are used.
        wanted: Channels that images are brought to.
        classes: Voxels of each class.
    """
    intensities = match_channel_count(look.intensities[:, None, None], wanted, "")[channels, 0, 0]
    spacing = look.geometry.spacing
    # Other channels of the same files, or the same voxels of another size, are other data.
    digest = hashlib.sha256(repr((look.digest, channels, wanted, spacing)).encode()).hexdigest()
    return Scan(digest, look.shape, spacing, look.relative_size, intensities, dict(classes))


def match_channel_count(image: np.ndarray, wanted: int, where: str) -> np.ndarray:
    """Turns gray pictures ``(C, 1, H, W)`` into RGB or the reverse (luma of BT.601), if they are not as ``wanted``."""
    if len(image) == wanted:
        return image
    pixels = match_channels(image[:, 0].transpose(1, 2, 0), wanted, where)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1)[:, None])


def _check_image(image: np.ndarray, geometry: Geometry) -> None:
    if not np.isfinite(image).all():
        wrong = int(image.size - np.isfinite(image).sum())
        raise DataError(f"{wrong} of {image.size} voxels are NaN or infinite; replace them")
    if not all(np.isfinite(size) and size > 0 for size in geometry.spacing):
        raise DataError(f"its spacing {geometry.spacing} is not positive; correct its header")


def _draw(image: np.ndarray, inside: np.ndarray, samples: int) -> np.ndarray:
    positions = np.flatnonzero(inside)
    if not len(positions):
        return np.zeros((len(image), 0), np.float32)
    drawn = np.random.default_rng(SEED).choice(positions, samples)
    return image.reshape(len(image), -1)[:, drawn]


def _count(labels: np.ndarray) -> dict[int, int]:
    if labels.size and labels.max() < labels.size:
        # Counting needs no sorting, and is far faster in volumes.
        counts = np.bincount(labels.ravel())
        return {int(value): int(counts[value]) for value in np.flatnonzero(counts)}
    values, counts = np.unique(labels, return_counts=True)
    return dict(zip(values.tolist(), counts.tolist(), strict=True))


def _pieces(labels: np.ndarray) -> int:
    from skimage.measure import label

    return int(label(labels, background=0, return_num=True, connectivity=2)[1])
