"""Every registered block is tested by being registered."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn

from core.errors import ConfigError
from core.residual import list_rules
from core.residual.blocks import BLOCKS, BlockSpec, create_block, list_blocks
from core.residual.blocks.shortcuts import SHORTCUTS

SPATIAL = {1: (9,), 2: (8, 7), 3: (4, 6, 5)}
every_block = pytest.mark.parametrize("name", list_blocks())
every_dims = pytest.mark.parametrize("dims", [1, 2, 3])


def build(name, dims=2, in_channels=16, out_channels=32, stride=2, seed=0, **fields):
    """A block with random weights in evaluation mode; skips dims for which the paper has no such block."""
    if dims not in getattr(BLOCKS[name], "allowed_dims", (1, 2, 3)):
        pytest.skip(f"{name} does not exist for dims={dims}")
    norm = {"norm": "bias"} if name.startswith("fixup") else {}
    torch.manual_seed(seed)
    spec = BlockSpec(in_channels, out_channels, stride, dims=dims, **{**norm, **fields})
    return create_block(name, spec).eval()


def features(dims, channels=16, batch=2):
    return torch.randn(batch, channels, *SPATIAL[dims], generator=torch.Generator().manual_seed(1))


@every_block
@every_dims
@pytest.mark.parametrize(("stride", "out_channels"), [(1, 16), (2, 32), (2, 16), (1, 32)])
def test_shapes_and_shortcuts(name, dims, stride, out_channels):
    block = build(name, dims, out_channels=out_channels, stride=stride)
    y = block(features(dims))
    assert y.shape == (2, out_channels, *(-(-size // stride) for size in SPATIAL[dims]))
    assert (block.downsample is None) == (stride == 1 and out_channels == 16)


@every_block
@every_dims
def test_a_zeroed_branch_leaves_the_shortcut(name, dims):
    block = build(name, dims, stride=1, out_channels=16)
    x = features(dims)
    assert not torch.allclose(block(x), x.relu() if block.act else x, atol=1e-3), "the branch does nothing"
    block.zero_init_last()
    torch.testing.assert_close(block(x), x.relu() if block.act else x)


@every_block
@every_dims
def test_gradient_reaches_every_weight(name, dims):
    block = build(name, dims).train()
    x = features(dims, batch=3).requires_grad_()
    y = block(x)
    (y * torch.randn(y.shape)).sum().backward()
    assert x.grad.any()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in block.parameters())


@every_block
@every_dims
def test_the_input_is_left_alone(name, dims):
    """Activations overwrite what the layer before has made, never the stream."""
    for norm in ("batch", "none") if not name.startswith("fixup") else ("bias",):
        for stride, out_channels in ((1, 16), (2, 32)):
            block = build(name, dims, stride=stride, out_channels=out_channels, norm=norm)
            x = features(dims)
            before = x.clone()
            block(x)
            assert torch.equal(x, before)


@every_block
@pytest.mark.parametrize("rule", list_rules())
def test_every_rule(name, rule):
    block = build(name, rule=rule, stride=1, out_channels=16, drop_path=0.1)
    x = features(2)
    y = block.rule.close(block(block.rule.open(x)))
    assert y.shape == x.shape and torch.isfinite(y).all()


@every_block
def test_copies(name):
    block = build(name)
    x = features(2)
    expected = block(x)
    assert torch.equal(pickle.loads(pickle.dumps(block))(x), expected)
    assert torch.equal(copy.deepcopy(block)(x), expected)
    other = build(name, seed=1)
    other.load_state_dict(block.state_dict())
    assert torch.equal(other(x), expected)


@every_block
def test_convolutions_have_a_bias_only_without_a_norm(name):
    if name.startswith("fixup"):
        pytest.skip("has scalar biases")
    convs = [m for m in build(name, norm="none").modules() if isinstance(m, nn.Conv2d)]
    assert any(conv.bias is not None for conv in convs)


@every_block
def test_folds_name_a_convolution_and_its_norm(name):
    block = build(name)
    for conv, norm in BLOCKS[name].folds:
        layer = block.get_submodule(conv)
        assert isinstance(layer, nn.Conv2d) and isinstance(block.get_submodule(norm), nn.BatchNorm2d)
        assert layer.out_channels == block.get_submodule(norm).num_features


@pytest.mark.parametrize("shortcut", list(SHORTCUTS))
@every_dims
def test_shortcuts(shortcut, dims):
    x = features(dims)
    spec = BlockSpec(16, 24, 2, dims=dims, shortcut=shortcut)
    layer = spec.shortcut_layer().eval()
    y = layer(x)
    assert y.shape == (2, 24, *(-(-size // 2) for size in SPATIAL[dims]))
    if shortcut == "pad":
        assert torch.equal(y[:, :16], x[(..., *(slice(None, None, 2),) * dims)])
    if "pad" in shortcut:
        assert not y[:, 16:].any() and not list(layer.parameters())
    x = features(dims).requires_grad_()
    layer(x).sum().backward()
    assert x.grad.any(), "MONAI's zero-padded shortcut cuts the gradient"


def test_dropout_stands_between_the_convolutions():
    block = build("preact", dropout=0.5, stride=1, out_channels=16)
    x = features(2)
    assert not torch.equal(block.train()(x), block(x))
    assert torch.equal(block.eval()(x), block(x))


def test_groups_are_those_of_resnext():
    block = create_block("bottleneck", BlockSpec(256, 256), cardinality=32, base_width=4)
    assert (block.conv2.groups, block.conv2.in_channels) == (32, 128)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("bottleneck", {"cardinality": 0}, "cardinality and base_width must be 1 or more, not 0 and 64"),
        ("bottleneck", {"base_width": 1}, "a bottleneck of 32 channels is too narrow"),
        ("fixup", {"scale": 2}, "residual block 'fixup' has no option 'scale'. It has no options"),
        ("basic", {"scale": 2}, "residual block 'basic' has no option 'scale'. Options: kernel, bias"),
        ("bottleneck", {"cardinality": 2.5}, "residual block 'bottleneck': cardinality takes int, not 2.5"),
    ],
)
def test_a_wrong_option_is_one_line(name, options, message):
    with pytest.raises(ConfigError, match=message):
        create_block(name, BlockSpec(16, 32), **options)


def test_specs_are_checked():
    with pytest.raises(ConfigError, match="stride of a residual block must be 1 or more, not 0"):
        BlockSpec(16, 32, 0)
    with pytest.raises(ConfigError, match="dims must be 1"):
        BlockSpec(16, 32, dims=5)
