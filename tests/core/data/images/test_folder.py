import hashlib

import numpy as np
import pytest

from core.data.images.files import Picture, write_picture
from core.data.images.folder import (
    Loaded,
    content_digest,
    drop_leaks,
    list_pictures,
    load_pairs,
    load_pictures,
    other_files,
    set_names,
)
from core.errors import DataError


def picture(seed, height=8, width=9, channels=3):
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels)).astype(np.uint8)


def put(path, seed=0, **shape):
    write_picture(path, Picture(picture(seed, **shape)))
    return path


def test_listing_is_natural_and_flat(tmp_path):
    for name in ("img10.png", "img2.png", "IMG1.PNG", "a.bmp", ".hidden.png", "deeper/b.png"):
        put(tmp_path / name)
    (tmp_path / "notes.txt").write_text("x")
    assert [item.name for item in list_pictures(tmp_path)] == ["a.bmp", "IMG1.PNG", "img2.png", "img10.png"]
    assert list_pictures(tmp_path / "a.bmp") == [tmp_path / "a.bmp"]


def test_what_a_listing_leaves_out(tmp_path):
    put(tmp_path / "a.png")
    put(tmp_path / "deeper.gif" / "b.png")
    for name in ("x10.gif", "x2.JFIF", ".DS_Store", ".y.gif", "none"):
        (tmp_path / name).write_text("x")
    assert [item.name for item in other_files(tmp_path)] == ["none", "x2.JFIF", "x10.gif"]


def test_listing_nothing(tmp_path):
    with pytest.raises(DataError, match=r"no images in this folder; .*\.png, \.jpg"):
        list_pictures(tmp_path)
    with pytest.raises(DataError, match="no such file or folder"):
        list_pictures(tmp_path / "missing")


def test_loading_drops_with_notes(tmp_path):
    put(tmp_path / "a.png", 1)
    put(tmp_path / "b.bmp", 1)
    put(tmp_path / "c.png", 2, height=4)
    (tmp_path / "d.png").write_bytes(b"")
    put(tmp_path / "e.png", 3, channels=1)
    loaded = load_pictures(tmp_path, 3, min_size=8)
    assert loaded.names == ["a.png", "e.png"]
    np.testing.assert_array_equal(loaded.images[0], picture(1))
    np.testing.assert_array_equal(loaded.images[1], np.repeat(picture(3, channels=1), 3, axis=2))
    assert loaded.notes == [
        "b.bmp: left out, the same pixels as a.png",
        "c.png: left out, 9x4 pixels are fewer than 8 on a side",
        f"left out: {tmp_path / 'd.png'}: the file is empty (0 bytes); copy it again",
        "1 read with 1 and turned into 3 channels",
    ]


def test_float_images_with_another_white_are_left_out(tmp_path):
    put(tmp_path / "a.png", 1)
    np.save(tmp_path / "b.npy", picture(2).astype(np.float32))
    loaded = load_pictures(tmp_path, 3)
    assert loaded.names == ["a.png"]
    assert len(loaded.notes) == 1 and "b.npy: float values from 0 to 25" in loaded.notes[0]


def test_many_drops_are_counted(tmp_path):
    for index in range(6):
        put(tmp_path / f"{index}.png", 1)
    notes = load_pictures(tmp_path, 3).notes
    assert len(notes) == 4 and notes[-1] == "2 more left out for such reasons"


def test_alpha_is_told(tmp_path):
    write_picture(tmp_path / "a.png", Picture(picture(1), picture(2)[..., 0]))
    assert load_pictures(tmp_path, 3).notes == ["alpha of 1 ignored"]


def test_several_folders_have_distinct_names(tmp_path):
    put(tmp_path / "one" / "a.png", 1)
    put(tmp_path / "two" / "a.png", 2)
    assert load_pictures([tmp_path / "one", tmp_path / "two"], 3).names == ["one/a.png", "two/a.png"]


def test_nothing_usable(tmp_path):
    put(tmp_path / "a.png", height=4)
    with pytest.raises(DataError, match=r"no usable image; a\.png: left out, 9x4"):
        load_pictures(tmp_path, 3, min_size=8)


def test_pairs_of_two_folders(tmp_path):
    for index in (10, 2):
        put(tmp_path / "Noisy" / f"{index}.png", index)
        put(tmp_path / "clean" / f"{index}.bmp", index + 100)
    noisy, clean = load_pairs(tmp_path, 3)
    assert noisy.names == clean.names == ["2", "10"]
    np.testing.assert_array_equal(noisy.images[1], picture(10))
    np.testing.assert_array_equal(clean.images[1], picture(110))


