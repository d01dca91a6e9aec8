"""The recurrent residual block: one convolution for all steps, counted and unrolled by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from core import nd
from core.compress.folding import deployed
from core.errors import ConfigError
from core.residual.blocks import BlockSpec, create_block

every_dims = pytest.mark.parametrize("dims", [1, 2, 3])
SPATIAL = {1: (9,), 2: (8, 7), 3: (4, 6, 5)}


def build(in_channels=4, out_channels=6, steps=2, dims=2, bias=True, **fields):
    torch.manual_seed(0)
    spec = BlockSpec(in_channels, out_channels, dims=dims, **{"shortcut": "bias_conv", **fields})
    return create_block("recurrent", spec, steps=steps, bias=bias)


def features(channels=4, dims=2):
    return torch.randn(3, channels, *SPATIAL[dims], generator=torch.Generator().manual_seed(1))


def count(module):
    return sum(p.numel() for p in module.parameters())


@every_dims
@pytest.mark.parametrize("steps", [0, 1, 2, 3])
def test_unrolled_by_hand(steps, dims):
    block, x = build(steps=steps, dims=dims, norm="layer"), features(dims=dims)
    projected = block.projection(x)
    h = projected
    for unit in (block.unit1, block.unit2):
        x0 = h
        h = torch.relu(unit.bn(unit.conv(x0)))
        for _ in range(steps):
            h = torch.relu(unit.bn(unit.conv(x0 + h)))
    torch.testing.assert_close(block(x), projected + h)


@every_dims
def test_without_steps_it_is_a_plain_residual_block(dims):
    block, x = build(steps=0, dims=dims).eval(), features(dims=dims)
    layers = [(unit.conv, unit.bn, unit.act) for unit in (block.unit1, block.unit2)]
    plain = nn.Sequential(*(layer for unit in layers for layer in unit))
    projected = block.projection(x)
    torch.testing.assert_close(block(x), projected + plain(projected))


@every_dims
@pytest.mark.parametrize("steps", [0, 2, 5])
def test_parameters_do_not_depend_on_the_steps(steps, dims):
    block = build(5, 7, steps=steps, dims=dims)
    assert count(block) == 5 * 7 + 7 + 2 * (3**dims * 7**2 + 7 + 2 * 7)
    assert count(build(5, 7, steps, dims, bias=False)) == count(block) - 2 * 7


def test_parameters_of_r2u_net():
    """The blocks of the published network with its up-convolutions and head are 39,091,393."""
    with torch.device("meta"):
        down = [build(*pair) for pair in ((3, 64), (64, 128), (128, 256), (256, 512), (512, 1024))]
        up = [build(2 * width, width) for width in (512, 256, 128, 64)]
        others = [
            nn.Sequential(nn.Conv2d(2 * width, width, 3), nn.BatchNorm2d(width))
            for width in (512, 256, 128, 64)
        ]
        head = nn.Conv2d(64, 1, 1)
    assert sum(map(count, down)) == 25_851_648
    assert sum(map(count, [*down, *up, *others, head])) == 39_091_393


def test_norms_see_every_step():
    block = build(steps=3).train()
    block(features())
    assert [unit.bn.num_batches_tracked.item() for unit in (block.unit1, block.unit2)] == [4, 4]


@pytest.mark.parametrize("shortcut", ["bias_conv", "conv", "plain_conv", "avg_conv", "pad"])
def test_the_shortcut_comes_first(shortcut):
    """Branch and sum both read the projection; where the shape stays there is none."""
    block, x = build(shortcut=shortcut, stride=2, norm="layer"), features()
    projected = block.projection(x)
    torch.testing.assert_close(block(x), projected + block.unit2(block.unit1(projected)))
    same = build(4, 4, shortcut=shortcut, norm="layer")
    assert same.downsample is same.projection is None
    torch.testing.assert_close(same(x), x + same.unit2(same.unit1(x)))


@pytest.mark.parametrize("norm", ["batch", "group", "layer", "none"])
def test_a_block_that_begins_as_its_shortcut_is_trained(norm):
    """The ReLU at the end of the branch has no gradient at 0, so that the update begins just above."""
    block, x = build(4, 4, norm=norm), features()
    block.zero_init_last()
    torch.testing.assert_close(block(x), x, rtol=0, atol=1e-5)
    optimizer = torch.optim.SGD(block.parameters(), lr=0.01)
    touched = set()
    for _ in range(2):
        optimizer.zero_grad()
        (block(x) * torch.randn(x.shape)).sum().backward()
        optimizer.step()
        touched |= {key for key, p in block.named_parameters() if p.grad.any()}
    assert touched >= {f"unit{i}.conv.weight" for i in (1, 2)}


@pytest.mark.parametrize("norm", ["batch", "instance", "group", "layer", "none"])
def test_options_reach_both_units(norm):
    block = build(norm=norm, act="silu", bias=False, dilation=2, attention="se")
    for unit in (block.unit1, block.unit2):
        assert type(unit.bn) is type(nd.norm(norm, 2, 6)) and isinstance(unit.act, nn.SiLU)
        assert unit.conv.dilation == (2, 2) and (unit.conv.bias is not None) == (norm == "none")
    assert block(features()).shape == (3, 6, 8, 7) and not isinstance(block.se, nn.Identity)


def test_norms_fold_although_they_run_several_times():
    block, x = build(steps=2), features()
    for _ in range(3):
        block(x)
    folded, done = deployed(block.eval())
    assert done.folded == 2
    torch.testing.assert_close(folded(x), block(x), rtol=1e-5, atol=1e-5)


def test_a_wrong_option_is_one_line():
    with pytest.raises(ConfigError, match="steps of a recurrent block must be 0 or more, not -1"):
        build(steps=-1)
