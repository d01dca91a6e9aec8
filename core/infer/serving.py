"""Requests to a served restoration model: image files as base64 text, in and out."""

from __future__ import annotations

import base64
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from core.data.images.encode import check_fits
from core.data.images.files import Picture, read_picture, write_picture
from core.errors import DataError, SkipwayError
from core.files import from_base64
from core.infer.files import restore_picture
from core.infer.restorer import Restorer

COLUMN = "image"


def serve_frame(restorer: Restorer, frame: pd.DataFrame, scale: int | None = None) -> pd.DataFrame:
    """Restores the images of the column ``image``, base64 of files in any format.

    The answer is base64 of a PNG, or of a TIFF where there are more channels than a PNG holds. Alpha and colour profile
    are kept as in :func:`core.infer.files.restore_picture`.

    Raises:
        DataError: The column is missing, or a row is not an image.
    """
    if COLUMN not in frame:
        raise DataError(f"the request needs a column {COLUMN!r} with image files as base64 text")
    return pd.DataFrame(
        {COLUMN: [_restored(restorer, i, text, scale) for i, text in enumerate(frame[COLUMN])]}
    )


def _restored(restorer: Restorer, row: int, text: Any, scale: int | None) -> str:
    data = from_base64(text, f"row {row}: {COLUMN}", "an image file")
    # The reader goes by content; a file keeps one way in.
    with tempfile.TemporaryDirectory() as folder:
        path, result = Path(folder) / "image", Path(folder) / f"restored{_ending(restorer)}"
        path.write_bytes(data)
        try:
            picture = read_picture(path)
            check_fits(result, picture.pixels.dtype, picture.pixels.shape[2], picture.alpha is not None)
            restored = restore_picture(restorer, picture, scale)
        except SkipwayError as error:
            # The caller knows the row and not our files.
            text = str(error).replace(f"{path}: ", "").replace(f"{result}: ", "")
            raise DataError(f"row {row}: {text}") from None
        write_picture(result, restored)
        return base64.b64encode(result.read_bytes()).decode()


def example_request(restorer: Restorer) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Returns a request with one image of 32 x 32 pixels, and no parameters."""
    values = np.linspace(0, 255, 32 * 32 * restorer.channels).reshape(32, 32, -1).astype(np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"example{_ending(restorer)}"
        write_picture(path, Picture(values))
        return pd.DataFrame({COLUMN: [base64.b64encode(path.read_bytes()).decode()]}), {}


def _ending(restorer: Restorer) -> str:
    return ".png" if restorer.channels in (1, 3) else ".tif"
