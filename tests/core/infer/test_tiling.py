"""Tiles give what the whole image gives, at every size, dtype and number of channels."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import torch
from tiled_nets import Attentive, Enlarging, Plain, image, whole
from torch import nn

from core.errors import ConfigError
from core.infer.tiling import Tiles, restore


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(1)


@pytest.mark.parametrize(("height", "width"), [(40, 33), (17, 50), (16, 16), (41, 7)])
def test_a_halo_as_wide_as_the_network_sees_is_exact(height, width):
    model, pixels = Plain().eval(), image(height, width)
    assert restore(model, pixels, tile=16) == pytest.approx(whole(model, pixels), abs=1e-6)


def test_one_pixel_less_is_not_exact():
    model, pixels = Plain().eval(), image(40, 33)
    expected = whole(model, pixels)
    error = np.abs(restore(model, pixels, tile=16, halo=4) - expected).max(axis=(1, 2))
    assert error.max() > 1e-6
    # Rows are cut at 40 / 3 and 80 / 3: only pixels at the cuts see what a shorter halo leaves out.
    rows = np.abs(restore(model, pixels, tile=16, halo=4) - expected)[:, 5, 0]
    assert set(np.flatnonzero(rows > 1e-6)) <= {12, 13, 25, 26}


@pytest.mark.parametrize(("size", "halo"), [(16, 3), (7, 0), (0, 5), (100, 2)])
def test_cores_cover_the_image_once_and_tiles_stay_within_it(size, halo):
    covered = np.zeros((23, 41), int)
    for tile in Tiles(size, halo).split(23, 41):
        top, bottom, left, right = tile.core
        covered[top:bottom, left:right] += 1
        assert not size or max(bottom - top, right - left) <= size
        assert tile.outer == (
            max(top - halo, 0),
            min(bottom + halo, 23),
            max(left - halo, 0),
            min(right + halo, 41),
        )
    assert (covered == 1).all()


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_dtype_and_channels_are_kept(dtype, channels):
    model, pixels = Plain(channels).eval(), image(30, 21, channels, dtype)
    peak = {"uint8": 255.0, "uint16": 65535.0, "float32": 1.0}[dtype]
    expected = whole(model, (pixels / np.float32(peak)).astype(np.float32)) * peak
    restored = restore(model, pixels, tile=12)
    assert restored.dtype == dtype
    assert restored.shape == pixels.shape
    if dtype == "float32":  # neither clipped nor rounded
        assert restored == pytest.approx(expected, abs=1e-6)
    else:
        # Rounding in float32 may go either way at a half.
        assert np.abs(restored - np.clip(expected, 0, peak)).max() <= 0.5 + 0.01


def test_output_is_clipped_in_whole_numbers_only():
    model = nn.Conv2d(1, 1, 1, bias=False)
    nn.init.constant_(model.weight, -3.0)
    assert restore(model, image(5, 5, dtype="uint8"), halo=0).max() == 0
    assert restore(model, image(5, 5), halo=0).min() < -1


@pytest.mark.parametrize("scale", [2, 3])
def test_enlarging(scale):
    model, pixels = Enlarging().eval(), image(25, 18, 3)
    out = np.zeros((25 * scale, 18 * scale, 3), np.float32)
    restored = restore(model, pixels, tile=8, scale=scale, scale_argument=True, out=out)
    assert restored is out
    assert out == pytest.approx(whole(model, pixels, scale=scale), abs=1e-6)


def test_an_image_within_one_tile_runs_once_as_a_whole():
    model, calls = Attentive().eval(), []
    model.register_forward_hook(lambda module, args, output: calls.append(tuple(args[0].shape)))
    pixels = image(20, 31)
    assert restore(model, pixels, tile=32) == pytest.approx(whole(model, pixels), abs=1e-7)
    assert calls[0] == (1, 1, 20, 31)
    assert len(calls) == 2  # the second one is the comparison


def test_memory_depends_on_the_tile_and_not_on_the_image(tmp_path):
    height, width = 2000, 3000
    pixels = np.memmap(tmp_path / "in", np.uint8, "w+", shape=(height, width, 1))
    pixels[:] = np.arange(width, dtype=np.uint16).astype(np.uint8)[:, None]
    out = np.memmap(tmp_path / "out", np.uint8, "w+", shape=pixels.shape)
    model = nn.Conv2d(1, 1, 1)
    nn.init.constant_(model.weight, -1.0)
    nn.init.constant_(model.bias, 1.0)
    tracemalloc.start()
    try:
        restore(model, pixels, tile=128, halo=4, out=out)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert np.abs(out[::97].astype(int) - (255 - pixels[::97].astype(int))).max() <= 1
    # A few float copies of one tile; as float32 the image alone has 24 MB.
    assert peak < 20 * 4 * (128 + 8) ** 2 < 4 * height * width / 15


def test_progress_counts_tiles():
    seen = []
    restore(Plain().eval(), image(20, 30), tile=16, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        (nn.Identity(), {"tile": 4}, "does not know its halo"),
        (Plain(), {"tile": -4}, "must be 0 or more"),
        (Plain(), {"halo": -1}, "must be 0 or more"),
        (Plain(), {"statistics": "global"}, "whole, tile or window"),
        (Plain(), {"passes": 0}, "passes must be 1 or more"),
        (Plain(), {"statistics": "window"}, "give the window's side"),
        (Plain(), {"statistics": "window", "window": 0}, "1 pixel or more"),
    ],
)
def test_wrong_options_are_one_line(model, options, message):
    with pytest.raises(ConfigError, match=message) as caught:
        restore(model, image(9, 9), **options)
    assert "\n" not in str(caught.value)


def test_a_network_without_halo_restores_the_whole_image():
    pixels = image(9, 9)
    assert (restore(nn.Identity(), pixels, tile=0) == pixels).all()
