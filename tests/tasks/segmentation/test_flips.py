"""Flips, quarter turns, brightness and contrast of images by albumentations."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from core.errors import ConfigError
from tasks.segmentation.config import AugmentConfig
from tasks.segmentation.labels import IGNORE
from tasks.segmentation.transforms import AUGMENTATIONS


def made(patch=(6, 6), mirror=None, channels=2, changes=False):
    plan = SimpleNamespace(dims=len(patch), patch_size=patch, normalisation=("zscore",) * channels)
    return AUGMENTATIONS["flips"](AugmentConfig("flips", mirror), plan, changes)


def patch_of(patch=(6, 6), channels=2):
    image = np.random.default_rng(3).normal(2, 30, (channels, *patch)).astype(np.float32)
    labels = np.arange(np.prod(patch)).reshape(patch).astype(np.int16) + IGNORE
    return image, labels


def drawn(augmentation, image, labels, count=200):
    def read(size):
        assert size == labels.shape
        return torch.from_numpy(image.copy()), torch.from_numpy(labels.copy())

    return [augmentation(read, np.random.default_rng([1, i])) for i in range(count)]


def symmetries(array):
    turned = [np.rot90(array, k, (-2, -1)) for k in range(4)]
    return turned + [np.flip(each, -1) for each in turned]


def test_square_patches_take_all_eight_symmetries_with_their_labels():
    image, labels = patch_of()
    images, maps = symmetries(image), symmetries(labels)
    seen = set()
    for changed, truth in drawn(made(), image, labels):
        (which,) = [i for i, each in enumerate(maps) if np.array_equal(each, truth)]
        assert np.array_equal(changed, images[which])
        assert changed.dtype == torch.float32 and truth.dtype == torch.int16
        seen.add(which)
    assert len(seen) == 8


@pytest.mark.parametrize(
    ("patch", "mirror", "flips"),
    [((4, 6), None, [[], [0], [1], [0, 1]]), ((6, 6), [1], [[], [1]]), ((6, 6), [], [[]])],
)
def test_other_patches_are_flipped_along_the_given_axes(patch, mirror, flips):
    image, labels = patch_of(patch)
    seen = set()
    for changed, truth in drawn(made(patch, mirror), image, labels, 60):
        (which,) = [i for i, axes in enumerate(flips) if np.array_equal(truth, np.flip(labels, axes))]
        assert np.array_equal(changed, np.flip(image, [axis + 1 for axis in flips[which]]))
        seen.add(which)
    assert len(seen) == len(flips)


def test_brightness_and_contrast_change_half_of_the_patches_inside_their_range():
    image, labels = patch_of()
    kept = 0
    for changed, truth in drawn(made(mirror=[], changes=True), image, labels):
        assert np.array_equal(truth, labels)
        assert changed.min() >= image.min() - 1e-3 and changed.max() <= image.max() + 1e-3
        kept += np.allclose(changed, image, atol=1e-3)
        # A line through all values, apart from those that were cut off.
        inside = (changed.numpy() > image.min() + 0.01) & (changed.numpy() < image.max() - 0.01)
        slope, offset = np.polyfit(image[inside], changed.numpy()[inside], 1)
        assert 0.79 < slope < 1.21
        np.testing.assert_allclose(changed.numpy()[inside], slope * image[inside] + offset, atol=1e-2)
    assert 70 < kept < 130


def test_a_patch_of_one_value_stays_finite():
    image, labels = np.full((1, 6, 6), 4.0, np.float32), patch_of()[1]
    for changed, _ in drawn(made(channels=1, changes=True), image, labels, 20):
        assert changed.isfinite().all() and (changed - 4).abs().max() <= 1


def test_the_coarser_segmentation_keeps_its_values():
    image, labels = patch_of(channels=3)
    image[2] = labels > 10
    changed = [patch for patch, _ in drawn(made(channels=2, changes=True), image, labels, 30)]
    assert all(set(patch[2].unique().tolist()) == {0.0, 1.0} for patch in changed)


def test_the_generator_alone_decides():
    image, labels = patch_of()
    augmentation = made(changes=True)
    first = drawn(augmentation, image, labels, 10)
    np.random.seed(0)
    for (a, b), (c, d) in zip(first, drawn(augmentation, image, labels, 10), strict=True):
        assert torch.equal(a, c) and torch.equal(b, d)


def test_volumes_are_refused():
    with pytest.raises(ConfigError, match=r"--augment\.kind flips .* use nnunet or mirror"):
        made((4, 6, 6))
