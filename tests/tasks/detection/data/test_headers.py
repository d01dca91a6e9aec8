"""Sizes of image files, and which of them are whole."""

import numpy as np
import pytest
from PIL import Image

from tasks.detection.data.headers import Header, read_header

PIXELS = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)


@pytest.mark.parametrize("ending", ["jpg", "png", "bmp", "webp", "ppm"])
def test_a_file_that_is_cut_off_is_no_image(tmp_path, ending):
    path = tmp_path / f"a.{ending}"
    Image.fromarray(PIXELS).save(path)
    assert read_header(path) == Header(80, 60, 1)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    assert read_header(path) is None


@pytest.mark.parametrize("ending", ["jpg", "png"])
def test_bytes_behind_a_whole_image_do_no_harm(tmp_path, ending):
    path = tmp_path / f"a.{ending}"
    Image.fromarray(PIXELS).save(path)
    path.write_bytes(path.read_bytes() + b"camera notes" * 20)
    assert read_header(path) == Header(80, 60, 1)
