"""RIDNet: size, reach, the paper's skips, and every residual rule in it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from core.errors import ConfigError
from core.residual import list_rules
from core.residual.rules import RULES
from tasks.denoising.models.ridnet import LEVELS, RIDNet

MEAN = torch.tensor([0.4488, 0.4371, 0.4040])[:, None, None]


def small(**options):
    torch.manual_seed(0)
    return RIDNet(**{"width": 8, "blocks": 2, "reduction": 4, **options})


def test_number_of_parameters_is_the_released_networks():
    with torch.device("meta"):
        model = RIDNet()
        paper = RIDNet(paper_skips=True)
        gray = RIDNet(channels=1)
    assert sum(p.numel() for p in model.parameters()) == 1_499_371
    assert sum(p.numel() for p in paper.parameters()) == 1_499_371  # the skips have none
    # head and tail of 3x3x64 a channel, the tail's bias, and two mean shifts of C^2 + C
    assert sum(p.numel() for p in gray.parameters()) == 1_499_371 - 2 * 2 * 9 * 64 - 2 - (24 - 4)


def test_halo_is_what_a_pixel_depends_on():
    model = small(blocks=1, channels=1).double()
    for module in model.modules():
        if hasattr(module, "attention"):
            module.attention = nn.Identity()  # its mean sees the whole image
    for weight in model.parameters():
        weight.data.abs_()  # nothing cancels and no ReLU is closed
    x = torch.rand(1, 1, 41, 41, dtype=torch.float64, requires_grad=True)
    model(x)[0, 0, 20, 20].backward()
    seen = x.grad[0, 0].nonzero()
    assert model.halo == 14
    assert seen.min() == 20 - 14
    assert seen.max() == 20 + 14


def test_new_network_is_close_to_the_image():
    model = small()
    x = torch.rand(2, 3, 9, 7)
    assert (model(x) - x).abs().mean() < 0.05
    with torch.no_grad():
        model.stream[0].branch.tail.bias += 255 * MEAN.flatten()  # the authors' start
    assert (model(x) - x).mean() > 0.3  # the mean colour is 0.43


def test_mean_of_other_channels_is_the_luma_of_the_colour():
    model = small(channels=2)
    luma = 0.299 * 0.4488 + 0.587 * 0.4371 + 0.114 * 0.4040
    torch.testing.assert_close(model.stream[0].branch.sub_mean.bias.data, torch.full((2,), -255 * luma))
    assert model(torch.rand(1, 2, 8, 8)).shape == (1, 2, 8, 8)


@pytest.mark.parametrize("paper_skips", [False, True])
def test_skips_of_code_and_paper(paper_skips):
    model = small(paper_skips=paper_skips)
    parts = model.stream[0].branch
    x = torch.rand(1, 3, 10, 12)
    features = torch.relu(parts.head((x - MEAN) * LEVELS))
    y = features
    modules = [residual.branch for residual in parts.body[0].branch] if paper_skips else parts.body
    for module in modules:
        y = module(y) + y if paper_skips else module(y)
    if paper_skips:
        y = y + features
    expected = x + parts.tail(y) / LEVELS + MEAN
    torch.testing.assert_close(model(x), expected)


@pytest.mark.parametrize("rule", list_rules())
def test_every_rule_trains(rule):
    plain, model = small(paper_skips=True), small(paper_skips=True, rule=rule)
    x = torch.rand(2, 3, 16, 16)
    y = model(x)
    y.square().mean().backward()
    assert y.shape == x.shape
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert all(gradient.isfinite().all() for gradient in gradients)
    assert sum(gradient.abs().sum() for gradient in gradients) > 0
    if RULES[rule].plain_at_init:
        model.load_state_dict(plain.state_dict(), strict=False)
        torch.testing.assert_close(model.eval()(x), plain.eval()(x))


def test_rules_count_the_blocks_as_their_shortcuts_open():
    rules = [m.spec for m in small(paper_skips=True).modules() if type(m).__name__ == "Add"]
    assert sorted(spec.index for spec in rules) == list(range(1, 11))  # image, long, 2 x (short, 3 blocks)
    assert {spec.depth for spec in rules} == {10}


def test_unknown_rule_and_option_are_named():
    with pytest.raises(ConfigError, match="nonsense"):
        RIDNet(rule="nonsense")
    with pytest.raises(ConfigError, match="speed"):
        RIDNet(rule="scaled", rule_options={"speed": 1})
