"""Places, outlines and colours of augmented images."""

import cv2
import numpy as np
import pytest

from tasks.detection.augment.colour import shift_hsv
from tasks.detection.augment.geometry import (
    Objects,
    Picture,
    Tile,
    draw,
    joined,
    mirrored,
    padded,
    plain,
    seen_objects,
)
from tasks.detection.augment.mixup import mixup
from tasks.detection.augment.mosaic import mosaic
from tasks.detection.augment.outlines import clip_ring, inside_ring, sampled_masks
from tasks.detection.data.dataset import Targets
from tasks.detection.preprocess import PADDING

SQUARE = np.array([[0.0, 0], [10, 0], [10, 10], [0, 10]], np.float32)


def targets(boxes, crowd=None, rings=None):
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    crowd = np.array(crowd or [False] * len(boxes), bool)
    return Targets(boxes, np.arange(len(boxes)), crowd, np.ones(len(boxes), np.float32), rings)


def star(rng, points=12):
    """A ring that is not convex."""
    angles = np.sort(rng.uniform(0, 2 * np.pi, points))
    radius = rng.uniform(3, 16, points)
    return (20 + radius[:, None] * np.stack([np.cos(angles), np.sin(angles)], 1)).astype(np.float32)


def smooth(seed, height, width):
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return cv2.GaussianBlur(noise, (0, 0), 4)


# Mosaic


def literal_mosaic(images, side, x, y):
    """Four images pasted on a whole canvas of twice the side, each to its corner of the centre."""
    canvas = np.full((2 * side, 2 * side, 3), PADDING, np.uint8)
    for k, image in enumerate(images):
        scale = min(side / image.shape[0], side / image.shape[1])
        w, h = int(image.shape[1] * scale + 0.5), int(image.shape[0] * scale + 0.5)
        small = cv2.resize(image, (w, h))
        for row in range(h):
            for column in range(w):
                cy = (y - h if k < 2 else y) + row
                cx = (x - w if k % 2 == 0 else x) + column
                if 0 <= cx < 2 * side and 0 <= cy < 2 * side:
                    canvas[cy, cx] = small[row, column]
    return canvas


SIZES = [(40, 60), (50, 30), (20, 33), (64, 64)]  # height, width


@pytest.mark.parametrize("seed", range(5))
def test_a_mosaic_is_four_images_about_a_point(seed):
    images = [smooth(k, *size) for k, size in enumerate(SIZES)]
    sources = [(w, h) for h, w in SIZES]
    canvas = mosaic(range(4), sources, 32, 1.0, np.random.default_rng(seed))
    centre = canvas.tiles[3]
    assert (canvas.width, canvas.height) == (64, 64)
    expected = literal_mosaic(images, 32, centre.left, centre.top)
    np.testing.assert_array_equal(draw(canvas, (0, 0, 64, 64), 32, images.__getitem__), expected)
    part = draw(canvas, (20, 9, 52, 41), 32, images.__getitem__)
    np.testing.assert_array_equal(part, expected[9:41, 20:52])


@pytest.mark.parametrize("ratio", [0.5, 0.8, 1.7])
def test_a_scaled_mosaic_is_the_mosaic_scaled(ratio):
    images = [smooth(k, 3 * h, 3 * w) for k, (h, w) in enumerate(SIZES)]
    sources = [(3 * w, 3 * h) for h, w in SIZES]
    plain_canvas = mosaic(range(4), sources, 64, 1.0, np.random.default_rng(3))
    canvas = mosaic(range(4), sources, 64, ratio, np.random.default_rng(3))
    whole = draw(plain_canvas, (0, 0, 128, 128), 64, images.__getitem__)
    expected = cv2.resize(whole, (canvas.width, canvas.height)).astype(int)
    difference = np.abs(draw(canvas, (0, 0, canvas.width, canvas.height), 64, images.__getitem__) - expected)
    # Only at the borders of the images do they differ, by rounding.
    assert np.median(difference) <= 3
    assert (difference > 40).mean() < 0.03


def test_images_of_a_mosaic_meet_in_its_middle_half():
    centres = []
    for seed in range(300):
        canvas = mosaic(range(4), [(64, 64)] * 4, 64, 2.0, np.random.default_rng(seed))
        assert canvas.width == canvas.height == 256
        first, second, third, fourth = canvas.tiles
        x, y = fourth.left, fourth.top
        assert (first.left + first.size[0], first.top + first.size[1]) == (x, y)
        assert (second.left, second.top + second.size[1]) == (x, y)
        assert (third.left + third.size[0], third.top) == (x, y)
        centres.append((x / 256, y / 256))
    centres = np.array(centres)
    assert 0.25 <= centres.min() < 0.26
    assert 0.74 < centres.max() <= 0.75
    np.testing.assert_allclose(centres.mean(0), 0.5, atol=0.03)
    assert abs(np.corrcoef(centres.T)[0, 1]) < 0.15


