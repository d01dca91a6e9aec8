"""Folders of images and of pairs: read, split by scene, and every mistake told in one line."""

from __future__ import annotations

import re

import numpy as np
import pytest
from PIL import Image

from core.data.images.files import match_channels
from core.data.images.resize import imresize
from core.errors import ConfigError, DataError
from tasks.denoising.config import DataConfig
from tasks.denoising.data import HELD_OUT, load_data


def picture(seed, height=20, width=24, channels=1):
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels)).astype(np.uint8)


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.squeeze()).save(path)


def folder(path, count=10, start=0, **options):
    for i in range(start, start + count):
        save(path / f"{i}.png", picture(i, **options))
    return str(path)


def load(path=None, **options):
    options = {"patch": 8, **options}
    return load_data(DataConfig(path=str(path) if path else None, **options))


def names(data):
    return data.train.clean.names, [name for part in data.tests.values() for name in part.clean.names]


def pixels(part):
    return [image.tobytes() for image in part.clean.images]


# ---------------------------------------------------------------- folders


def test_a_folder_is_split_by_image(tmp_path):
    data = load(folder(tmp_path / "photos", 20))
    train, test = names(data)
    assert (len(train), len(test)) == (18, 2)
    assert set(train) | set(test) == {f"{i}.png" for i in range(20)}
    assert not set(pixels(data.train)) & set(pixels(data.tests["test"]))
    assert (data.name, data.channels, data.size) == ("photos", 1, 20)
    assert "2 of 20 held out: 2 to test on, 18 to learn from" in data.notes
    assert names(load(folder(tmp_path / "photos", 20))) == (train, test), "the split is always the same"


@pytest.mark.parametrize(("share", "expected"), [(0.01, 1), (0.25, 2), (0.5, 5), (0.99, 9)])
def test_the_share_of_the_test_leaves_something_on_both_sides(tmp_path, share, expected):
    assert len(names(load(folder(tmp_path), test_share=share))[1]) == expected


def test_a_scene_is_never_on_both_sides(tmp_path):
    for scene in range(8):
        for shot in range(3):
            save(tmp_path / f"scene{scene}_{shot}.png", picture(10 * scene + shot))
    data = load(tmp_path, scene="^[^_]+", test_share=0.3)
    sides = [{name.split("_")[0] for name in side} for side in names(data)]
    assert not sides[0] & sides[1]
    assert (len(sides[0]), len(sides[1])) == (6, 2)
    held_out = ", ".join(sorted(sides[1]))
    assert f"2 of 8 groups ({held_out}) held out: 6 to test on, 18 to learn from" in data.notes
    grouped = load(tmp_path, scene="scene(\\d)_", test_share=0.3)
    assert {name[5] for name in names(grouped)[0]} & {name[5] for name in names(grouped)[1]} == set()


def test_a_test_folder_replaces_the_split(tmp_path):
    data = load(folder(tmp_path / "train"), test_path=[folder(tmp_path / "Set3", 3, start=50)])
    assert list(data.tests) == ["Set3"]
    assert [len(side) for side in names(data)] == [10, 3]


def test_test_folders_of_one_name_are_both_used(tmp_path):
    paths = [folder(tmp_path / side / "images", 2, start) for side, start in (("a", 0), ("b", 50))]
    data = load(test_path=paths)
    assert list(data.tests) == ["images", "b_images"]
    assert data.train is None and data.size == 4
    assert list(load(test_path=[*paths, paths[1]]).tests) == ["images", "b_images", "b_images_2"]


def test_images_of_the_test_are_taken_out_of_the_training(tmp_path):
    train, test = folder(tmp_path / "train", 10), folder(tmp_path / "test", 3, start=8)
    data = load(train, test_path=[test])
    assert names(data)[0] == [f"{i}.png" for i in range(8)]
    assert "8.png: left out, it is the test image 8.png" in data.notes
    with pytest.raises(DataError, match="every training image is also a test image"):
        load(test, test_path=[test])


