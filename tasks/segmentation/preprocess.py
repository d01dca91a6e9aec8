"""From the voxels of a file to the input of a network: transpose, crop, normalise, resample, in nnU-Net's order."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from core.errors import DataError
from tasks.segmentation.data.cases import FLAT, Voxels
from tasks.segmentation.data.scan import nonzero_box
from tasks.segmentation.frame import Frame
from tasks.segmentation.normalise import normalise
from tasks.segmentation.planning.plan import Plan
from tasks.segmentation.resample import nearest, new_shape, resample, resample_labels

FARTHEST = 1000.0
"""Factor between the spacing of a file and that of the plan, from which one of them is taken for a mistake."""
POSITIONS = 10_000
SEED = 1234


@dataclass
class Prepared:
    """A case as networks read it.

    Attributes:
        image: ``(C, Z, Y, X)`` float32 at the spacing of the plan.
        labels: ``(Z, Y, X)`` int16 of classes and ``IGNORE``; ``None`` without labels.
        mask: ``(Z, Y, X)`` bool, the field of view; ``None`` for all.
        foreground: ``(N, 3)`` int32 positions of each class that is there, drawn at random if there are many.
        frame: Where it lies in the file.
    """

    image: np.ndarray
    labels: np.ndarray | None
    mask: np.ndarray | None
    foreground: dict[int, np.ndarray]
    frame: Frame


def preprocess(voxels: Voxels, plan: Plan, name: str) -> Prepared:
    """Prepares a case.

    Args:
        voxels: As in the files; not changed.
        plan: Its transpose, crop, normalisation and spacing are applied.
        name: Of the case, for messages.

    Raises:
        DataError: The case has another number of channels than the plan, is a single image where the plan is for
            volumes, or has values that the normalisation is not for.
    """
    channels = len(plan.normalisation)
    if len(voxels.image) != channels:
        raise DataError(
            f"{name}: {len(voxels.image)} channel(s), but the model reads {channels}; give files with {channels}, or "
            "one file for each channel (NAME_0000, NAME_0001, ...)"
        )
    spacing = _turned(voxels.geometry.spacing, plan.transpose)
    if plan.dims == 3 and plan.resample and FLAT in spacing:
        raise DataError(
            f"{name}: a single image, but the model reads volumes; give volumes, or take a 2d model"
        )
    if not np.isfinite(voxels.image).all():
        raise DataError(
            f"{name}: some voxels are not finite (NaN or infinity); replace them, by 0 for example"
        )
    turned = voxels.image.transpose(0, *(axis + 1 for axis in plan.transpose))
    box: tuple[slice, ...] = tuple(slice(0, size) for size in turned.shape[1:])
    nonzero: np.ndarray | None = None
    if plan.crop or any(plan.masked_normalisation):
        inner, nonzero = nonzero_box(turned)
        if plan.crop:
            box = inner
        else:
            whole = np.zeros(turned.shape[1:], bool)
            whole[inner] = nonzero
            nonzero = whole
    image = np.array(turned[(slice(None), *box)], np.float32, order="C")
    normalise(image, plan, nonzero, name)

    new_spacing = spacing
    if plan.resample:
        # A plan for slices leaves the distance between them as it is.
        z, y, x = plan.spacing if plan.dims == 3 else (spacing[0], *plan.spacing)
        new_spacing = (z, y, x)
    if any(not 1 / FARTHEST < old / new < FARTHEST for old, new in zip(spacing, new_spacing, strict=True)):
        raise DataError(
            f"{name}: its spacing of {' x '.join(f'{size:g}' for size in spacing)} mm is far from the plan's "
            f"{' x '.join(f'{size:g}' for size in new_spacing)}; correct it in the file"
        )
    z, y, x = new_shape(image.shape[1:], spacing, new_spacing)
    frame = Frame(
        shape=_three(voxels.image.shape[1:]),
        transpose=plan.transpose,
        box=tuple((part.start, part.stop) for part in box),  # type: ignore[arg-type]  # three of them
        spacing=spacing,
        new_spacing=new_spacing,
        new_shape=(z, y, x),
    )
    image = resample(image, frame.new_shape, spacing, new_spacing, order=3)
    labels = _prepared_labels(voxels.labels, frame)
    mask = _prepared_labels(voxels.mask, frame)
    return Prepared(image, labels, mask, {} if labels is None else _foreground(labels, mask), frame)


def previous_channels(labels: np.ndarray, frame: Frame, plan: Plan) -> np.ndarray:
    """Turns the segmentation of a coarser model into further channels of a case (nnU-Net's cascade).

    Args:
        labels: ``(Z, Y, X)`` classes, as in the file.
        frame: Of the preprocessed case.
        plan: Of the model that reads the channels.

    Returns:
        ``(plan.previous_classes, *frame.new_shape)`` float32: 1 where the class is, from class 1 on.
    """
    resampled = nearest(frame.to_crop(labels), frame.new_shape)
    classes = np.arange(1, plan.previous_classes + 1).reshape(-1, 1, 1, 1)
    return (resampled == classes).astype(np.float32)


def _prepared_labels(labels: np.ndarray | None, frame: Frame) -> np.ndarray | None:
    if labels is None:
        return None
    kept = np.ascontiguousarray(frame.to_crop(labels))
    return resample_labels(kept, frame.new_shape, frame.spacing, frame.new_spacing)


def _foreground(labels: np.ndarray, mask: np.ndarray | None) -> dict[int, np.ndarray]:
    """Positions of each class; what lies outside the field of view counts for nothing."""
    rng = np.random.default_rng(SEED)
    seen = labels if mask is None else np.where(mask, labels, 0)
    found = {}
    for value in range(1, int(seen.max()) + 1):
        positions = np.flatnonzero(seen == value)
        if len(positions) > POSITIONS:
            positions = rng.choice(positions, POSITIONS, replace=False)
        if len(positions):
            found[value] = np.stack(np.unravel_index(positions, seen.shape), axis=1).astype(np.int32)
    return found


def _three(values: tuple[int, ...]) -> tuple[int, int, int]:
    z, y, x = values
    return z, y, x


def _turned(spacing: tuple[float, float, float], axes: tuple[int, int, int]) -> tuple[float, float, float]:
    z, y, x = (spacing[axis] for axis in axes)
    return z, y, x
