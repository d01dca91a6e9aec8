"""Random patches: inside the image, aligned between versions, turned alike."""

import numpy as np
import pytest

from core.data.images.augment import Symmetries
from core.data.images.patches import Patches, check_patches, large_enough
from core.errors import ConfigError, DataError


def places(height, width, channels=1):
    """Each pixel holds its own place, so that a patch tells where it was cut."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([1000 * rows + columns] * channels, axis=2).astype(np.float32)


def rng(seed=0):
    return np.random.default_rng(seed)


def eight(image):
    """The symmetries of the square, by definition."""
    turned = [np.rot90(image, k) for k in range(4)]
    return [*turned, *(t[:, ::-1] for t in turned)]


def test_patches_are_pieces_of_their_image_and_reach_every_corner():
    images = [places(7, 9), places(5, 5) + 0.5]
    patches = Patches(["a", "b"], [images], 4, 3, augment=False)
    assert len(patches) == 6
    assert [patches.name(i) for i in range(6)] == ["a"] * 3 + ["b"] * 3
    corners = set()
    for seed in range(200):
        (patch,) = patches.crop(seed % 3, rng(seed))
        top, left = (int(x) for x in divmod(patch[0, 0, 0], 1000))
        np.testing.assert_array_equal(patch, images[0][top : top + 4, left : left + 4])
        corners.add((top, left))
    assert corners == {(top, left) for top in range(4) for left in range(6)}
    assert patches.crop(4, rng())[0][0, 0, 0] % 1 == 0.5, "index 4 is cut from the second image"


def test_an_image_of_the_size_of_a_patch_is_the_patch():
    (patch,) = Patches(["a"], [[places(6, 6)]], 6, 1, augment=False).crop(0, rng())
    np.testing.assert_array_equal(patch, places(6, 6))


def test_the_same_rng_cuts_the_same_patch():
    patches = Patches(["a"], [[places(20, 20)]], 5, 10)
    first, again, other = (patches.crop(0, rng(seed))[0] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("augment", [False, True])
@pytest.mark.parametrize("factor", [1, 2, 3])
def test_versions_are_cut_from_the_same_place_and_turned_alike(augment, factor):
    small = places(12, 10)
    large = np.kron(small, np.ones((factor, factor, 1), np.float32))
    third = small.repeat(3, axis=2) + 0.25
    patches = Patches(["a"], [[small], [large], [third]], 5, 1, augment)
    for seed in range(20):
        cut, enlarged, colour = patches.crop(0, rng(seed))
        assert cut.shape == (5, 5, 1) and enlarged.shape == (5 * factor, 5 * factor, 1)
        np.testing.assert_array_equal(enlarged, np.kron(cut, np.ones((factor, factor, 1))))
        np.testing.assert_array_equal(colour, cut.repeat(3, axis=2) + 0.25)


@pytest.mark.parametrize("augment", [False, True])
def test_a_derived_version_is_of_the_same_place_and_turned_alike(augment):
    image = places(12, 10)
    patches = Patches(["a"], [[image]], 5, 1, augment)
    for seed in range(20):
        cut, derived = patches.crop(0, rng(seed), lambda rows, columns: image[rows, columns] + 0.5)
        np.testing.assert_array_equal(derived, cut + 0.5)
        np.testing.assert_array_equal(cut, patches.crop(0, rng(seed))[0])


def test_all_eight_symmetries_occur_about_equally():
    image = places(3, 3)
    found = [0] * 8
    for seed in range(400):
        (turned,) = Symmetries()(rng(seed), image)
        (match,) = [k for k, form in enumerate(eight(image)) if np.array_equal(form, turned)]
        found[match] += 1
    # 50 of each are expected, with a standard deviation of 6.6.
    assert min(found) > 23 and max(found) < 77


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("channels", [1, 3])
def test_turning_keeps_type_and_channels(dtype, channels):
    image = rng().integers(0, 255, (6, 4, channels)).astype(dtype)
    (turned,) = Symmetries()(rng(3), image)
    assert turned.dtype == dtype and turned.flags.c_contiguous
    assert any(np.array_equal(form, turned) for form in eight(image))


def test_turning_leaves_the_global_generator_alone():
    np.random.seed(3)
    expected = np.random.rand()
    np.random.seed(3)
    Patches(["a"], [[places(20, 20)]], 5, 10).crop(0, rng())
    assert np.random.rand() == expected


def test_a_small_image_is_named_before_training():
    with pytest.raises(DataError, match=r"^b has 9x5 pixels, less than a patch of 6; lower --data.patch"):
        Patches(["a", "b"], [[places(6, 6), places(5, 9)]], 6, 1)


def test_images_below_a_patch_are_told_apart():
    images = [places(6, 6), places(5, 9), places(9, 7), places(9, 5)]
    keep, notes = large_enough(["a", "b", "c", "d"], images, 6)
    assert keep == [0, 2]
    assert notes == [
        "b: left out, 9x5 pixels are fewer than 6 on a side",
        "d: left out, 5x9 pixels are fewer than 6 on a side",
    ]
    many = large_enough([*"abcdef"], [places(9, 9), *[places(5, 5)] * 5], 6)[1]
    assert len(many) == 4 and many[3] == "2 more left out for such reasons"


def test_where_none_is_large_enough_all_stay_for_the_error():
    assert large_enough(["a", "b"], [places(5, 5)] * 2, 6) == ([0, 1], [])


@pytest.mark.parametrize(
    ("patch", "patches", "said"), [(0, 1, "--data.patch 0"), (1, -1, "--data.patches -1")]
)
def test_no_patches_are_refused(patch, patches, said):
    with pytest.raises(ConfigError, match=f"{said} is too small; use 1 or more"):
        check_patches(patch, patches)
    check_patches(1, 1)