def test_images_of_all_sizes_and_kinds_are_used(tmp_path):
    save(tmp_path / "gray.png", picture(0, 16, 40))
    save(tmp_path / "colour.png", picture(1, 33, 9, 3))
    save(tmp_path / "colour2.png", picture(2, 21, 22, 3))
    deep = np.random.default_rng(3).integers(0, 65536, (15, 17)).astype(np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    gray, colour = load(tmp_path, channels=1), load(tmp_path, channels=3)
    for data, channels in ((gray, 1), (colour, 3)):
        every = dict(
            zip(
                [*names(data)[0], *names(data)[1]],
                [*data.train.clean.images, *data.tests["test"].clean.images],
                strict=True,
            )
        )
        assert every["gray.png"].shape == (16, 40, channels)
        assert every["colour.png"].shape == (33, 9, channels)
        assert every["deep.png"].shape == (15, 17, channels) and every["deep.png"].dtype == np.uint16
    assert gray.notes[0] == "2 read with 3 and turned into 1 channels"
    assert gray.digest != colour.digest


@pytest.mark.parametrize(("colours", "expected"), [(0, 1), (1, 1), (3, 3), (4, 3)])
def test_channels_are_those_of_most_files(tmp_path, colours, expected):
    for i in range(4):
        save(tmp_path / f"{i}.png", picture(i, channels=3 if i < colours else 1))
    assert load(tmp_path).channels == expected


def test_broken_files_are_left_out_and_told(tmp_path):
    folder(tmp_path)
    whole = (tmp_path / "5.png").read_bytes()
    (tmp_path / "00 zero.png").write_bytes(b"")
    (tmp_path / "5.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.png").write_text("no image")
    data = load(tmp_path)
    assert data.size == 9 and data.channels == 1
    assert sum("left out" in note for note in data.notes) == 3
    assert any("00 zero.png: the file is empty (0 bytes)" in note for note in data.notes)
    assert any("5.png: cannot be decoded" in note for note in data.notes)
    assert any("text.png: is not an image" in note for note in data.notes)


def test_training_images_below_a_patch_are_left_out_beside_a_test_folder(tmp_path):
    train = folder(tmp_path / "train")
    save(tmp_path / "train" / "small.png", picture(99, 7, 30))
    data = load(train, test_path=[folder(tmp_path / "test", 2, start=50, height=5)])
    assert data.size == 12
    assert "small.png: left out, 30x7 pixels are fewer than 8 on a side" in data.notes


def test_one_small_image_does_not_stop_a_training(tmp_path):
    folder(tmp_path)
    save(tmp_path / "small.png", picture(99, 7, 30))
    data = load(tmp_path)
    sides = names(data)
    assert "small.png" not in sides[0] and len(sides[0]) + len(sides[1]) == 10 + ("small.png" in sides[1])
    note = "small.png: left out, 30x7 pixels are fewer than 8 on a side"
    assert (note in data.notes) != ("small.png" in sides[1])
    assert sides[1] == names(load(tmp_path, patch=1))[1], "the split does not depend on the patch"


def test_small_pairs_are_left_out_on_both_sides(tmp_path):
    path = pairs(tmp_path / "train")
    for low, value in (("noisy", 3), ("clean", 5)):
        save(tmp_path / "train" / low / "s0_3.png", np.full((7, 30), value, np.uint8))
    data = load(path, test_path=[pairs(tmp_path / "test", 1, start=50)])
    assert data.train.clean.names == data.train.noisy.names == ["s0_0", "s1_1", "s1_4", "s2_2", "s2_5"]
    for noisy, clean in zip(data.train.noisy.images, data.train.clean.images, strict=True):
        np.testing.assert_array_equal(noisy, 255 - clean)


def test_smaller_versions_that_hold_no_patch_are_told(tmp_path):
    with pytest.raises(
        DataError, match=r"--data.resize \[0.3\] leaves no training image as large as a patch"
    ):
        load(folder(tmp_path), resize=[0.3])


def test_smaller_versions_are_added_for_training_alone(tmp_path):
    data = load(folder(tmp_path), resize=[1.0, 0.5, 0.3])
    train, test = names(data)
    assert len(test) == 1
    # 0.3 of 20 x 24 is less than a patch of 8.
    stems = [name for name in train if " " not in name]
    assert train == [form for name in stems for form in (name, f"{name} x0.5")]
    np.testing.assert_array_equal(data.train.clean.images[1], imresize(data.train.clean.images[0], 0.5))


def test_the_digest_is_of_images_split_and_test_noise(tmp_path):
    path = folder(tmp_path / "train")
    first = load(path).digest
    assert load(path).digest == first
    assert load(path, patch=9, photons=3.0, sigma=[0.0, 50.0], test_sigma=[25.0]).digest == first
    assert load(path, resize=[1.0, 0.5]).digest == first
    assert load(path, sigma=15.0).digest != first
    assert load(path, kinds=["clipped"]).digest != first
    assert load(path, test_seed=1).digest != first
    assert load(path, test_share=0.5).digest != first
    save(tmp_path / "train" / "3.png", picture(3, height=21))
    assert load(path).digest != first


def test_the_digest_does_not_depend_on_the_patch(tmp_path):
    path = folder(tmp_path / "train")
    save(tmp_path / "train" / "small.png", picture(99, 7, 30))
    tests = [folder(tmp_path / "test", 2, start=50)]
    small, large = (load(path, test_path=tests, patch=patch) for patch in (5, 8))
    assert len(small.train.clean.names) == len(large.train.clean.names) + 1
    assert small.digest == large.digest


def test_gray_test_images_keep_the_colour_that_their_luma_is_taken_of(tmp_path):
    path = folder(tmp_path, 3, channels=3)
    save(tmp_path / "gray.png", picture(9))
    options = {"test_path": [path], "channels": 1}
    for kinds in (["super_resolution"], ["gaussian", "jpeg"]):
        (test,) = load(**options, kinds=kinds).tests.values()
        assert sorted(test.colour) == ["0.png", "1.png", "2.png"]
        np.testing.assert_array_equal(test.colour["1.png"], picture(1, channels=3))
        assert {image.shape[2] for image in test.clean.images} == {1}
    for other in ({"channels": 1}, {"channels": 3, "kinds": ["jpeg"]}):
        (test,) = load(test_path=[path], **other).tests.values()
        assert test.colour == {}
    held_out = load(path, channels=1, kinds=["jpeg"], test_share=0.5).tests["test"]
    assert set(held_out.colour) == set(held_out.clean.names) - {"gray.png"} != set()


def test_the_digest_is_of_the_colour_that_luma_is_taken_of(tmp_path):
    folder(tmp_path / "a", 2, channels=3)
    for i in range(2):
        save(tmp_path / "b" / f"{i}.png", match_channels(picture(i, channels=3), 1, ""))
    options = {"channels": 1, "test_path": [str(tmp_path / "a")]}, {"test_path": [str(tmp_path / "b")]}
    for kind, same in (("gaussian", True), ("jpeg", False)):
        first, second = (load(**given, kinds=[kind]).digest for given in options)
        assert (first == second) == same


def test_photographs_keep_their_colour():
    test = load(kinds=["jpeg"]).tests["photographs"]
    assert sorted(name.split(".")[0] for name in test.colour) == ["chelsea", "rocket"]


# ---------------------------------------------------------------- pairs


def pairs(path, count=6, layout="noisy clean", start=0):
    low, high = layout.split()
    for i in range(start, start + count):
        clean = picture(i)
        save(path / low / f"s{i % 3}_{i}.png", 255 - clean)
        save(path / high / f"s{i % 3}_{i}.png", clean)
    return str(path)


@pytest.mark.parametrize("name", ["auto", "pairs"])
@pytest.mark.parametrize("layout", ["noisy clean", "Noisy Clean", "lq gt", "input target"])
def test_pairs_in_two_folders(tmp_path, name, layout):
    data = load(pairs(tmp_path, layout=layout), name=name)
    assert data.channels == 1
    for part in (data.train, data.tests["test"]):
        assert part.clean.names == part.noisy.names
        for noisy, clean in zip(part.noisy.images, part.clean.images, strict=True):
            np.testing.assert_array_equal(noisy, 255 - clean)


def test_pairs_in_one_folder_beside_other_files(tmp_path):
    for i in range(4):
        save(tmp_path / f"scene_{i}_real.png", picture(i + 50, channels=3))
        save(tmp_path / f"scene_{i}_mean.png", picture(i, channels=3))
    (tmp_path / "Thumbs.db").write_bytes(b"x")
    data = load(tmp_path)
    assert data.channels == 3
    assert data.train.noisy is not None and len(data.train.noisy.images) == 3
    np.testing.assert_array_equal(
        data.train.clean.images[0], picture(int(data.train.clean.names[0][-1]), channels=3)
    )


def test_pairs_of_a_scene_stay_together(tmp_path):
    data = load(pairs(tmp_path, 9), scene="^s\\d", test_share=0.34)
    sides = [{name[:2] for name in side} for side in names(data)]
    assert (len(sides[0]), len(sides[1])) == (2, 1) and not sides[0] & sides[1]


def test_pairs_of_the_test_are_taken_out_of_the_training(tmp_path):
    """By the clean image: another noisy version of it would give the answer away too."""
    train, test = pairs(tmp_path / "a"), pairs(tmp_path / "b", 3, start=4)
    save(tmp_path / "b" / "noisy" / "s1_4.png", picture(77))
    data = load(train, test_path=[test])
    assert data.train.clean.names == data.train.noisy.names
    assert len(data.train.clean.names) == 4
    np.testing.assert_array_equal(data.train.noisy.images[3], 255 - data.train.clean.images[3])


def test_broken_pairs_are_left_out_and_told(tmp_path):
    pairs(tmp_path)
    (tmp_path / "noisy" / "s1_4.png").write_bytes(b"")
    data = load(tmp_path)
    assert data.size == 5
    assert any("s1_4.png: the file is empty" in note for note in data.notes)


# ---------------------------------------------------------------- what comes with scikit-image


def test_photographs_need_no_files():
    data = load()
    assert (data.name, data.channels) == ("photographs", 1)
    train, test = names(data)
    assert sorted(name.split(".")[0] for name in test) == sorted(HELD_OUT)
    assert len(train) == 10 and not set(train) & set(test)
    assert {image.shape[2] for image in data.train.clean.images} == {1}


# ---------------------------------------------------------------- mistakes


def check_line(error):
    text = str(error.value)
    assert "\n" not in text
    return text


def test_a_folder_without_images_is_told(tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(DataError, match=r"no images in this folder; give one with files of \.png") as error:
        load(tmp_path)
    assert str(tmp_path) in check_line(error)


def test_a_missing_folder_is_told(tmp_path):
    for options in ({}, {"name": "pairs"}, {"name": "folder"}):
        with pytest.raises(DataError, match="missing: there is no such file or folder") as error:
            load(tmp_path / "missing", **options)
        check_line(error)
    with pytest.raises(DataError, match="gone: there is no such file or folder"):
        load(folder(tmp_path), test_path=[str(tmp_path / "gone")])


def test_a_folder_with_nothing_usable_is_told(tmp_path):
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(DataError, match=r"no usable image; left out: .*a.png: the file is empty") as error:
        load(tmp_path)
    check_line(error)


def test_one_image_or_scene_cannot_be_split(tmp_path):
    with pytest.raises(DataError, match=r"one group alone cannot be split .* give --data.test_path"):
        load(folder(tmp_path, 1))
    folder(tmp_path, 4)
    with pytest.raises(DataError, match="one group alone cannot"):
        load(tmp_path, scene="png")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"scene": "("}, r"--data.scene '\(' is not a regular expression: "),
        ({"scene": "^x"}, r"--data.scene '\^x' finds nothing in the name \d.png; every name needs its group"),
        ({"test_share": 0.0}, "--data.test_share 0.0 is not a share; use a number between 0 and 1"),
        ({"test_share": 1.0}, "--data.test_share 1.0 is not a share"),
        ({"name": "photographs"}, "--data.name photographs takes no path"),
    ],
)
def test_wrong_options_are_told(tmp_path, options, said):
    with pytest.raises(ConfigError, match=said) as error:
        load(folder(tmp_path), **options)
    check_line(error)


