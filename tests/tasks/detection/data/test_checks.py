"""Images on both sides of a split, and what is said of a set."""

import hashlib
import shutil

import numpy as np
import pytest
from made_sets import image_set

from core.errors import ConfigError, DataError
from tasks.detection.data.checks import content_hashes, describe, drop_leaks, same_content

ONE = [(0, (0, 0, 9, 9))]


def test_equal_files_are_found_whatever_their_names(tmp_path):
    big = bytes(range(256)) * 100
    contents = [b"abc", b"abd", b"abc", big, big[:-1] + b"x", big, b""]
    paths = [tmp_path / str(i) for i in range(len(contents))]
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content)
    assert same_content(paths) == [[0, 2], [3, 5]]
    assert content_hashes(paths) == [hashlib.sha256(content).digest() for content in contents]
    assert same_content([]) == [] == content_hashes([])


def test_a_file_that_is_gone_is_named(tmp_path):
    with pytest.raises(DataError, match=r"gone\.png: cannot be read"):
        same_content([tmp_path / "gone.png"])


def test_what_is_held_out_is_not_learned_from(tmp_path):
    train = image_set(tmp_path, {f"train/{i}.png": ONE for i in range(4)})
    validation = image_set(tmp_path, {f"val/{i}.png": ONE for i in range(3)})
    test = image_set(tmp_path, {"test/0.png": ONE})
    shutil.copy(tmp_path / "test/0.png", tmp_path / "train/2.png")
    shutil.copy(tmp_path / "test/0.png", tmp_path / "val/1.png")
    shutil.copy(tmp_path / "val/0.png", tmp_path / "train/0.png")
    shutil.copy(tmp_path / "train/1.png", tmp_path / "train/3.png")
    left, looked_at, notes = drop_leaks(train, validation, test, None)
    assert left.names.tolist() == ["train/1.png", "train/3.png"]
    assert looked_at.names.tolist() == ["val/0.png", "val/2.png"]
    assert notes == [
        "3 images (val/1.png, train/0.png, train/2.png) are also held out, and are left out of what is learned from",
        "1 image (train/3.png) is the same file as another one of the same part, and is kept",
    ]


def test_scenes_are_not_on_both_sides(tmp_path):
    train = image_set(tmp_path, {"s1_0.png": ONE, "s2_0.png": ONE, "s3_0.png": ONE})
    validation = image_set(tmp_path, {"s2_1.png": ONE, "s4_0.png": ONE})
    test = image_set(tmp_path, {"s1_1.png": ONE, "s4_1.png": ONE})
    left, looked_at, notes = drop_leaks(train, validation, test, r"^(s\d)_")
    assert left.names.tolist() == ["s3_0.png"] and looked_at.names.tolist() == ["s2_1.png"]
    assert len(notes) == 1 and "s1_0.png" in notes[0] and "scene" in notes[0]
    with pytest.raises(ConfigError, match=r"--data\.group 'x' finds nothing"):
        drop_leaks(train, validation, test, "x")


def test_clean_parts_stay_as_they_are_without_a_word(tmp_path):
    train, test = (image_set(tmp_path, {f"{name}.png": ONE}) for name in "ab")
    left, _, notes = drop_leaks(train, test, test, None)
    assert left.names.tolist() == ["a.png"]
    assert [note for note in notes if "a.png" in note] == []


def test_a_set_is_described_by_classes_sizes_and_what_is_missing(tmp_path):
    images = image_set(
        tmp_path,
        {
            "a.png": [(0, (0, 0, 31, 31)), (1, (0, 0, 33, 33)), (1, (0, 0, 100, 100))],
            "b.png": [(1, (0, 0, 40, 40)), (2, (0, 0, 40, 40), None, True)],
            "c.png": [],
        },
        write=False,
    )
    assert describe(images, ["x", "y", "z"], "training") == [
        "training: 3 images, 4 objects: y 3, x 1",
        "training: 2 objects in the median image, 3 at most; 20 % small, 60 % medium, 20 % large "
        "(below 32 x 32, below 96 x 96 pixels, above)",
        "training: 1 of 3 images shows no object; kept as background",
        "training: 1 object marked as crowd or difficult is neither learned nor scored",
        "training: no object of z",
    ]


def test_of_many_classes_some_are_named(tmp_path):
    images = image_set(tmp_path, {"a.png": [(i, (0, 0, 9, 9)) for i in range(12)]}, write=False)
    notes = describe(images, [f"c{i}" for i in range(20)], "test")
    assert notes[0].endswith("c8 1, c9 1 and 2 more")
    assert notes[-1] == "test: no object of c12, c13, c14, c15, c16 and 3 more"
    assert np.all(images.labels == np.arange(12))
