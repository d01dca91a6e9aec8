"""RCAN: size, reach, structure, and every residual rule in it."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from core.errors import ConfigError
from core.residual import list_rules
from core.residual.rules import RULES
from tasks.super_resolution.models.rcan import LEVELS, RCAN, upsampling_reach

MEAN = torch.tensor([0.4488, 0.4371, 0.4040])[:, None, None]


def small(**options):
    torch.manual_seed(0)
    return RCAN(**{"width": 8, "groups": 2, "blocks": 1, "reduction": 4, **options})


@pytest.mark.parametrize(
    ("scale", "count"), [(2, 15_444_667), (3, 15_629_307), (4, 15_592_379), (8, 15_740_091)]
)
def test_number_of_parameters_is_the_released_networks(scale, count):
    with torch.device("meta"):
        assert sum(p.numel() for p in RCAN(scale).parameters()) == count


@pytest.mark.parametrize("scale", [2, 3, 4, 8])
def test_halo_is_what_a_pixel_depends_on(scale):
    model = small(scale=scale, channels=1, groups=1, width=4).double()
    for module in model.modules():
        if hasattr(module, "attention"):
            module.attention = nn.Identity()  # its mean sees the whole image
    for weight in model.parameters():
        weight.data.abs_()  # nothing cancels and no ReLU is closed
    x = torch.rand(1, 1, 21, 21, dtype=torch.float64, requires_grad=True)
    rows = slice(10 * scale, 11 * scale)
    model(x)[0, 0, rows, rows].sum().backward()
    seen = x.grad[0, 0].nonzero()
    assert model.halo == 1 + 3 + 1 + 2
    assert seen.min() == 10 - model.halo
    assert seen.max() == 10 + model.halo


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_matches_the_formulas_of_the_paper(scale):
    model = small(scale=scale)
    x = torch.rand(2, 3, 6, 5)

    first = model.head((x - MEAN) * LEVELS)
    groups, last = model.body[0].branch
    y = first
    for group in groups:
        blocks, conv = group.branch
        inner = y
        for block in blocks:
            update = block.conv2(torch.relu(block.conv1(inner)))
            mean = update.mean((2, 3), keepdim=True)
            gate = torch.sigmoid(block.attention.fc2(torch.relu(block.attention.fc1(mean))))
            inner = inner + gate * update
        y = y + conv(inner)
    y = first + last(y)
    for layer in model.upsample:
        if isinstance(layer, nn.Conv2d):
            y = layer(y)
            y = F.pixel_shuffle(y, round((y.shape[1] / 8) ** 0.5))
    expected = model.tail(y) / LEVELS + MEAN

    assert expected.shape == (2, 3, 6 * scale, 5 * scale)
    torch.testing.assert_close(model(x), expected)


@pytest.mark.parametrize("rule", list_rules())
def test_every_rule_trains(rule):
    plain, model = small(), small(rule=rule)
    x = torch.rand(2, 3, 8, 8)
    y = model(x)
    y.square().mean().backward()
    assert y.shape == (2, 3, 16, 16)
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert all(gradient.isfinite().all() for gradient in gradients)
    assert sum(gradient.abs().sum() for gradient in gradients) > 0
    if RULES[rule].plain_at_init:
        model.load_state_dict(plain.state_dict(), strict=False)
        torch.testing.assert_close(model.eval()(x), plain.eval()(x))


def test_rules_count_the_blocks_as_their_shortcuts_open():
    model = small(blocks=2)
    long = model.body[0]
    groups = long.branch[0]
    order = [long, groups[0], *groups[0].branch[0], groups[1], *groups[1].branch[0]]
    assert [block.rule.spec.index for block in order] == [1, 2, 3, 4, 5, 6, 7]
    assert {block.rule.spec.depth for block in order} == {7}


def test_reach_of_upsampling_by_hand():
    # Last convolution: 1 pixel. x2: half a pixel, so 1, and 1 of its convolution. x4: the same once more.
    assert [upsampling_reach(scale) for scale in (2, 3, 4, 8)] == [2, 2, 2, 2]


def test_unknown_scale_is_named():
    with pytest.raises(ConfigError, match="scale must be one of 2, 3, 4, 8, not 5"):
        RCAN(scale=5)
