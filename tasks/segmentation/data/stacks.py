"""TIFF pictures and stacks, and NumPy arrays."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np

from core.data.images.decode import decode
from core.errors import DataError
from core.files import load_json
from tasks.segmentation.data.cases import FLAT, Geometry
from tasks.segmentation.data.place import ending_of, replace_file, stem

CHANNEL_AXES = "SC"
"""Names of tifffile for samples of a pixel and for channels."""
MOST_SAMPLES = 4
"""Length of the last axis of an array up to which it is taken for its channels."""


def read(path: Path, labels: bool = False) -> tuple[np.ndarray, Geometry]:
    """Returns ``(C, Z, Y, X)`` in the type of the file; pages of a TIFF are slices.

    Arrays in ``.npy`` are (H, W), (H, W, C) with up to four channels, (Z, Y, X) or (C, Z, Y, X).
    """
    values = _array(path) if ending_of(path) == ".npy" else _tiff(path, labels)
    return values, _geometry(path, (values.shape[1], values.shape[2], values.shape[3]))


def header(path: Path) -> Geometry:
    """Returns the size; of TIFF without reading pixels."""
    import tifffile

    if ending_of(path) == ".npy":
        return read(path)[1]
    with tifffile.TiffFile(path) as tiff:
        sizes = dict(_axes(tiff.series[0]))
    depth = int(np.prod([size for axis, size in sizes.items() if axis not in "YX" + CHANNEL_AXES]))
    return _geometry(path, (depth, sizes["Y"], sizes["X"]))


def write(path: Path, labels: np.ndarray, geometry: Geometry) -> None:
    """Writes a label map ``(Z, Y, X)``; a spacing other than 1 mm goes to a JSON file beside it, as in nnU-Net."""
    import tifffile

    values = labels[0] if len(labels) == 1 else labels
    if ending_of(path) == ".npy":
        replace_file(path, lambda temporary: np.save(temporary, values, allow_pickle=False))
        return
    axes = {"axes": "ZYX"[-values.ndim :]}

    def save(temporary: Path) -> None:
        tifffile.imwrite(temporary, values, compression="zlib", photometric="minisblack", metadata=axes)

    replace_file(path, save)
    if len(labels) > 1 and geometry.spacing != (1.0, 1.0, 1.0):
        text = json.dumps({"spacing": list(geometry.spacing)})
        replace_file(path.with_name(f"{stem(path)}.json"), lambda temporary: temporary.write_text(text))


def _array(path: Path) -> np.ndarray:
    values = np.load(path, allow_pickle=False)
    if values.dtype == bool:
        values = values.astype(np.uint8)
    if values.dtype.kind not in "uif" or not 2 <= values.ndim <= 4 or not values.size:
        raise DataError(
            f"{path}: holds {values.dtype} of shape {values.shape}; save numbers (Z, Y, X) or (H, W)"
        )
    if values.ndim == 3 and values.shape[2] <= MOST_SAMPLES:
        return values.transpose(2, 0, 1)[:, None]
    return values.reshape((1,) * (4 - values.ndim) + values.shape)


def _tiff(path: Path, labels: bool) -> np.ndarray:
    import tifffile

    with tifffile.TiffFile(path) as tiff:
        series = [each for each in tiff.series if not each.keyframe.is_reduced]
        if len(series) != 1:
            raise DataError(f"{path}: has {len(series)} images; save the one you want to a file of its own")
        named = _axes(series[0])
        axes = "".join(axis for axis, _ in named)
        plain = series[0].dtype in (np.uint8, np.uint16, np.float32)
        if not labels and plain and not set(axes) - set("YX" + CHANNEL_AXES):
            # Palettes, alpha, orientation and compression of pictures are known there.
            pixels, _, _ = decode(path.read_bytes(), path)
            return pixels.transpose(2, 0, 1)[:, None]
        try:
            values = series[0].asarray().reshape([size for _, size in named])
        except ValueError as error:
            if "imagecodecs" not in str(error):
                raise
            if axes != "YX":
                raise DataError(
                    f"{path}: its compression is not known; save it without, or as .nii.gz"
                ) from None
            pixels, _, _ = decode(path.read_bytes(), path)
            return pixels[..., :1].transpose(2, 0, 1)[:, None]
    if values.dtype == bool:
        values = values.astype(np.uint8)
    others = [axis for axis in axes if axis not in "YX" + CHANNEL_AXES]
    if len(others) > 1 or len(axes) - len(others) > 3:
        raise DataError(f"{path}: has axes {axes}; save a picture or one stack of slices")
    order = [axes.index(axis) for axis in (*CHANNEL_AXES, *others, "Y", "X") if axis in axes]
    values = values.transpose(order)
    if not others:
        values = np.expand_dims(values, -3)
    return values if values.ndim == 4 else values[None]


def _axes(series: Any) -> list[tuple[str, int]]:
    """Returns name and length of the axes of a series; those of length one are no axes, but rows and columns are."""
    named = zip(series.axes, series.shape, strict=True)
    return [(axis, size) for axis, size in named if size > 1 or axis in "YX"]


def _geometry(path: Path, shape: tuple[int, int, int]) -> Geometry:
    if shape[0] == 1:
        return Geometry(shape, (FLAT, 1.0, 1.0), ending_of(path))
    # nnU-Net keeps the spacing of TIFF stacks in NAME.json, for all channels NAME_0000.tif, NAME_0001.tif.
    note = path.with_name(re.sub(r"_\d{4}$", "", stem(path)) + ".json")
    spacing = (1.0, 1.0, 1.0)
    if note.is_file():
        try:
            z, y, x = (float(size) for size in load_json(note.read_text())["spacing"])
        except (ValueError, KeyError, TypeError):
            raise DataError(f'{note}: gives no spacing; write {{"spacing": [z, y, x]}} in mm') from None
        spacing = (z, y, x)
    return Geometry(shape, spacing, ending_of(path))
