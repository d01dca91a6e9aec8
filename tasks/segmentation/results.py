"""What ``predict`` writes of a case, and says of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from core.errors import ConfigError
from tasks.segmentation.config import SegPredictConfig
from tasks.segmentation.data import pictures
from tasks.segmentation.data.cases import Geometry, Voxels
from tasks.segmentation.data.place import ending_of, replace_file
from tasks.segmentation.data.volumes import FORMATS, VOLUME_ENDINGS, stem, write_labels
from tasks.segmentation.labels import Labels
from tasks.segmentation.segmenter import Segmentation


def describe(
    found: Segmentation, geometry: Geometry, labels: Labels, spacing: Sequence[float] | None = None
) -> str:
    """Says how much of each class was found: ``liver 12,345 voxels (98.8 ml), tumour none``.

    Args:
        found: The result.
        geometry: Of the files.
        labels: What label maps mean.
        spacing: That the user gave, mm.
    """
    # Formats without a spacing have 1 mm, which means nothing.
    known = geometry.shape[0] > 1 and (spacing is not None or geometry.ending in VOLUME_ENDINGS)
    millilitres = math.prod(geometry.spacing) / 1000 if known else None
    unit = "voxels" if geometry.shape[0] > 1 else "px"

    def amount(count: int) -> str:
        volume = f" ({count * millilitres:.3g} ml)" if millilitres and count else ""
        return f"{count:,} {unit}{volume}" if count else "none"

    if found.objects is not None:
        number = len(np.unique(found.objects[found.objects > 0]))
        return f"{number} object{'s' * (number != 1)}, {amount(int(np.count_nonzero(found.objects)))}"
    counts = np.bincount(found.labels.ravel(), minlength=len(labels.names))
    parts = [f"{name} {amount(int(counts[i]))}" for i, name in enumerate(labels.names) if i]
    return ", ".join(parts)


def stored_labels(found: Segmentation, labels: Labels) -> np.ndarray:
    """Returns what stands in a label file, ``(Z, Y, X)`` unsigned: values of classes, or numbers of objects."""
    if found.objects is None:
        return labels.to_file(found.labels)
    return found.objects.astype(np.uint16 if found.objects.max() < 65536 else np.uint32)


def check_place(place: Path, geometry: Geometry) -> None:
    """Raises ``ConfigError`` if the format of a label file cannot hold a case, before the work is done.

    Args:
        place: The file that the user named; its ending is a known one.
        geometry: Of the case.
    """
    ending, slices = ending_of(place), geometry.shape[0]
    if FORMATS[ending] is not pictures:
        return
    if slices > 1:
        raise ConfigError(f"--output {place}: a volume of {slices} slices is no picture; use .nii.gz or .tif")
    if ending in (*pictures.LOSSY, ".webp", ".gif"):
        raise ConfigError(f"--output {place}: labels do not survive {ending}; use .png")


def write_results(
    place: Path, voxels: Voxels, found: Segmentation, labels: Labels, config: SegPredictConfig
) -> None:
    """Writes label map, probabilities and picture of a case.

    Args:
        place: Of the label map.
        voxels: The case.
        found: What was found.
        labels: What label maps mean.
        config: Says what is written.

    Raises:
        ConfigError: It cannot be written there.
    """
    write_labels(place, stored_labels(found, labels), voxels.geometry)
    others = iter(result_files(place, config)[1:])
    if config.probabilities:
        assert found.probabilities is not None
        half = found.probabilities.astype(np.float16)
        names = np.array([name for name, _ in labels.regions] or labels.names)
        replace_file(next(others), lambda path: np.savez_compressed(path, probabilities=half, classes=names))
    if config.overlay:
        replace_file(next(others), _overlay(place.name, voxels, found, labels))


def _overlay(name: str, voxels: Voxels, found: Segmentation, labels: Labels) -> Callable[[Path], None]:
    from tasks.segmentation.overlays import Scene, draw_prediction

    numbered = found.objects is not None
    layer = found.objects if found.objects is not None else found.labels.astype(np.int32)
    scene = Scene(voxels.image, voxels.geometry.spacing, {"result": layer})
    figure = draw_prediction(scene, () if numbered else labels.names, name)
    return lambda path: figure.savefig(path, dpi=120, bbox_inches="tight")


def result_files(place: Path, config: SegPredictConfig) -> list[Path]:
    """Returns the files that are written for a case."""
    name = stem(place)
    more = [f"{name}.npz"] * config.probabilities + [f"{name}_overlay.png"] * config.overlay
    return [place, *(place.with_name(each) for each in more)]
