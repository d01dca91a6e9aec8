"""Changes of values against scipy and formulas."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from tasks.segmentation import intensity


def rng(*seed):
    return np.random.default_rng(seed or 0)


def test_blur_against_scipy():
    channel = 3 + ndimage.gaussian_filter(rng().normal(size=(12, 14, 10)), 1.5).astype(np.float32)
    sigmas = [0.5, 1.0, 0.7]
    expected = ndimage.gaussian_filter(channel, sigmas, mode="nearest")
    result = intensity.blur(torch.from_numpy(channel), sigmas)
    # MONAI integrates the bell over each voxel, scipy takes its value in the middle.
    np.testing.assert_allclose(result, expected, atol=0.015)
    constant = torch.full((9, 9), 5.0)
    torch.testing.assert_close(intensity.blur(constant, [1.0, 1.0]), constant, atol=1e-3, rtol=0)


def test_contrast_by_formula():
    channel = torch.tensor([[0.0, 1.0], [2.0, 9.0]])
    assert intensity.contrast(channel, 0.5).tolist() == [[1.5, 2.0], [2.5, 6.0]]
    assert intensity.contrast(channel, 1.25).tolist() == [[0.0, 0.5], [1.75, 9.0]]


@pytest.mark.parametrize("inverted", [False, True])
def test_gamma_by_formula(inverted):
    channel = rng().normal(size=(6, 7, 5)).astype(np.float32)
    x = -channel if inverted else channel
    span = x.max() - x.min()
    y = ((x - x.min()) / span) ** 1.4 * span + x.min()
    y = (y - y.mean()) / y.std(ddof=1) * x.std(ddof=1) + x.mean()
    result = intensity.gamma(torch.from_numpy(channel), 1.4, inverted)
    np.testing.assert_allclose(result, -y if inverted else y, atol=1e-4)
    assert type(result) is torch.Tensor
    assert intensity.gamma(torch.zeros(4, 4), 0.7, inverted).isfinite().all()


@pytest.mark.parametrize("slices", [False, True])
def test_low_resolution_loses_detail(slices):
    channel = torch.from_numpy(rng().normal(size=(8, 16, 16)).astype(np.float32))
    result = intensity.low_resolution(channel, 0.5, slices)
    assert result.shape == channel.shape and result.std() < 0.9 * channel.std()
    small = torch.nn.functional.interpolate(
        channel[None, None], (8 if slices else 4, 8, 8), mode="nearest-exact"
    )
    expected = torch.nn.functional.interpolate(small, channel.shape, mode="trilinear")
    torch.testing.assert_close(result, expected[0, 0])
    torch.testing.assert_close(intensity.low_resolution(channel[0], 1.0), channel[0])
