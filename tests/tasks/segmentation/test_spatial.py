"""Rotation and scaling of patches against scipy."""

import numpy as np
import pytest
import torch
from scipy import ndimage
from scipy.spatial.transform import Rotation

from tasks.segmentation import spatial
from tasks.segmentation.labels import IGNORE


def rng(*seed):
    return np.random.default_rng(seed or 0)


def smooth(shape, seed=0):
    return ndimage.gaussian_filter(rng(seed).normal(size=shape), 1.5).astype(np.float32)


def test_matrices_are_rotations_times_a_scale():
    angles = [0.3, -0.2, 0.5]
    expected = 1.2 * Rotation.from_euler("XYZ", angles).as_matrix()
    np.testing.assert_allclose(spatial.affine_matrix(angles, 1.2), expected, atol=1e-12)
    turn = spatial.affine_matrix([np.pi / 2], 0.5)
    np.testing.assert_allclose(np.abs(turn), [[0, 0.5], [0.5, 0]], atol=1e-12)


@pytest.mark.parametrize(
    ("patch", "angles", "scale"), [((7, 8, 6), [0.4, -0.3, 0.2], 1.3), ((9, 12), [2.1], 0.8)]
)
def test_warping_equals_scipy(patch, angles, scale):
    matrix = spatial.affine_matrix(angles, scale)
    volume = smooth(tuple(n + 20 for n in patch))
    size = spatial.source_size(matrix, patch)
    assert all(s < n + 16 and (s - n) % 2 == 0 for s, n in zip(size, patch, strict=True))
    start = [(n - s) // 2 for n, s in zip(volume.shape, size, strict=True)]
    box = volume[tuple(slice(a, a + s) for a, s in zip(start, size, strict=True))]
    result = spatial.warp(torch.from_numpy(box)[None], matrix, patch)[0]
    # The centre of the patch is that of the volume, whose sides are even in number where the patch's are.
    centre = (np.array(volume.shape) - 1) / 2
    offset = centre - matrix @ ((np.array(patch) - 1) / 2)
    expected = ndimage.affine_transform(volume, matrix, offset, output_shape=patch, order=1)
    np.testing.assert_allclose(result, expected, atol=1e-5)


def test_the_box_holds_all_that_is_read():
    for seed in range(30):
        matrix = spatial.affine_matrix(
            rng(seed).uniform(-0.5, 0.5, 3).tolist(), rng(seed, 1).uniform(0.7, 1.4)
        )
        size = spatial.source_size(matrix, (5, 8, 11))
        full = spatial.warp(torch.ones(1, *size), matrix, (5, 8, 11))
        torch.testing.assert_close(full, torch.ones_like(full))


def test_slices_are_turned_alike_and_not_mixed():
    matrix = spatial.affine_matrix([0.7], 1.1)
    assert spatial.source_size(matrix, (3, 8, 10))[0] == 3
    image = torch.from_numpy(np.stack([smooth((3, 16, 18)), smooth((3, 16, 18), 1)]))
    together = spatial.warp(image, matrix, (3, 8, 10))
    for c in range(2):
        for z in range(3):
            torch.testing.assert_close(
                together[c, z], spatial.warp(image[c, z][None], matrix, (8, 10))[0], atol=1e-6, rtol=1e-5
            )


def test_labels_take_the_largest_interpolated_indicator():
    labels = torch.from_numpy(rng().integers(0, 3, (6, 20, 20)).astype(np.int16))
    labels[:, :5] = IGNORE
    matrix = spatial.affine_matrix([0.2, 0.1, -0.3], 0.9)
    result = spatial.warp_labels(labels, matrix, (4, 12, 12))
    values = [IGNORE, 0, 1, 2]
    weights = torch.stack(
        [spatial.warp((labels == value).float()[None], matrix, (4, 12, 12))[0] for value in values]
    )
    assert result.dtype == torch.int16
    assert torch.equal(result.long(), torch.tensor(values)[weights.argmax(0)])
    same = torch.full((6, 6), 2, dtype=torch.int16)
    assert torch.equal(spatial.warp_labels(same, np.eye(2), (4, 4)), same[:4, :4])