def test_pairs_of_another_scale(tmp_path):
    put(tmp_path / "LR_X2" / "babyx2.png", 1, height=4, width=5)
    put(tmp_path / "HR" / "baby.png", 2, height=8, width=11)
    low, high = load_pairs(tmp_path, 3, scale=2)
    assert low.names == ["baby"] and low.images[0].shape == (4, 5, 3)
    np.testing.assert_array_equal(high.images[0], picture(2, 8, 11)[:, :10])
    assert low.notes == ["1 clean images cut at the bottom and right to multiples of the scale"]


@pytest.mark.parametrize(
    ("low", "high", "name"),
    [
        ("Canon_real_5_1_real.JPG", "Canon_real_5_1_mean.JPG", "Canon_real_5_1"),
        ("x_noisy.png", "x_clean.png", "x"),
        ("0001_NOISY_SRGB_010.PNG", "0001_GT_SRGB_010.PNG", "0001_SRGB_010"),
    ],
)
def test_pairs_in_one_folder(tmp_path, low, high, name):
    put(tmp_path / low, 1)
    put(tmp_path / high, 2)
    noisy, clean = load_pairs(tmp_path, 3)
    assert noisy.names == [name]
    assert noisy.images[0].mean() == pytest.approx(picture(1).mean(), abs=2)
    assert clean.images[0].mean() == pytest.approx(picture(2).mean(), abs=2)


def test_pairs_drop_together(tmp_path):
    for stem, seed in (("a", 1), ("b", 1), ("c", 2)):
        put(tmp_path / "noisy" / f"{stem}.png", seed)
        put(tmp_path / "clean" / f"{stem}.png", 9)
    (tmp_path / "clean" / "c.png").write_bytes(b"")
    noisy, clean = load_pairs(tmp_path, 3)
    assert noisy.names == clean.names == ["a"] and len(clean.images) == 1
    assert noisy.notes[0] == "b: left out, the same pixels as a" and "c.png" in noisy.notes[1]


def test_pairs_that_do_not_fit(tmp_path):
    put(tmp_path / "noisy" / "a.png")
    put(tmp_path / "clean" / "a.png", height=7)
    with pytest.raises(DataError, match=r"a\.png: is 9x7, but a\.png asks for 9x8 pixels"):
        load_pairs(tmp_path, 3)
    put(tmp_path / "noisy" / "b.png")
    with pytest.raises(DataError, match=r"without a partner: b\.png; add or remove"):
        load_pairs(tmp_path, 3)


def test_pairs_with_a_stranger_in_the_folder(tmp_path):
    for name in ("a_noisy.png", "a_clean.png", "other.png"):
        put(tmp_path / name)
    with pytest.raises(DataError, match=r"without a partner: other\.png"):
        load_pairs(tmp_path, 3)


def test_no_pairs(tmp_path):
    put(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"no pairs; give folders noisy/ and clean/"):
        load_pairs(tmp_path, 3)
    with pytest.raises(DataError, match="no such folder"):
        load_pairs(tmp_path / "missing", 3)


def test_digest_sees_type_shape_and_order():
    image = np.arange(6, dtype=np.uint8).reshape(1, 2, 3)
    assert content_digest([image]) == hashlib.sha256(b"uint8(1, 2, 3)" + bytes(range(6))).hexdigest()
    others = [image.reshape(2, 1, 3), image.astype(np.uint16), image + np.uint8(1)]
    assert len({content_digest([item]) for item in [image, *others]}) == 4
    assert content_digest([image, others[0]]) != content_digest([others[0], image])
    assert content_digest([image[:, ::-1]]) == content_digest([image[:, ::-1].copy()])


def test_leaks_are_dropped():
    train = Loaded(["a", "b", "c"], [picture(1), picture(2), picture(3)], ["before"])
    test = Loaded(["x"], [picture(2)])
    assert drop_leaks(train, test) == [0, 2]
    assert train.names == ["a", "c"]
    np.testing.assert_array_equal(train.images[1], picture(3))
    assert train.notes == ["before", "b: left out, it is the test image x"]
    with pytest.raises(DataError, match="every training image is also a test image"):
        drop_leaks(Loaded(["b"], [picture(2)]), test)


def test_names_of_image_sets_are_each_given_once(tmp_path):
    paths = [tmp_path / part for part in ("a/Set5", "a/Set5/HR", "b/Set5/HR", "b/Set5", "Set14")]
    assert set_names(paths) == ["Set5", "a_Set5", "b_Set5", "b_Set5_2", "Set14"]
    assert set_names([]) == []
