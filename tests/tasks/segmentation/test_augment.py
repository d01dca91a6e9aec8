"""nnU-Net's augmentation: how often what happens, and what it keeps."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import ndimage

from tasks.segmentation import augment, intensity, spatial
from tasks.segmentation.augment import NNUNetAugmentation
from tasks.segmentation.config import AugmentConfig


def rng(*seed):
    return np.random.default_rng(seed or 0)


def made(patch, probability=1.0, mirror=None, masked=(False,), previous=0, changes=True):
    plan = SimpleNamespace(
        dims=len(patch), patch_size=patch, masked_normalisation=masked, previous_classes=previous
    )
    return NNUNetAugmentation(AugmentConfig("nnunet", mirror, probability), plan, changes)


def reader(volume, labels, patch):
    """Reads boxes about the centre of a volume, and keeps what was asked for."""
    asked = []

    def read(size):
        asked.append(size)
        start = [(n - p) // 2 - (s - p) // 2 for n, s, p in zip(labels.shape, size, patch, strict=True)]
        assert min(start) >= 0
        box = tuple(slice(a, a + s) for a, s in zip(start, size, strict=True))
        return torch.from_numpy(volume[:, *box].copy()), torch.from_numpy(labels[box].copy())

    return read, asked


def smooth(shape, seed=0):
    return ndimage.gaussian_filter(rng(seed).normal(size=shape), 1.5).astype(np.float32)


# ---------------------------------------------------------------- rotation and scale


@pytest.mark.parametrize(
    ("patch", "planar", "degrees"),
    [
        ((40, 56, 40), False, 30),
        ((16, 48, 48), False, 30),
        ((15, 48, 48), True, 180),
        ((48, 64), True, 180),
        ((40, 64), True, 15),
    ],
)
def test_how_far_patches_turn(patch, planar, degrees):
    augmentation = made(patch)
    assert (augmentation.planar, round(np.degrees(augmentation.angle))) == (planar, degrees)
    assert augmentation.slices == (planar and len(patch) == 3)


def test_how_often_patches_move(monkeypatch):
    drawn = []
    monkeypatch.setattr(
        augment, "affine_matrix", lambda angles, scale: drawn.append((angles[0], scale)) or np.eye(2)
    )
    labels = np.zeros((24, 24), np.int16)
    read, asked = reader(smooth((1, 24, 24)), labels, (8, 8))
    generator = rng()
    for _ in range(1000):
        image, truth = made((8, 8), changes=False).move(read, generator)
        assert image.shape == (1, 8, 8) and truth.shape == (8, 8)
    angles, scales = np.array(drawn).T
    assert len(drawn) / 1000 == pytest.approx(1 - 0.8 * 0.8, abs=0.04)
    assert (angles != 0).sum() / 1000 == pytest.approx(0.2, abs=0.04)
    assert (scales != 1).sum() / 1000 == pytest.approx(0.2, abs=0.04)
    assert np.abs(angles).max() == pytest.approx(np.pi, abs=0.1) and angles.min() < -3
    assert 0.7 <= scales.min() < 0.75 and 1.35 < scales.max() < 1.4
    # No more than a patch is read where it does not move.
    assert asked.count((8, 8)) == 1000 - len(drawn)
    for _ in range(50):
        made((8, 8), probability=0.0).move(read, generator)
    assert asked[1000:] == [(8, 8)] * 50


# ---------------------------------------------------------------- values


def test_factors_lie_below_and_above_one_equally_often():
    factors = np.array([augment._factor(0.7, 1.5, rng(i)) for i in range(600)])
    assert 0.7 <= factors.min() < 0.75 and 1.45 < factors.max() <= 1.5
    assert 0.44 < (factors < 1).mean() < 0.56


CHANGES = {"noise": 0.1, "blur": 0.2, "contrast": 0.15, "low_resolution": 0.25, "gamma": 0.4}


@pytest.mark.parametrize("factor", [1.0, 0.5])
def test_how_often_values_change(monkeypatch, factor):
    happened = dict.fromkeys(CHANGES, 0)

    def watch(name):
        def change(channel, *_):
            happened[name] += 1
            return channel

        return change

    for name in CHANGES:
        if name != "noise":
            monkeypatch.setattr(intensity, name, watch(name))
    runs, brighter = 1500, 0
    augmentation = made((4, 4), factor)
    for i in range(runs):
        image = torch.ones(1, 4, 4)
        augmentation.change_values(image, rng(i))
        happened["noise"] += len(image.unique()) > 1
        brighter += len(image.unique()) == 1 and bool((image != 1).any())
    # Blur and resolution change each channel with a probability of one half.
    per_channel = {"blur": 0.5, "low_resolution": 0.5}
    for name, probability in CHANGES.items():
        expected = factor * probability * per_channel.get(name, 1)
        assert happened[name] / runs == pytest.approx(expected, abs=0.035), name
    assert brighter / runs == pytest.approx(0.15 * factor * (1 - 0.1 * factor), abs=0.03)


# ---------------------------------------------------------------- all together


def volume_and_labels(channels=1, shape=(26, 30, 28)):
    volume = np.stack([smooth(shape, c) for c in range(channels)])
    return volume, (volume[0] > 0.05).astype(np.int16)


@pytest.mark.parametrize("patch", [(8, 10, 9), (2, 8, 9)])
def test_patches_keep_shape_and_type_and_depend_on_the_generator_alone(patch):
    volume, labels = volume_and_labels(2)
    augmentation = made(patch, probability=2.5, masked=(False, False))

    def patches():
        read, _ = reader(volume, labels, patch)
        return [augmentation(read, rng(5, i)) for i in range(12)]

    first = patches()
    torch.manual_seed(1)
    np.random.seed(1)
    for (image, truth), (again, same) in zip(first, patches(), strict=True):
        assert image.shape == (2, *patch) and image.dtype == torch.float32 and type(image) is torch.Tensor
        assert truth.shape == patch and set(truth.unique().tolist()) <= {0, 1}
        assert torch.equal(image, again) and torch.equal(truth, same) and image.isfinite().all()
    assert not torch.equal(first[0][0], first[1][0])


def test_without_probability_only_mirroring_is_left():
    volume, labels = volume_and_labels(shape=(6, 8, 10))
    read, _ = reader(volume, labels, (6, 8, 10))
    flips = {}
    for i in range(200):
        image, truth = made((6, 8, 10), 0.0, mirror=[0, 2])(read, rng(i))
        for axes in ([], [0], [2], [0, 2]):
            if np.array_equal(image[0], np.flip(volume[0], axes)):
                assert np.array_equal(truth, np.flip(labels, axes))
                flips[tuple(axes)] = flips.get(tuple(axes), 0) + 1
    assert sum(flips.values()) == 200 and len(flips) == 4 and min(flips.values()) > 25


def test_values_stay_where_only_voxels_move():
    volume, labels = volume_and_labels()
    volume[:] = 7
    read, _ = reader(volume, labels, (8, 8, 8))
    for i in range(20):
        image, _ = made((8, 8, 8), probability=5.0, changes=False)(read, rng(i))
        torch.testing.assert_close(image, torch.full_like(image, 7))


def test_what_is_outside_of_the_body_stays_zero():
    volume = 2 + smooth((2, 8, 8, 8))
    volume[:, :4] = 0
    read, _ = reader(volume, np.zeros((8, 8, 8), np.int16), (8, 8, 8))
    augmentation = made((8, 8, 8), probability=0.0, mirror=[], masked=(True, False))
    augmentation.change_values = lambda image, rng: image.add_(1)
    image, _ = augmentation(read, rng())
    assert (image[0, :4] == 0).all() and (image[1, :4] == 1).all()
    assert np.allclose(image[:, 4:], volume[:, 4:] + 1)


# ---------------------------------------------------------------- cascades


def maps_of(labels, classes=2):
    return np.stack([labels == k for k in range(1, classes + 1)])


def test_the_coarser_segmentation_moves_with_the_labels_and_keeps_its_values(monkeypatch):
    moved, matrix = [], spatial.affine_matrix([0.2, 0.1, -0.2], 1.1)
    monkeypatch.setattr(augment, "affine_matrix", lambda angles, scale: moved.append(1) or matrix)
    volume, _ = volume_and_labels()
    labels = np.digitize(volume[0], [0.0, 0.08]).astype(np.int16)
    both = np.concatenate([volume, maps_of(labels)]).astype(np.float32)
    augmentation = made((8, 10, 9), previous=2)
    augmentation.change_previous = lambda maps, rng: None
    read, asked = reader(both, labels, (8, 10, 9))
    for i in range(40):
        moved.clear()
        image, truth = augmentation(read, rng(i))
        assert image.shape == (3, 8, 10, 9) and set(image[1:].unique().tolist()) <= {0.0, 1.0}
        given = maps_of(truth.numpy())
        if not moved:
            assert np.array_equal(image[1:] == 1, given)
        else:  # borders of the labels are smoother than those of the nearest voxels
            assert ((image[1:].numpy() == 1) == given).mean() > 0.85
    assert len(set(asked)) == 2


def test_how_often_the_coarser_segmentation_changes(monkeypatch):
    happened = []
    monkeypatch.setattr(augment, "change_shape", lambda maps, rng: happened.append("shape"))
    monkeypatch.setattr(augment, "remove_component", lambda maps, rng: happened.append("component"))
    for i in range(800):
        made((4, 4), previous=1).change_previous(torch.zeros(1, 4, 4), rng(i))
    assert happened.count("shape") / 800 == pytest.approx(0.4, abs=0.05)
    assert happened.count("component") / 800 == pytest.approx(0.2, abs=0.05)
