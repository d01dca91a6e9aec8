"""nnU-Net's encoders, and strides and kernels that differ between the axes, beside plain statements of both."""

from __future__ import annotations

import copy
import math
import pickle
from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from core import nd
from core.backbones import create_backbone
from core.compress.folding import deployed
from core.errors import ConfigError
from core.residual import Residual, list_rules
from core.residual.blocks import BLOCKS, BlockSpec, create_block, list_blocks
from core.residual.blocks.shortcuts import SHORTCUTS
from core.residual.init import initialise

UNEVEN = {
    "dims": 3,
    "in_channels": 2,
    "layers": (1, 2, 2),
    "widths": (4, 8, 8),
    "strides": ((1, 1, 1), (1, 2, 2), (2, 2, 2)),
    "kernels": ((1, 3, 3), (3, 3, 3), (3, 3, 3)),
}
"""Three stages for thick slices."""
ONE_STRIDE = {"resnest", "replk", "unireplk", "tcn"}
"""Blocks that reduce all axes alike."""


def uneven(name="resenc6", **options):
    torch.manual_seed(0)
    return create_backbone(name, **{**UNEVEN, **options})


def volumes(batch=2, channels=2):
    return torch.randn(batch, channels, 4, 8, 12, generator=torch.Generator().manual_seed(1))


def count(name, **options):
    with torch.device("meta"):
        return sum(p.numel() for p in create_backbone(name, **options).parameters())


