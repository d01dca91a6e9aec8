"""Crops lie where the detail is, and every panel shows the same part of the scene."""

from __future__ import annotations

import io

import numpy as np
import pytest

from core.report.pictures import comparison, curves, detailed


def scene(channels=3, size=(60, 90), corners=((12, 60), (40, 8)), side=16):
    """Gray with squares of noise, the second one weaker."""
    rng = np.random.default_rng(0)
    pixels = np.full((*size, channels), 128, np.uint8)
    for strength, (top, left) in zip((100, 60), corners, strict=True):
        shape = (side, side, channels)
        pixels[top : top + side, left : left + side] = 128 + rng.integers(-strength, strength, shape)
    return pixels


def shown(axis):
    return np.asarray(axis.get_images()[0].get_array())


def render(figure):
    figure.savefig(io.BytesIO(), format="png", dpi=40)


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_the_parts_with_most_detail(channels):
    for (top, left, *size), (wanted_top, wanted_left) in zip(
        detailed(scene(channels), 2, 12), [(12, 60), (40, 8)], strict=True
    ):
        assert size == [12, 12]
        # A part of 12 inside a square of 16.
        assert wanted_top <= top <= wanted_top + 4 and wanted_left <= left <= wanted_left + 4


def test_texture_counts_more_than_an_edge():
    pixels = np.zeros((48, 96, 1), np.uint8)
    pixels[:, 12:24] = 255  # edges
    pixels[12:36, 60:84] = np.random.default_rng(0).integers(60, 200, (24, 24, 1))
    ((top, left, *_),) = detailed(pixels, 1, 24)
    assert (top, left) == (12, 60)


def test_parts_do_not_overlap_and_lie_inside():
    pixels = np.random.default_rng(0).integers(0, 256, (53, 71, 1)).astype(np.uint8)
    boxes = detailed(pixels, 30, 20)
    seen = np.zeros((53, 71), int)
    for top, left, rows, columns in boxes:
        assert (rows, columns) == (18, 18)  # six cells of 3 pixels
        assert top + rows <= 53 and left + columns <= 71
        seen[top : top + rows, left : left + columns] += 1
    assert seen.max() == 1
    assert 3 <= len(boxes) <= 6  # six would fit if the first ones left room


def test_a_small_image_is_one_part():
    assert detailed(np.zeros((9, 5, 3), np.uint8), 2, 48)[0] == (0, 0, 5, 5)


def test_every_panel_shows_the_same_part():
    clean = scene()
    low = clean[::2, ::2]
    figure = comparison([("low", low), ("float", clean / 255 + 0.7), ("clean", clean)], crops=2, crop_size=12)
    axes = np.array(figure.axes).reshape(3, 3)
    assert [axis.get_title() for axis in axes[0]] == ["low", "float", "clean"]
    for row, (top, left, size, _) in enumerate(detailed(clean, 2, 12)):
        part = clean[top : top + size, left : left + size] / 255
        np.testing.assert_allclose(shown(axes[1 + row, 2]), part, atol=1e-6)
        np.testing.assert_allclose(shown(axes[1 + row, 1]), np.clip(part + 0.7, 0, 1), atol=1e-6)
        half = low[top // 2 : (top + size) // 2, left // 2 : (left + size) // 2] / 255
        np.testing.assert_allclose(shown(axes[1 + row, 0]), half, atol=1e-6)
        for axis in axes[0]:
            frame = axis.patches[row]
            assert (frame.get_x(), frame.get_y(), frame.get_width()) == (left, top, size)
            assert frame.get_edgecolor() == axes[1 + row, 0].spines["left"].get_edgecolor()
    render(figure)


@pytest.mark.parametrize(
    ("channels", "drawn"), [(1, (60, 90)), (2, (60, 90)), (3, (60, 90, 3)), (5, (60, 90, 3))]
)
def test_gray_colour_and_many_channels(channels, drawn):
    pixels = scene(channels).astype(np.uint16) * 257
    figure = comparison([("one", pixels), ("two", pixels)], crops=1, crop_size=12, title="scene")
    assert shown(figure.axes[0]).shape == drawn
    np.testing.assert_allclose(
        shown(figure.axes[0]).reshape(60, 90, -1)[..., 0], pixels[..., 0] / 65535, atol=1e-6
    )
    render(figure)


def test_a_large_image_is_drawn_smaller_and_cut_in_full():
    pixels = np.zeros((40, 3200, 1), np.uint8)
    pixels[::2, 1600:] = 255
    figure = comparison([("stripes", pixels)], crops=1, crop_size=24)
    overview, part = shown(figure.axes[0]), shown(figure.axes[1])
    assert overview.shape == (10, 800)
    np.testing.assert_allclose(overview[:, 400:], 0.5)
    assert part.shape == (24, 24) and set(np.unique(part)) == {0, 1}
    frame = figure.axes[0].patches[0]
    assert frame.get_width() == 80  # enlarged to be seen
    top, left, size, _ = detailed(pixels, 1, 24)[0]
    assert frame.get_x() + 40 == left + size / 2 and frame.get_y() + 40 == top + size / 2


def test_curves():
    figure = curves(
        [15, 25, 50], {"model": [31, 29, 26], "noisy": [25, 20, float("nan")]}, "sigma", "PSNR, dB", "set"
    )
    axis = figure.axes[0]
    assert (axis.get_xlabel(), axis.get_ylabel(), axis.get_title()) == ("sigma", "PSNR, dB", "set")
    assert [line.get_label() for line in axis.lines] == ["model", "noisy"]
    assert axis.lines[0].get_linewidth() > axis.lines[1].get_linewidth()
    np.testing.assert_array_equal(axis.lines[0].get_xydata(), [[15, 31], [25, 29], [50, 26]])
    render(figure)