def test_images_that_are_not_seen_are_not_read():
    canvas = mosaic(range(4), [(64, 64)] * 4, 64, 2.0, np.random.default_rng(0))
    read = []

    def reader(index):
        read.append(index)
        return np.zeros((64, 64, 3), np.uint8)

    x, y = canvas.tiles[3].left, canvas.tiles[3].top
    draw(canvas, (x - 20, y - 20, x - 1, y - 1), 64, reader)
    assert read == [0]


def test_large_images_shrink_in_two_steps_so_that_no_pixel_is_skipped():
    # Every fourth column is white: their mean is a quarter, whichever way they are sampled.
    image = np.zeros((256, 256, 3), np.uint8)
    image[:, ::4] = 255
    canvas = plain(0, (256, 256), 128, 0.5)
    drawn = draw(canvas, (0, 0, 64, 64), 128, lambda _: image)
    assert abs(drawn.mean() - 255 / 4) < 3
    assert drawn.max() < 80


# Boxes


def test_boxes_are_scaled_shifted_and_cut_to_what_is_seen():
    # An image of 100 x 50 at half its size, its corner at (20, 10) of the canvas.
    tile = Tile(0, (100, 50), (50, 25), 20, 10)
    known = targets(
        [
            [10, 10, 30, 20],  # whole
            [60, 0, 100, 50],  # cut on the right
            [90, 0, 100, 10],  # not seen
            [0, 0, 100, 50],  # a crowd
            [10, 30, 11, 40],  # half a pixel wide
        ],
        crowd=[False, False, False, True, False],
    )
    objects = seen_objects(known, tile, (10, 5, 60, 30), masks=False)
    np.testing.assert_allclose(objects.boxes, [[15, 10, 25, 15], [40, 5, 50, 25]])
    assert objects.labels.tolist() == [0, 1]
    assert objects.boxes.dtype == np.float32
    assert objects.labels.dtype == np.int64
    assert objects.outlines is None
    nothing = seen_objects(known, tile, (80, 0, 99, 30), masks=True)
    assert nothing.boxes.shape == (0, 4)
    assert nothing.outlines == []


def test_with_masks_boxes_are_those_of_what_is_seen_of_the_outlines():
    triangle = np.array([[0, 0], [40, 0], [0, 40]], np.float32)
    known = targets(
        [[0, 0, 40, 40], [50, 0, 60, 10], [0, 0, 40, 40]],
        rings=[[triangle], [], [SQUARE, SQUARE + 25]],
    )
    tile = Tile(0, (100, 100), (100, 100), 0, 0)
    objects = seen_objects(known, tile, (20, 0, 100, 100), masks=True)
    np.testing.assert_allclose(objects.boxes, [[0, 0, 20, 20], [30, 0, 40, 10], [5, 25, 15, 35]])
    assert objects.outlines[1] == []
    # Right of x = 20 and below y = 25 the triangle has nothing, though its box has.
    gone = seen_objects(known, tile, (20, 25, 100, 100), masks=True)
    np.testing.assert_allclose(gone.boxes, [[5, 0, 15, 10]])
    assert gone.labels.tolist() == [2]
    without = seen_objects(targets(known.boxes), tile, (20, 0, 100, 100), masks=True)
    assert without.outlines == [[], [], []]


@pytest.mark.parametrize("vertical", [False, True])
def test_mirrored_boxes_and_outlines_cover_the_mirrored_pixels(vertical):
    image = np.zeros((20, 30, 3), np.uint8)
    image[4:9, 3:17] = 255
    ring = np.array([[3, 4], [17, 4], [17, 9], [3, 9]], np.float32)
    picture = Picture(image, Objects(np.array([[3, 4, 17, 9]], np.float32), np.array([5]), [[ring]]))
    result = mirrored(picture, vertical=vertical)
    rows, columns = np.nonzero(result.image[:, :, 0])
    found = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    assert result.objects.boxes.tolist() == [found]
    outline = result.objects.outlines[0][0]
    assert [*outline.min(0), *outline.max(0)] == found
    assert found == ([3, 11, 17, 16] if vertical else [13, 4, 27, 9])
    back = mirrored(result, vertical=vertical)
    np.testing.assert_array_equal(back.image, image)
    np.testing.assert_array_equal(back.objects.boxes, picture.objects.boxes)


def test_padding_is_right_and_below():
    picture = Picture(np.zeros((20, 30, 3), np.uint8), joined([], masks=False))
    image = padded(picture, 32).image
    assert image.shape == (32, 32, 3)
    assert (image[:20, :30] == 0).all()
    assert (image[20:] == PADDING).all()
    assert (image[:, 30:] == PADDING).all()