@pytest.mark.parametrize(
    ("options", "said"),
    [({"test_share": 0.2}, "--data.test_share 0.2"), ({"scene": "^a"}, "--data.scene '^a'")],
)
@pytest.mark.parametrize("name", ["auto", "photographs"])
def test_the_split_of_the_photographs_is_fixed(name, options, said):
    with pytest.raises(ConfigError, match=re.escape(f"{said} splits a folder, not the photographs")) as error:
        load(name=name, **options)
    check_line(error)


@pytest.mark.parametrize("name", ["folder", "pairs"])
def test_a_path_is_needed(name):
    with pytest.raises(ConfigError, match=re.escape(f"--data.name {name} needs --data.path FOLDER")):
        load(name=name)


def test_pairs_that_do_not_fit_are_told(tmp_path):
    pairs(tmp_path / "alone")
    (tmp_path / "alone" / "noisy" / "s0_3.png").unlink()
    with pytest.raises(DataError, match=r"alone: without a partner: s0_3\.png; add or remove"):
        load(tmp_path / "alone")
    pairs(tmp_path / "size")
    save(tmp_path / "size" / "noisy" / "s0_0.png", picture(0, 20, 20))
    with pytest.raises(DataError, match=r"s0_0.png: is 24x20, but s0_0.png asks for 20x20 pixels") as error:
        load(tmp_path / "size")
    check_line(error)
    with pytest.raises(ConfigError, match=r"--data\.resize would change real noise; leave it out for pairs"):
        load(pairs(tmp_path / "fine"), resize=[1.0, 0.5])
    with pytest.raises(DataError, match="no pairs; give folders noisy/ and clean/"):
        load(folder(tmp_path / "folder"), name="pairs")
