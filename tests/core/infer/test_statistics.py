"""Means over the whole image from tiles, and over windows, against the whole image and against loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiled_nets import Attentive, Coarse, Plain, image, whole
from torch import nn

from core import nd
from core.errors import ConfigError
from core.infer.ensemble import self_ensemble
from core.infer.statistics import WholeImageStatistics, local_mean
from core.infer.tiling import restore
from core.residual import Residual, ResidualChain, create_rule


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(2)


@pytest.mark.parametrize("attention", ["se", "channel", "ese", "eca"])
def test_whole_statistics_are_exact_and_a_tiles_own_are_not(attention):
    model, pixels = Attentive(attention).eval(), image(45, 38)
    expected = whole(model, pixels)
    assert restore(model, pixels, tile=16) == pytest.approx(
        expected, abs=1e-5 * float(np.abs(expected).max())
    )
    own = restore(model, pixels, tile=16, statistics="tile")
    assert np.abs(own - expected).max() > 1e-3 * np.abs(expected).max()


@pytest.mark.parametrize("rule", ["gated", "hyper"])
def test_rules_that_look_at_the_whole_image_are_exact_too(rule):
    blocks = [
        Residual(nn.Conv2d(4, 4, 3, padding=1), create_rule(rule, channels=4, index=i, depth=2, dims=2))
        for i in (1, 2)
    ]
    model = ResidualChain(blocks).eval()
    for name, parameter in model.named_parameters():
        if "rule" in name:
            nn.init.normal_(parameter, std=2.0)
    pixels = image(30, 30, 4)
    expected = whole(model, pixels)
    restored = restore(model, pixels, tile=10, halo=2)
    assert restored == pytest.approx(expected, abs=1e-5 * float(np.abs(expected).max()))


def test_passes_become_exact_one_mean_after_the_other():
    # Three means in a row: the error falls with every pass, and pass 4 is exact.
    model, pixels = Attentive().eval(), image(45, 38)
    expected = whole(model, pixels)
    errors = [np.abs(restore(model, pixels, tile=16, passes=p) - expected).max() for p in (1, 2, 3, 4)]
    assert errors[0] > errors[1] > errors[3]
    assert errors[3] < 1e-5 * np.abs(expected).max()


def test_it_stops_after_one_pass_more_than_there_are_means():
    done = []
    restore(Attentive().eval(), image(45, 38), tile=23, progress=lambda *counts: done.append(counts))
    assert done[:4] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert done[4] == (5, 8)
    assert len(done) <= 4 * 4


def test_a_model_without_means_takes_one_pass():
    done = []
    restore(Plain().eval(), image(32, 32), tile=16, progress=lambda *counts: done.append(counts))
    assert done[-1] == (4, 4)


def test_collected_means_leave_the_halo_out_and_weigh_by_area():
    model = nn.Sequential(nd.SpatialMean())
    left, right = torch.full((1, 1, 2, 4), 6.0), torch.full((1, 1, 2, 3), 1.0)
    left[..., 3] = right[..., 0] = 100.0  # the halos
    with WholeImageStatistics(model) as statistics:
        for _ in range(2):
            statistics.start_tile((0, 2, 0, 3), 2, 4)
            first = model(left)
            statistics.start_tile((0, 2, 1, 3), 2, 3)
            second = model(right)
            change = statistics.finish_pass()
        assert statistics.count == 1
    assert first.item() == second.item() == 4.0  # (6 * 6 + 4 * 1) / 10
    assert change == 0
    assert model(left).item() == pytest.approx(29.5)  # hooks are gone


def test_an_ensemble_turns_the_cores():
    model, pixels = self_ensemble(Attentive().eval()), image(37, 30)
    expected = whole(model, pixels)
    restored = restore(model, pixels, tile=16)
    assert restored == pytest.approx(expected, abs=1e-5 * float(np.abs(expected).max()))


def test_means_at_another_resolution_are_refused():
    with pytest.raises(ConfigError, match="another resolution"):
        restore(Coarse(), image(16, 16), tile=8)


def test_local_mean_against_a_loop():
    x = torch.rand(2, 3, 9, 12, dtype=torch.float64)
    window = 4
    inner = torch.stack(
        [
            torch.stack([x[:, :, i : i + 4, j : j + 4].mean((2, 3)) for j in range(9)], dim=-1)
            for i in range(6)
        ],
        dim=-2,
    )
    expected = nn.functional.pad(inner, (1, 2, 1, 2), mode="replicate")
    torch.testing.assert_close(local_mean(x, window), expected)


@pytest.mark.parametrize("window", [12, 50])
def test_a_window_larger_than_the_image_is_the_whole_image(window):
    model, pixels = Attentive().eval(), image(12, 10)
    restored = restore(model, pixels, tile=0, statistics="window", window=window)
    assert restored == pytest.approx(whole(model, pixels), abs=1e-5)


def test_a_window_differs_from_the_whole_image():
    model, pixels = Attentive().eval(), image(24, 24)
    restored = restore(model, pixels, tile=0, statistics="window", window=6)
    assert np.abs(restored - whole(model, pixels)).max() > 1e-3
    assert not any(module._forward_hooks for module in model.modules())


def test_a_window_needs_gates_of_every_position():
    with pytest.raises(ConfigError, match="one mean for all positions"):
        restore(Attentive("eca"), image(12, 12), statistics="window", window=6)
