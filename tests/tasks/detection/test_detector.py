"""A network, applied to images."""

from __future__ import annotations

import numpy as np
import pytest
from stub_network import CLASSES, MaskedSquares, Squares, squares

from core.errors import ConfigError
from tasks.detection.config import RTMDetInsConfig
from tasks.detection.detector import Detector
from tasks.detection.models.build import build_network
from tasks.detection.rle import decode


def detector(network=Squares, size=64):
    return Detector(network(), CLASSES, [1, 2, 3], size, {})


def assert_alike(mask, expected):
    # Bilinear enlargement rounds the corners.
    assert mask.shape == expected.shape
    assert (mask & expected).sum() > 0.8 * (mask | expected).sum()


def test_squares_are_found_where_they_are():
    found, nothing = detector().detect(
        [squares((64, 64), (16, 32, 16, 0), (48, 0, 16, 2)), squares((64, 64))]
    )
    np.testing.assert_allclose(sorted(found.boxes.tolist()), [[16, 32, 32, 48], [48, 0, 64, 16]])
    assert sorted(found.labels.tolist()) == [0, 2]
    np.testing.assert_allclose(found.scores, 1)
    assert found.masks is None
    assert len(nothing) == 0


def test_positions_are_those_of_the_image_and_not_of_the_input():
    # 128 x 96 becomes 64 x 48.
    (found,) = detector().detect([squares((96, 128), (32, 64, 32, 1))])
    np.testing.assert_allclose(found.boxes, [[32, 64, 64, 96]])


def test_images_of_any_size_come_back_in_their_order_in_batches_of_any_size():
    sizes = [(64, 64), (32, 64), (64, 16), (128, 128), (20, 20)]
    images = [squares(size, (0, 0, max(size) // 4, i % 3)) for i, size in enumerate(sizes)]
    found = detector().detect(images, batch=2)
    assert [each.labels.tolist() for each in found] == [[0], [1], [2], [0], [1]]
    for one, image in zip(found, images, strict=True):
        (alone,) = detector().detect([image])
        np.testing.assert_array_equal(one.boxes, alone.boxes)


def test_a_larger_input_sees_smaller_squares():
    image = squares((128, 128), (16, 16, 16, 0))
    assert [len(each) for each in detector().detect([image])] == [0]
    (found,) = detector().detect([image], image_size=128)
    np.testing.assert_allclose(found.boxes, [[16, 16, 32, 32]])


def test_tiles_see_small_squares_and_the_whole_image_large_ones():
    image = squares((128, 160), (16, 16, 16, 0), (80, 80, 40, 1))
    told = []
    (found,) = detector().detect(
        [image], tile=64, overlap=0.25, batch=2, progress=lambda done, total: told.append((done, total))
    )
    assert [16, 16, 32, 32] in found.boxes[found.labels == 0].tolist()
    assert (found.labels == 1).any()
    # 160 pixels take 3 tiles of 64 that repeat a quarter, 128 pixels take 3; and the whole.
    assert told == [(2, 10), (4, 10), (6, 10), (8, 10), (10, 10)]


def test_only_the_classes_that_are_asked_for_are_reported():
    image = squares((64, 64), (0, 0, 16, 0), (32, 0, 16, 1))
    (found,) = detector().detect([image], classes=["green"])
    assert found.labels.tolist() == [1]


def test_an_unknown_class_is_refused_and_the_nearest_named():
    with pytest.raises(ConfigError, match=r"no class 'gren', only red, green, blue\. Did you mean 'green'"):
        detector().detect([squares((64, 64))], classes=["gren"])


def test_no_images_give_no_answers():
    assert detector().detect([]) == []


def test_masks_are_those_of_the_image():
    image = squares((96, 128), (32, 64, 32, 0))
    (found,) = detector(MaskedSquares).detect([image])
    assert found.masks is not None
    assert_alike(decode(found.masks[0]), image[..., 0] > 0)


def test_masks_of_tiles_lie_in_the_whole_image():
    image = squares((128, 128), (80, 96, 16, 0))
    (found,) = detector(MaskedSquares).detect([image], tile=64, overlap=0.5)
    assert found.masks is not None
    assert_alike(decode(found.masks[0]), image[..., 0] > 0)


def test_rtmdet_ins_gives_a_mask_for_every_box():
    network = build_network(RTMDetInsConfig(size="nano"), 3).eval()
    found, _ = Detector(network, CLASSES, [1, 2, 3], 64, {}).detect(
        [squares((50, 70), (0, 0, 20, 1)), squares((64, 64))], score=0.0, max_detections=5
    )
    assert found.masks is not None
    assert 0 < len(found) == len(found.masks)
    assert all(mask["size"] == [50, 70] for mask in found.masks)


def test_the_network_that_was_given_is_left_as_it_was():
    network = Squares().train()
    made = Detector(network.eval(), CLASSES, [1, 2, 3], 64, {})
    assert made.network is not network