def test_mixup_is_the_mean_with_the_objects_of_both():
    one = Objects(np.array([[1, 2, 3, 4]], np.float32), np.array([3]), [[SQUARE]])
    two = Objects(np.array([[5, 6, 7, 8], [0, 0, 9, 9]], np.float32), np.array([1, 0]), [[], [SQUARE + 1]])
    first = Picture(np.full((8, 8, 3), 100, np.uint8), one)
    second = Picture(np.full((8, 8, 3), 250, np.uint8), two)
    result = mixup(first, second)
    assert (result.image == 175).all()
    assert result.image.dtype == np.uint8
    assert result.objects.boxes.tolist() == [[1, 2, 3, 4], [5, 6, 7, 8], [0, 0, 9, 9]]
    assert result.objects.labels.tolist() == [3, 1, 0]
    assert [len(rings) for rings in result.objects.outlines] == [1, 0, 1]


# Outlines


def test_points_inside_are_those_of_opencv():
    rng = np.random.default_rng(0)
    for _ in range(20):
        ring = star(rng)
        x, y = np.sort(rng.uniform(0, 40, 17)), np.sort(rng.uniform(0, 40, 13))
        expected = [[cv2.pointPolygonTest(ring, (float(a), float(b)), False) > 0 for a in x] for b in y]
        np.testing.assert_array_equal(inside_ring(ring, x, y), np.array(expected))


def test_a_ring_cut_to_a_rectangle_encloses_what_both_enclose():
    rng = np.random.default_rng(1)
    centres = np.arange(0, 40, 0.5) + 0.237
    for _ in range(40):
        ring = star(rng)
        low = rng.uniform(0, 20, 2)
        high = low + rng.uniform(2, 20, 2)
        x, y = ((centres > low[k]) & (centres < high[k]) for k in (0, 1))
        expected = inside_ring(ring, centres, centres) * (y[:, None] & x)
        cut = clip_ring(ring, low, high)
        np.testing.assert_array_equal(inside_ring(cut, centres, centres), expected)
        assert len(cut) == 0 or ((cut >= low - 1e-4) & (cut <= high + 1e-4)).all()


def test_an_outline_inside_stays_and_one_outside_vanishes():
    np.testing.assert_array_equal(clip_ring(SQUARE, np.array([0, 0]), np.array([10, 10])), SQUARE)
    assert clip_ring(SQUARE, np.array([11, 0]), np.array([20, 10])).shape == (0, 2)
    assert clip_ring(np.zeros((0, 2), np.float32), np.array([0, 0]), np.array([9, 9])).shape == (0, 2)


def test_masks_are_every_fourth_pixel_of_full_ones():
    rng = np.random.default_rng(2)
    outlines = [[star(rng), star(rng) + 20], [], [SQUARE + 30]]
    masks = sampled_masks(outlines, 64)
    assert masks.shape == (3, 16, 16)
    centres = np.arange(64) + 0.5
    for mask, rings in zip(masks, outlines, strict=True):
        full = np.zeros((64, 64), bool)
        for ring in rings:
            full |= inside_ring(ring, centres, centres).astype(bool)
        np.testing.assert_array_equal(mask, full[2::4, 2::4])
    assert masks[0].any()
    # The square covers the pixels 30 to 39 in both directions: of 2, 6, 10 ... those are 30, 34 and 38.
    assert masks[2].sum() == 9
    assert masks[2][7:10, 7:10].all()


# Colours


def test_colours_shift_as_in_a_literal_form():
    image = smooth(0, 24, 24)
    for seed in range(20):
        draws = np.random.default_rng(seed)
        gains = draws.uniform(-1, 1, 3) * [90, 200, 200] * draws.integers(0, 2, 3)
        shift = gains.astype(np.int16)
        hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV).astype(np.int16)
        hsv[..., 0] = (hsv[..., 0] + shift[0]) % 180
        hsv[..., 1] = np.clip(hsv[..., 1] + shift[1], 0, 255)
        hsv[..., 2] = np.clip(hsv[..., 2] + shift[2], 0, 255)
        expected = cv2.cvtColor(hsv.astype(np.uint8), cv2.COLOR_HSV2RGB) if shift.any() else image
        result = shift_hsv(image, [90, 200, 200], np.random.default_rng(seed))
        np.testing.assert_array_equal(result, expected)


def test_colours_keep_to_the_largest_shift_and_half_of_the_shifts_are_none():
    grey = np.full((4, 4, 3), 128, np.uint8)
    shifts = [
        int(shift_hsv(grey, [0, 0, 30], np.random.default_rng(seed))[0, 0, 0]) - 128 for seed in range(400)
    ]
    assert -30 <= min(shifts) <= -27
    assert 27 <= max(shifts) <= 30
    assert 0.43 < np.mean(np.array(shifts) == 0) < 0.6
    np.testing.assert_array_equal(shift_hsv(grey, [0, 0, 0], np.random.default_rng(0)), grey)
