"""The layer that takes the mean colour off."""

import torch

from core.colour import BT601, DIV2K_MEAN, MeanShift


def test_the_mean_colour_becomes_black_and_comes_back():
    mean = 255 * torch.tensor(DIV2K_MEAN)[None, :, None, None].expand(2, 3, 4, 5)
    black = MeanShift(3, -1, 255.0)(mean)
    torch.testing.assert_close(black, torch.zeros_like(mean), atol=1e-4, rtol=0)
    torch.testing.assert_close(MeanShift(3, 1, 255.0)(black), mean)


def test_other_images_have_its_luma_in_every_channel():
    assert sum(BT601) == 1000
    luma = 0.299 * 0.4488 + 0.587 * 0.4371 + 0.114 * 0.4040
    for channels in (1, 4):
        shifted = MeanShift(channels, -1, 1.0)(torch.full((1, channels, 2, 2), luma))
        torch.testing.assert_close(shifted, torch.zeros(1, channels, 2, 2), atol=1e-6, rtol=0)
