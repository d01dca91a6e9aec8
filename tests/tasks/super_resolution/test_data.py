"""Images for super-resolution: folders, pairs, splits, leaks, patches, and bad input."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from core.data.images.resize import imresize
from core.data.loader import EpochLoader
from core.errors import ConfigError, DataError
from tasks.super_resolution.config import DataConfig
from tasks.super_resolution.data import SmallAndLarge, load_data

SIDE = 33


def picture(seed, height=SIDE, width=SIDE + 2, channels=3):
    """Smooth colours, so that no two pictures are equal and bicubic makes sense."""
    small = np.random.default_rng(seed).integers(0, 256, (5, 6, channels), np.uint8)
    return imresize(small, (height, width))


def save(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), image[..., ::-1] if image.shape[2] == 3 else image)


def folder(path, count=4, first=0):
    for i in range(count):
        save(path / f"{first + i}.png", picture(first + i))
    return str(path)


def test_small_image_is_matlabs_of_the_cut_large_one(tmp_path):
    data = load_data(DataConfig(test_path=[folder(tmp_path / "x", 1)], scales=[2, 4]))
    for scale, size in ((2, (16, 17)), (4, (8, 8))):
        low, high = data.tests["x"].pair(0, scale)
        assert high.shape == (scale * size[0], scale * size[1], 3)
        np.testing.assert_array_equal(high, picture(0)[: high.shape[0], : high.shape[1]])
        np.testing.assert_array_equal(low, imresize(high, 1 / scale))
        assert low.shape[:2] == size


def test_split_is_by_scene_and_nothing_is_on_both_sides(tmp_path):
    for i in range(8):
        save(tmp_path / f"scene{i // 2}_{i}.png", picture(i))
    data = load_data(DataConfig(path=str(tmp_path), test_share=0.5, scene="^[^_]+", scales=[2]))
    train, test = ({n.split("_")[0] for n in part.high.names} for part in (data.train, data.tests["test"]))
    assert len(train) == len(test) == 2
    assert not train & test


def test_a_test_image_is_not_learned_from(tmp_path):
    folder(tmp_path / "train", 3)
    folder(tmp_path / "Set5" / "HR", 1)
    data = load_data(
        DataConfig(path=str(tmp_path / "train"), test_path=[str(tmp_path / "Set5")], scales=[2], patch=8)
    )
    assert list(data.tests) == ["Set5"]
    assert data.train.high.names == ["1.png", "2.png"]
    assert any("0.png: left out, it is the test image" in note for note in data.notes)


def test_digest_tells_scales_and_jpeg_apart(tmp_path):
    path = folder(tmp_path / "x", 2)
    variants = [{"scales": [2]}, {"scales": [3]}, {"scales": [2], "test_jpeg": 40}]
    digests = [load_data(DataConfig(test_path=[path], **options)).digest for options in variants]
    assert len(set(digests)) == 3
    assert load_data(DataConfig(test_path=[path], scales=[2])).digest == digests[0]


def test_gray_file_of_a_colour_test_stays_gray(tmp_path):
    save(tmp_path / "x" / "0.png", picture(0))
    save(tmp_path / "x" / "1.png", picture(1, channels=1))
    save(tmp_path / "x" / "2.png", np.repeat(picture(2, channels=1), 3, axis=2))  # RGB of equal channels
    images = load_data(DataConfig(test_path=[str(tmp_path / "x")], scales=[2])).tests["x"].high.images
    assert [image.shape[2] for image in images] == [3, 1, 3]
    np.testing.assert_array_equal(images[1], picture(1, channels=1))


def test_pairs_are_read_as_they_are(tmp_path):
    for i in range(3):
        save(tmp_path / "HR" / f"{i}.png", picture(i, 32, 36))
        save(tmp_path / "LR_X2" / f"{i}x2.png", picture(i + 10, 16, 18))
    data = load_data(DataConfig(name="pairs", path=str(tmp_path), scales=[2], patch=8))
    low, high = data.train.pair(0, 2)
    index = int(data.train.high.names[0][0])
    np.testing.assert_array_equal(low, picture(index + 10, 16, 18))
    np.testing.assert_array_equal(high, picture(index, 32, 36))


def test_patches_of_a_pair_show_the_same_place(tmp_path):
    config = DataConfig(path=folder(tmp_path, 3), scales=[2, 3], patch=6, patches=4)
    data = load_data(config)
    samples = SmallAndLarge(data.train, (2, 3), config)
    assert samples.groups == [8, 8]
    for index, scale in ((0, 2), (7, 2), (8, 3), (15, 3)):
        drawn = samples.draw(index, np.random.default_rng(index))
        assert drawn["low"].shape == (3, 6, 6)
        assert drawn["high"].shape == (3, 6 * scale, 6 * scale)
        shrunk = imresize(drawn["high"].transpose(1, 2, 0), 1 / scale).transpose(2, 0, 1)
        inner = np.s_[:, 2:-2, 2:-2]  # the border's kernel reaches out of the patch
        assert np.abs(shrunk[inner] - drawn["low"][inner]).max() < 2 / 255


def test_a_batch_has_one_scale_and_all_scales_come(tmp_path):
    config = DataConfig(path=folder(tmp_path, 3), scales=[2, 3], patch=6, patches=8)
    samples = SmallAndLarge(load_data(config).train, (2, 3), config)
    loader = EpochLoader(samples, 4, seed=0, groups=samples.groups)
    stream = loader.batches(0, torch.device("cpu"))
    sides = [next(stream)["high"].shape[-1] for _ in range(loader.steps_per_epoch)]
    assert sorted(sides) == [12] * 4 + [18] * 4


def test_jpeg_changes_the_small_patch_only(tmp_path):
    path = folder(tmp_path, 3)
    plain, rough = (DataConfig(path=path, scales=[2], patch=8, jpeg=jpeg) for jpeg in (None, [10, 10]))
    a, b = (
        SmallAndLarge(load_data(c).train, (2,), c).draw(0, np.random.default_rng(0)) for c in (plain, rough)
    )
    np.testing.assert_array_equal(a["high"], b["high"])
    assert 0.001 < np.abs(a["low"] - b["low"]).mean() < 0.2


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"scales": [5]}, "name one or more of 2, 3, 4, 8"),
        ({"scales": [2, 2]}, "each once"),
        ({"scales": []}, "name one or more"),
        ({"test_share": 1.0}, "test_share 1.0"),
        ({"jpeg": [50, 20]}, "jpeg"),
        ({"test_jpeg": 0}, "test_jpeg 0"),
        ({"name": "folder"}, "needs --data.path"),
        ({"name": "pairs", "path": "x", "scales": [2, 3]}, "images of one scale"),
        ({"name": "photographs", "path": "x"}, "reads no folder"),
        ({"test_share": 0.2}, "--data.test_share 0.2 splits a folder, not the photographs"),
        ({"name": "photographs", "scene": "a"}, "--data.scene 'a' splits a folder"),
        ({"patch": 0}, "--data.patch 0 is too small; use 1 or more"),
        ({"patches": 0}, "--data.patches 0 is too small"),
    ],
)
def test_options_that_cannot_be_are_one_line(options, words):
    with pytest.raises(ConfigError, match=words) as error:
        load_data(DataConfig(**{"scales": [2], **options}))
    assert "\n" not in str(error.value)


def test_bad_folders_are_one_line(tmp_path):
    (tmp_path / "empty").mkdir()
    save(tmp_path / "one" / "a.png", picture(0))
    save(tmp_path / "small" / "a.png", picture(0))
    save(tmp_path / "small" / "b.png", picture(1))
    for name, words in (("none", "no such"), ("empty", "no images"), ("one", "cannot be split")):
        with pytest.raises(DataError, match=words):
            load_data(DataConfig(path=str(tmp_path / name), scales=[2]))
    config = DataConfig(path=str(tmp_path / "small"), scales=[2], patch=24)
    with pytest.raises(DataError, match="less than a patch of 24"):
        SmallAndLarge(load_data(config).train, (2,), config)
    config = DataConfig(path=str(tmp_path / "small"), test_path=[str(tmp_path / "one")], scales=[2], patch=24)
    with pytest.raises(DataError, match="less than a patch of 24"):
        SmallAndLarge(load_data(config).train, (2,), config)


def test_test_folders_of_one_name_are_both_used(tmp_path):
    paths = [folder(tmp_path / side / "Set" / "HR", 2, first) for side, first in (("a", 0), ("b", 50))]
    data = load_data(DataConfig(test_path=[*paths, paths[1]], scales=[2]))
    assert list(data.tests) == ["Set", "b_Set", "b_Set_2"]
    assert data.tests["b_Set"].high.names == ["50.png", "51.png"]


@pytest.mark.parametrize("others", [False, True])
def test_training_images_below_a_patch_are_left_out_and_the_data_stays_the_same(tmp_path, others):
    """At the largest scale; with a test folder and with a split."""
    path = folder(tmp_path / "train", 8)
    save(tmp_path / "train" / "narrow.png", picture(99, 23, 40))
    tests = [folder(tmp_path / "test", 1, 50)] if others else None
    small, large = (
        load_data(DataConfig(path=path, test_path=tests, scales=[2, 3], patch=patch)) for patch in (7, 8)
    )
    assert small.digest == large.digest
    assert "narrow.png" in small.train.high.names, "or choose another name, that is not held out"
    assert set(small.train.high.names) - set(large.train.high.names) == {"narrow.png"}
    assert "narrow.png: left out, 40x23 pixels are fewer than 24 on a side" in large.notes


def test_small_pairs_are_left_out_on_both_sides(tmp_path):
    for i, height in enumerate((16, 7, 16, 16)):
        save(tmp_path / "HR" / f"{i}.png", picture(i, 2 * height, 36))
        save(tmp_path / "LR" / f"{i}.png", picture(i + 10, height, 18))
    data = load_data(DataConfig(name="pairs", path=str(tmp_path), scales=[2], patch=8, test_share=0.1))
    assert data.tests["test"].high.names == ["3"]
    assert data.train.low.names == data.train.high.names == ["0", "2"]
    np.testing.assert_array_equal(data.train.low.images[1], picture(12, 16, 18))


def test_a_test_image_of_which_no_small_one_can_be_made_is_one_line(tmp_path):
    folder(tmp_path / "x", 2)
    save(tmp_path / "x" / "dot.png", picture(9)[:3, :3])
    with pytest.raises(DataError, match=r"dot\.png: an image of 3x3 cannot be made 4 times smaller"):
        load_data(DataConfig(test_path=[str(tmp_path / "x")], scales=[2, 4]))
    assert load_data(DataConfig(test_path=[str(tmp_path / "x")], scales=[2])).size == 3
