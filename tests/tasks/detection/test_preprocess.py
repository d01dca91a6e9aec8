"""Images as the network reads them, and boxes back."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tasks.detection.preprocess import PADDING, fit, normalise, unfit


@pytest.mark.parametrize(
    ("size", "fitted"),
    [((480, 640), (240, 320)), ((640, 480), (320, 240)), ((100, 33), (320, 106)), ((2000, 3), (320, 1))],
)
def test_images_are_fitted_with_their_proportions_and_padded_right_and_below(size, fitted):
    image = np.full((*size, 3), 200, np.uint8)
    padded, scale = fit(image, 320)
    assert padded.shape == (320, 320, 3)
    assert padded.dtype == np.uint8
    assert scale == 320 / max(size)
    assert (padded[: fitted[0], : fitted[1]] == 200).all()
    assert (padded[fitted[0] :] == PADDING).all()
    assert (padded[:, fitted[1] :] == PADDING).all()


def test_sides_are_rounded_half_up():
    # 100 * 32 / 64 = 50 exactly; 33 * 0.5 = 16.5.
    padded, _ = fit(np.full((33, 64, 3), 9, np.uint8), 32)
    assert (padded[:17] == 9).all()
    assert (padded[17:] == PADDING).all()


def test_an_image_of_the_right_size_stays():
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    padded, scale = fit(image, 64)
    assert scale == 1
    np.testing.assert_array_equal(padded, image)


def test_boxes_return_to_the_pixels_of_the_image_and_are_cut_to_it():
    image = np.zeros((333, 500, 3), np.uint8)
    image[101:203, 150:275] = 255
    padded, scale = fit(image, 320)
    rows, columns = np.nonzero(padded[:, :, 0] > 127)
    keep = (rows < 213) & (padded[rows, columns] != PADDING).all(1)
    found = np.array([columns[keep].min(), rows[keep].min(), columns[keep].max() + 1, rows[keep].max() + 1])
    np.testing.assert_allclose(unfit(found[None], scale, (333, 500))[0], [150, 101, 275, 203], atol=0.9)
    whole = unfit(np.array([[-5.0, -5, 320, 213], [10, 220, 40, 300]]), scale, (333, 500))
    np.testing.assert_allclose(whole, [[0, 0, 500, 333], [15.625, 333, 62.5, 333]])
    assert whole.dtype == np.float32
    assert unfit(np.zeros((0, 4)), scale, (333, 500)).shape == (0, 4)


def test_colours_are_normalised_in_the_order_of_the_network():
    images = torch.tensor([10, 20, 30], dtype=torch.uint8).view(1, 3, 1, 1).expand(2, 3, 4, 4)
    network = SimpleNamespace(pixels="rgb", mean=(1.0, 2.0, 3.0), std=(1.0, 2.0, 4.0))
    assert normalise(images, network)[1, :, 3, 3].tolist() == [9, 9, 6.75]
    network.pixels = "bgr"
    result = normalise(images.float(), network)
    assert result[0, :, 0, 0].tolist() == [29, 9, 1.75]
    assert result.dtype == torch.float32