def plain_conv(conv, norm, x, activate=True):
    pad = tuple((k - 1) // 2 for k in conv.kernel_size)
    x = getattr(F, f"conv{x.ndim - 2}d")(x, conv.weight, conv.bias, conv.stride, pad)
    x = F.instance_norm(x, weight=norm.weight, bias=norm.bias, eps=1e-5)
    return F.leaky_relu(x, 0.01) if activate else x


def shaken(model):
    """Scales and shifts away from 0 and 1, which hide a wrong order of layers."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(torch.rand_like(parameter) + 0.2)
    return model


def test_parameters_of_the_published_encoder():
    assert count("resenc6", dims=3, in_channels=1) == 90_296_576


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_parameters_of_plain_stages(dims):
    widths, k = [1, 32, 64, 128, 256, 320, 320], 3**dims
    expected = sum(k * a * b + 3 * b + k * b * b + 3 * b for a, b in pairwise(widths))
    assert count("plainconv6", dims=dims, in_channels=1) == expected


@pytest.mark.parametrize("stride", [(1, 1, 1), (1, 2, 2), (2, 2, 2)])
@pytest.mark.parametrize("out_channels", [4, 6])
def test_the_block_by_hand(stride, out_channels):
    torch.manual_seed(0)
    spec = BlockSpec(4, out_channels, stride, dims=3, norm="instance", act="leaky_relu", shortcut="resenc")
    block = shaken(create_block("basic", spec, kernel=(1, 3, 3), bias=True))
    x = volumes(channels=4)
    update = plain_conv(block.conv2, block.bn2, plain_conv(block.conv1, block.bn1, x), activate=False)
    shortcut = x
    if stride != (1, 1, 1):
        shortcut = F.avg_pool3d(shortcut, stride, stride)
    if out_channels != 4:
        conv, norm = list(block.downsample)[-2:]
        assert conv.bias is None and conv.kernel_size == (1, 1, 1)
        shortcut = plain_conv(conv, norm, shortcut, activate=False)
    torch.testing.assert_close(block(x), F.leaky_relu(update + shortcut, 0.01))
    assert block.conv1.bias is not None and block.conv1.kernel_size == block.conv2.kernel_size == (1, 3, 3)
    learned = sum(p.numel() for p in block.downsample.parameters()) if block.downsample is not None else 0
    assert learned == (4 * 6 + 12 if out_channels == 6 else 0)


@pytest.mark.parametrize("name", ["resenc6", "plainconv6"])
def test_features_of_uneven_strides(name):
    model = uneven(name)
    features = model.forward_features(volumes())
    assert [tuple(f.shape) for f in features] == [(2, 4, 4, 8, 12), (2, 8, 4, 4, 6), (2, 8, 2, 2, 3)]
    assert [info.reduction for info in model.feature_info] == [1, (1, 2, 2), (2, 4, 4)]
    assert model(volumes()).shape == (2, 8)


def test_plain_stages_by_hand():
    model, x = shaken(uneven("plainconv6")), volumes()
    for stage, strides, feature in zip(
        model.stages, UNEVEN["strides"], model.forward_features(x), strict=True
    ):
        for position, layers in enumerate(stage):
            assert layers.conv.stride == (strides if position == 0 else (1, 1, 1))
            x = plain_conv(layers.conv, layers.bn, x)
        torch.testing.assert_close(feature, x)


def test_a_new_encoder_is_its_shortcuts():
    model = uneven()
    x = model.stem(volumes())
    for chain, feature in zip(model.stages, model.forward_features(volumes()), strict=True):
        for block in chain:
            x = F.leaky_relu(x if block.downsample is None else block.downsample(x), 0.01)
        torch.testing.assert_close(feature, x)


@pytest.mark.parametrize("rule", list_rules())
def test_every_rule_trains(rule):
    """Stage by stage, with what history rules keep."""
    model = uneven(rule=rule, num_classes=3)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-2)
    reached = set()
    for _ in range(6):
        optimizer.zero_grad()
        F.cross_entropy(model(volumes(3)), torch.tensor([0, 1, 2])).backward()
        reached |= {key for key, p in model.named_parameters() if p.grad is not None and p.grad.any()}
        optimizer.step()
    # An instance norm takes off whatever the convolution before it adds.
    biases = {
        f"{n}.bias" for n, m in model.named_modules() if isinstance(m, nn.Conv3d) and m.bias is not None
    }
    unused = {key for key, _ in model.named_parameters() if "rule" not in key} - reached - biases
    assert not unused, f"no gradient reaches {sorted(unused)}"
    assert sum(isinstance(m, Residual) for m in model.modules()) == 5


@pytest.mark.parametrize("name", ["resenc6", "plainconv6"])
def test_copies_export_and_deployment(name):
    model = shaken(uneven(name, norm="batch", num_classes=3))
    model.train()(volumes(8))
    model.eval()
    x, expected = volumes(), model(volumes())
    assert torch.equal(pickle.loads(pickle.dumps(model))(x), expected)
    assert torch.equal(copy.deepcopy(model)(x), expected)
    torch.testing.assert_close(torch.export.export(model, (x,)).module()(x), expected)
    result, done = deployed(model)
    assert done.folded == sum(isinstance(m, nn.BatchNorm3d) for m in model.modules()) >= 5
    torch.testing.assert_close(result(x), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_he_of_leaky_relus(dims):
    torch.manual_seed(0)
    wide, up = nd.conv(dims)(64, 96, 3), nd.conv_transpose(dims)(96, 64, 2, 2)
    initialise(nn.ModuleList([wide, up]), "he_leaky")
    for layer, fan_in in ((wide, 64 * 3**dims), (up, 64 * 2**dims)):
        assert layer.weight.std().item() == pytest.approx(math.sqrt(2 / (1 + 0.01**2) / fan_in), rel=0.02)
        assert not layer.bias.any()


# --- one stride an axis, in any block ---


@pytest.mark.parametrize("name", list_blocks())
def test_blocks_have_a_stride_an_axis_or_refuse_it(name):
    if 2 not in getattr(BLOCKS[name], "allowed_dims", (1, 2, 3)):
        pytest.skip("there is no such block of images")
    spec = BlockSpec(16, 32, (1, 2), dims=2, norm="bias" if name.startswith("fixup") else "batch")
    if name in ONE_STRIDE:
        with pytest.raises(ConfigError, match=r"this block has one stride for all axes, not \(1, 2\)"):
            create_block(name, spec)
        return
    assert create_block(name, spec)(torch.randn(2, 16, 8, 7)).shape == (2, 32, 8, 4)


@pytest.mark.parametrize("shortcut", list(SHORTCUTS))
def test_shortcuts_have_a_stride_an_axis(shortcut):
    x = torch.randn(2, 16, 6, 7, 8)
    y = BlockSpec(16, 24, (1, 2, 2), dims=3, shortcut=shortcut).shortcut_layer()(x)
    assert y.shape == (2, 24, 6, 4, 4)
    if shortcut == "pad":
        assert torch.equal(y[:, :16], x[:, :, :, ::2, ::2])


def test_equal_strides_are_one_number():
    assert BlockSpec(4, 4, (2, 2)).stride == 2
    assert not BlockSpec(4, 4, (1, 1)).changes_shape and BlockSpec(4, 4, (1, 2)).changes_shape


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda: BlockSpec(4, 4, (1, 2), dims=3),
            r"stride \(1, 2\) of a residual block needs one number for",
        ),
        (lambda: BlockSpec(4, 4, (0, 2)), "stride of a residual block must be 1 or more, not 0"),
        (
            lambda: create_block("basic", BlockSpec(4, 4, dims=3), kernel=(3, 3)),
            r"kernel \(3, 3\) needs one number for each of 3 axes",
        ),
        (
            lambda: uneven(strides=((1,), (2, 2), (2,))),
            r"strides: \(2, 2\) must be one number, or one for each",
        ),
        (lambda: uneven(kernels=((3,),)), r"kernels \(\(3,\),\) has fewer entries than layers"),
        (lambda: uneven("plainconv6", rule="scaled"), "have no residual rule: leave it 'add'"),
        (lambda: uneven("plainconv6", attention="se"), "plain convolutions have no attention and no dropout"),
        (lambda: create_backbone("resnet18", strides=(1, 2, 2, 2), kernel=(3,)), "has no option 'kernel'"),
    ],
)
def test_a_wrong_option_is_one_line(build, message):
    with pytest.raises(ConfigError, match=message):
        build()
