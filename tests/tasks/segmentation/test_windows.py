"""Sliding windows: their places, weights, mirroring, and equality with a pass over the whole image."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
import torch
from torch import nn

from tasks.segmentation.windows import gaussian, sliding_window, window_starts

CPU = torch.device("cpu")


def run(network, image, patch, outputs=1, step=0.5, mirror_axes=(), batch=2, progress=None):
    return sliding_window(
        network,
        image,
        patch,
        step=step,
        mirror_axes=mirror_axes,
        batch=batch,
        outputs=outputs,
        device=CPU,
        progress=progress,
    )


@pytest.mark.parametrize(
    ("size", "patch", "step", "starts"),
    [
        (40, 40, 0.5, [0]),
        (41, 40, 0.5, [0, 1]),
        (60, 40, 0.5, [0, 20]),
        (61, 40, 0.5, [0, 10, 21]),
        (110, 64, 0.5, [0, 23, 46]),
        (128, 40, 0.5, [0, 18, 35, 53, 70, 88]),
        (100, 40, 1.0, [0, 30, 60]),
    ],
)
def test_windows_are_evenly_spread(size, patch, step, starts):
    assert window_starts(size, patch, step) == starts


def test_there_are_as_many_windows_as_monai_has():
    """By MONAI's rule: whole intervals of half a window, and the last one at the border."""
    for patch, size in product((16, 40, 56), range(56, 200, 7)):
        interval = int(patch * 0.5)
        assert len(window_starts(size, patch, 0.5)) == math.ceil((size - patch) / interval) + 1


def test_there_are_as_many_windows_as_monai_makes():
    from monai.data.utils import dense_patch_slices

    for size in [(64, 70, 90), (128, 128, 128), (41, 57, 40)]:
        patch = (40, 56, 40)
        theirs = dense_patch_slices(size, patch, [n // 2 for n in patch])
        ours = math.prod(len(window_starts(n, p, 0.5)) for n, p in zip(size, patch, strict=True))
        assert ours == len(theirs)


def test_the_weight_is_a_gaussian():
    weight = gaussian((16, 8))
    assert weight.dtype == torch.float32
    assert weight[8, 4] == 1 == weight.max()
    # Two voxels from the middle along the first axis are one deviation, and so is one along the second.
    np.testing.assert_allclose(weight[10, 4], math.exp(-0.5), rtol=1e-3)
    np.testing.assert_allclose(weight[8, 5], math.exp(-0.5), rtol=1e-3)
    assert (gaussian((40, 56, 40)) > 0).all(), "every voxel of a window counts"


@pytest.mark.parametrize(
    ("size", "patch"),
    [((20, 24, 18), (8, 16, 8)), ((5, 30, 9), (8, 16, 8)), ((3, 40, 37), (16, 16)), ((2, 10, 12), (16, 16))],
)
@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("batch", [1, 2, 5])
def test_a_network_of_single_voxels_gives_what_it_gives_on_the_whole_image(size, patch, mirror, batch):
    torch.manual_seed(0)
    image = torch.randn(2, *size)
    flat = len(patch) == 2
    network = nn.Sequential(nn.Conv2d(2, 3, 1) if flat else nn.Conv3d(2, 3, 1), nn.Tanh())
    axes = range(len(patch)) if mirror else ()
    result = run(network, image, patch, 3, mirror_axes=axes, batch=batch)
    with torch.no_grad():
        expected = network(image.transpose(0, 1)).transpose(0, 1) if flat else network(image[None])[0]
    assert result.shape == (3, *size)
    torch.testing.assert_close(result.clone(), expected, rtol=1e-4, atol=1e-5)


def test_a_smaller_image_is_padded_by_zeros_on_both_sides():
    seen = []

    def network(x):
        seen.append(x[0, 0].clone())
        return x

    run(network, torch.ones(1, 3, 8), (8, 8))
    expected = torch.zeros(8, 8)
    expected[2:5] = 1
    torch.testing.assert_close(seen[0], expected)


def test_overlaps_are_weighted():
    """Windows that give their own number: at a voxel the nearer window counts more."""
    count = iter(range(10))

    def network(x):
        return torch.stack([torch.full_like(each, next(count)) for each in x])

    result = run(network, torch.zeros(1, 1, 12), (1, 8))[0, 0]
    weight = gaussian((1, 8))[0].numpy()
    expected = np.zeros(12)
    expected[8:] = 1
    expected[4:8] = weight[:4] / (weight[4:] + weight[:4])
    np.testing.assert_allclose(result, expected, atol=1e-6)
    assert result[4] < 0.2 and result[7] > 0.5


def test_mirrored_logits_are_averaged():
    class Left(nn.Module):
        """Gives the position along each axis."""

        def forward(self, x):
            return torch.stack(torch.meshgrid(*(torch.arange(n) for n in x.shape[2:]), indexing="ij"))[
                None
            ].float()

    image = torch.zeros(1, 4, 6)
    both = run(Left(), image, (4, 6), 2, mirror_axes=(0, 1), batch=1)
    torch.testing.assert_close(both[0], torch.full((4, 6), 1.5))
    torch.testing.assert_close(both[1], torch.full((4, 6), 2.5))
    first = run(Left(), image, (4, 6), 2, mirror_axes=(0,), batch=1)
    torch.testing.assert_close(first[0], torch.full((4, 6), 1.5))
    torch.testing.assert_close(first[1], torch.arange(6.0).expand(4, 6))


def test_batches_are_even_and_told():
    sizes, told = [], []

    def network(x):
        sizes.append(len(x))
        return x

    run(
        network,
        torch.zeros(1, 5, 8, 8),
        (8, 8),
        batch=4,
        progress=lambda done, total: told.append((done, total)),
    )
    assert sizes == [2, 3], "five slices, and no single one"
    assert told == [(2, 5), (5, 5)]


def test_no_gradient_is_kept():
    network = nn.Conv2d(1, 1, 1)
    assert not run(network, torch.zeros(1, 1, 8, 8), (8, 8)).requires_grad
