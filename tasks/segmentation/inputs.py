"""Images and volumes that a trained model reads: files of ``predict``, and files inside of requests."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from core.errors import DataError, SkipwayError
from core.files import from_base64
from tasks.segmentation.data.cases import FLAT, Voxels
from tasks.segmentation.data.scan import match_channel_count
from tasks.segmentation.data.volumes import ENDINGS, VOLUME_ENDINGS, read_image

COLUMN, ENDING = "image", "ending"
"""Columns of a request; files of single channels are in ``image_1``, ``image_2``, ..."""
STARTS = {
    b"\x1f\x8b": ".nii.gz",
    b"\x89PNG": ".png",
    b"\xff\xd8\xff": ".jpg",
    b"II*\0": ".tif",
    b"MM\0*": ".tif",
    b"NRRD": ".nrrd",
    b"ObjectType": ".mha",
    b"\x93NUMPY": ".npy",
    b"RIFF": ".webp",
    b"GIF8": ".gif",
    b"P5": ".pgm",
    b"P6": ".ppm",
    b"BM": ".bmp",
}
"""First bytes of files, and their endings."""
NIFTI = {344: (b"n+1\0", b"ni1\0"), 4: (b"n+2\0", b"ni2\0")}
"""Place of the signs of both versions of NIfTI."""


def read_voxels(
    paths: Sequence[Path],
    name: str,
    channels: Sequence[str],
    chosen: Sequence[int] | None = None,
    spacing: Sequence[float] | None = None,
) -> Voxels:
    """Reads a case without labels.

    Args:
        paths: One file for each channel, or one with all.
        name: Of the case, for messages.
        channels: Names of those that the model reads.
        chosen: Which channels of its files it was trained on; files of these alone are taken too.
        spacing: mm along the axes, for formats that do not know.

    Raises:
        DataError: The files cannot be read, or have other channels.
    """
    image, geometry = read_image(paths)
    if chosen is not None and max(chosen) < len(image):
        image = image[list(chosen)]
    if image.shape[1] == 1:
        # Gray pictures and colour; of other channels the model itself says what is wrong.
        image = match_channel_count(image, len(channels), name)
    if spacing is not None and geometry.ending not in VOLUME_ENDINGS:
        z, y, x = spacing
        z = z if geometry.shape[0] > 1 else FLAT * max(y, x)
        geometry = replace(geometry, spacing=(z, y, x))
    return Voxels(image, None, None, None, geometry)


def chosen_channels(metadata: Mapping[str, Any]) -> list[int] | None:
    """Returns the channels of its files that a model was trained on; ``None`` for all."""
    return metadata.get("data", {}).get("config", {}).get("channels")


def read_rows(
    frame: pd.DataFrame, channels: Sequence[str], chosen: Sequence[int] | None = None
) -> Iterator[tuple[str, Voxels]]:
    """Yields name and voxels of each row of a request.

    Args:
        frame: The column ``image`` holds base64 text of files, or ``image_1``, ``image_2``, ... those of single
            channels. ``ending`` says what they are (``.nii.gz``); without, the content does.
        channels: Names of those that the model reads.
        chosen: See :func:`read_voxels`.

    Raises:
        DataError: A column is missing, or a row is no image that the model reads.
    """
    columns = [COLUMN] if COLUMN in frame else _numbered(frame)
    if not columns:
        raise DataError(
            f"the request needs a column {COLUMN!r} with image files as base64 text, or {COLUMN}_1, {COLUMN}_2, ... "
            "with one file for each channel"
        )
    endings = frame[ENDING] if ENDING in frame else [None] * len(frame)
    for row, (ending, *texts) in enumerate(zip(endings, *(frame[name] for name in columns), strict=True)):
        # The readers go by endings; a file keeps one way in.
        with tempfile.TemporaryDirectory() as folder:
            files = []
            try:
                for number, text in enumerate(texts):
                    data = from_base64(text, COLUMN)
                    kind = ending if isinstance(ending, str) and ending else ending_of_content(data)
                    if kind.lower() not in ENDINGS:
                        raise DataError(f"unknown ending {kind!r}; use one of {', '.join(ENDINGS)}")
                    files.append(Path(folder) / f"image_{number}{kind.lower()}")
                    files[-1].write_bytes(data)
                voxels = read_voxels(files, f"row {row}", channels, chosen)
            except SkipwayError as error:
                # The caller knows the row and not our files.
                text = str(error).removeprefix(f"row {row}: ")
                for file in files:
                    text = text.replace(f"{file}: ", "").replace(str(file), file.name)
                raise DataError(f"row {row}: {text}") from None
        yield f"row {row}", voxels


def ending_of_content(data: bytes) -> str:
    """Returns the ending of a file by its first bytes.

    Raises:
        DataError: They are of no known format.
    """
    for start, ending in STARTS.items():
        if data.startswith(start):
            return ending
    if any(data[place : place + 4] in signs for place, signs in NIFTI.items()):
        return ".nii"
    raise DataError(f"its content is of no known format; say so in the column {ENDING!r}, such as .nii.gz")


def _numbered(frame: pd.DataFrame) -> list[str]:
    names: list[str] = []
    while (name := f"{COLUMN}_{len(names) + 1}") in frame:
        names.append(name)
    return names
