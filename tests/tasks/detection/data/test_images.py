"""Files of all number types as RGB of 8 bits, and what stays in memory."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from core.data.images.files import Picture, write_picture
from core.errors import DataError
from tasks.detection.data.dataset import ImageSet
from tasks.detection.data.images import ImageCache, read_rgb


def read_back(tmp_path, name, pixels, alpha=None):
    write_picture(tmp_path / name, Picture(pixels, alpha))
    return read_rgb(tmp_path / name)


def files_only(root, names):
    none = np.zeros(0, np.int64)
    sizes = np.tile(np.array([[5, 4]], np.int32), (len(names), 1))
    start = np.zeros(len(names) + 1, np.int64)
    boxes, crowd, area = np.zeros((0, 4), np.float32), none.astype(bool), none.astype(np.float32)
    return ImageSet(root, np.array(names), sizes, np.arange(len(names)), start, boxes, none, crowd, area)


def test_gray_is_repeated_and_alpha_left_out(tmp_path):
    gray = np.arange(20, dtype=np.uint8).reshape(4, 5, 1)
    assert np.array_equal(read_back(tmp_path, "gray.png", gray), np.repeat(gray, 3, 2))
    colour = np.arange(60, dtype=np.uint8).reshape(4, 5, 3)
    found = read_back(tmp_path, "alpha.png", colour, np.full((4, 5), 7, np.uint8))
    assert np.array_equal(found, colour) and found.flags.c_contiguous


def test_sixteen_bits_are_divided_by_257_and_rounded(tmp_path):
    values = np.array([0, 128, 129, 257, 385, 386, 65535 - 128, 65535 - 129, 65535], np.uint16)
    found = read_back(tmp_path, "deep.png", values.reshape(1, 9, 1))
    assert found[0, :, 0].tolist() == [round(v / 257) for v in values.tolist()]
    assert found.dtype == np.uint8


def test_float_values_are_cut_and_rounded(tmp_path):
    values = np.array([-0.5, 0.0, 0.5, 0.999, 1.0, 1.5], np.float32).reshape(1, 6, 1)
    assert read_back(tmp_path, "float.tif", values)[0, :, 1].tolist() == [0, 0, 128, 255, 255, 255]


def test_of_six_channels_the_first_three_are_taken(tmp_path):
    pixels = np.arange(120, dtype=np.uint8).reshape(4, 5, 6)
    assert np.array_equal(read_back(tmp_path, "many.tif", pixels), pixels[..., :3])


def test_the_orientation_of_a_photograph_is_applied(tmp_path):
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(np.zeros((4, 8, 3), np.uint8)).save(tmp_path / "turned.jpg", exif=exif)
    assert read_rgb(tmp_path / "turned.jpg").shape == (8, 4, 3)


@pytest.fixture
def three(tmp_path):
    for i in range(3):
        write_picture(tmp_path / f"{i}.png", Picture(np.full((4, 5, 3), i, np.uint8)))
    return files_only(tmp_path, ["0.png", "1.png", "2.png"])


def remove_all(folder: Path):
    for path in folder.glob("*.png"):
        path.unlink()


def test_the_images_used_last_stay_in_memory(three, tmp_path):
    cache = ImageCache(three, 2 * 60 / 1e9)
    first = cache(0)
    cache(1)
    assert cache(0) is first
    cache(2)
    remove_all(tmp_path)
    assert cache(0) is first and cache(2)[0, 0, 0] == 2
    with pytest.raises(DataError, match=r"1\.png"):
        cache(1)


def test_without_memory_nothing_is_kept(three, tmp_path):
    cache = ImageCache(three, 0.0)
    assert cache(0) is not cache(0)
    remove_all(tmp_path)
    with pytest.raises(DataError, match=r"0\.png: there is no such file"):
        cache(0)


def test_kept_images_cannot_be_written_to(three):
    with pytest.raises(ValueError, match="read-only"):
        ImageCache(three, 1.0)(0)[:] = 0


def test_a_copy_for_another_process_begins_empty_and_works(three):
    cache = ImageCache(three, 1.0)
    cache(0)
    copy = pickle.loads(pickle.dumps(cache))
    assert len(copy._kept) == 0 and len(cache._kept) == 1
    assert np.array_equal(copy(1), cache(1))


def test_no_more_images_are_kept_than_asked_for(three):
    cache = ImageCache(three, 1, most=2)
    for i in range(3):
        cache(i)
    remove_all(three.root)
    assert cache(2).shape == cache(1).shape
    with pytest.raises(DataError):
        cache(0)
