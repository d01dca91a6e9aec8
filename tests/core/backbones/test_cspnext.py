"""CSPNeXt: parameters of RTMDet's backbones, mmdetection's names, and options handed down."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from torch import nn

from core import nd
from core.backbones import create_backbone, list_backbones
from core.backbones.cspnext import SpatialPyramidPooling
from core.errors import ConfigError
from core.residual import Residual
from core.residual.attention.ese import EffectiveSqueezeExcite
from core.residual.blocks import BlockSpec

# Stages, blocks, parameters of the backbone (counted in mmdetection) and of the classifier in millions (published).
SIZES = {
    "cspnext_tiny": ((48, 96, 192, 384), (1, 1, 1, 1), 2_348_700, 2.73),
    "cspnext_s": ((64, 128, 256, 512), (1, 2, 2, 1), 4_378_320, 4.89),
    "cspnext_m": ((96, 192, 384, 768), (2, 4, 4, 2), 12_279_432, 13.05),
    "cspnext_l": ((128, 256, 512, 1024), (3, 6, 6, 3), 26_138_912, 27.16),
    "cspnext_x": ((160, 320, 640, 1280), (4, 8, 8, 4), 47_569_560, 48.85),
}


def on_meta(name="cspnext_tiny", **options):
    with torch.device("meta"):
        return create_backbone(name, **options).eval()


def parameters(model):
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("name", SIZES)
def test_sizes(name):
    widths, blocks, backbone, classifier = SIZES[name]
    model = on_meta(name)
    assert [(info.channels, info.reduction) for info in model.feature_info] == [
        (width, 4 * 2**i) for i, width in enumerate(widths)
    ]
    stages = [model.get_submodule(info.module) for info in model.feature_info]
    assert tuple(len(stage[-1].blocks) for stage in stages) == blocks
    assert parameters(model) == backbone
    assert round(parameters(on_meta(name, num_classes=1000)) / 1e6, 2) == classifier
    assert (model.stem_info.channels, model.stem_info.reduction) == (widths[0] // 2, 2)


def test_every_name_is_counted():
    assert set(list_backbones("cspnext*")) == set(SIZES)


def test_layers_have_the_names_of_mmdetection():
    names = on_meta("cspnext_s").state_dict().keys()
    convs = [
        *(f"stem.{i}" for i in range(3)),
        *(f"stage{i}.0" for i in range(1, 5)),
        *(f"stage{i}.1.{layer}_conv" for i in range(1, 4) for layer in ("main", "short", "final")),
        *(f"stage4.2.{layer}_conv" for layer in ("main", "short", "final")),
        "stage4.1.conv1",
        "stage4.1.conv2",
        *(
            f"{block}.{layer}"
            for block in (
                "stage1.1.blocks.0",
                "stage2.1.blocks.0",
                "stage2.1.blocks.1",
                "stage3.1.blocks.0",
                "stage3.1.blocks.1",
                "stage4.2.blocks.0",
            )
            for layer in ("conv1", "conv2.depthwise_conv", "conv2.pointwise_conv")
        ),
    ]
    expected = {f"{conv}.conv.weight" for conv in convs}
    norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    expected |= {f"{conv}.bn.{key}" for conv in convs for key in norm}
    stages = ("stage1.1", "stage2.1", "stage3.1", "stage4.2")
    expected |= {f"{stage}.attention.fc.{key}" for stage in stages for key in ("weight", "bias")}
    assert names == expected


def test_the_last_stage_has_no_shortcuts():
    model = on_meta("cspnext_s", rule="layer_scale")
    assert [name for name, m in model.named_modules() if isinstance(m, Residual)] == [
        "stage1.1.blocks.0",
        "stage2.1.blocks.0",
        "stage2.1.blocks.1",
        "stage3.1.blocks.0",
        "stage3.1.blocks.1",
    ]
    residual = on_meta("cspnext_s", identity=(True, True, True, True))
    assert sum(isinstance(m, Residual) for m in residual.modules()) == 6
    assert parameters(residual) == SIZES["cspnext_s"][2]
    assert not any(isinstance(m, Residual) for m in on_meta("cspnext_s", identity=(False,) * 4).modules())


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_pooling_is_that_of_three_windows(dims):
    torch.manual_seed(0)
    layer = SpatialPyramidPooling(BlockSpec(8, 8, dims=dims, act="silu"), 8).eval()
    x = torch.randn(2, 8, *(15,) * dims)
    half = layer.conv1(x)
    pool = nd.pool("max", dims)
    windows = [pool(size, stride=1, padding=size // 2)(half) for size in (5, 9, 13)]
    assert torch.equal(layer(x), layer.conv2(torch.cat([half, *windows], 1)))


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("norm", ["batch", "instance", "group", "layer", "none"])
@pytest.mark.parametrize("act", ["relu", "prelu"])
def test_norm_and_activation_reach_every_layer(dims, norm, act):
    asked = Counter(type(m) for m in on_meta(dims=dims, norm=norm, act=act).modules())
    # Stem 3, in each stage 1 + 3 and 3 in its one block, pooling 2.
    layers = 3 + 4 * (1 + 3 + 3) + 2
    assert asked[type(nd.act(act))] == layers and not asked[nn.SiLU]
    assert asked[type(nd.norm("batch", dims, 8))] == (layers if norm == "batch" else 0)
    if norm != "none":
        assert asked[type(nd.norm(norm, dims, 8))] == layers
    assert asked[nd.conv(dims)] == layers + 4


def test_attention_joins_the_halves():
    slots = {name for name, m in on_meta().named_modules() if isinstance(m, EffectiveSqueezeExcite)}
    assert slots == {f"stage{i}.{1 + (i == 4)}.attention" for i in range(1, 5)}
    without = on_meta(attention="none")
    widths = SIZES["cspnext_tiny"][0]
    assert parameters(without) == SIZES["cspnext_tiny"][2] - sum((w + 1) * w for w in widths)


def test_a_block_adds_its_activated_branch():
    torch.manual_seed(0)
    model = create_backbone("cspnext_tiny").eval()
    block, x = model.stage1[1].blocks[0], torch.randn(2, 24, 9, 9)
    update = block.conv2.pointwise_conv(block.conv2.depthwise_conv(block.conv1(x)))
    torch.testing.assert_close(block(x), x + update)
    assert block.conv2.depthwise_conv.conv.groups == 24 and block.conv2.depthwise_conv.conv.kernel_size == (
        5,
        5,
    )
    assert update.min() >= -0.3  # the least value of SiLU: no norm follows it


def test_norms_are_those_of_the_published_weights():
    norms = [m for m in on_meta().modules() if isinstance(m, nn.BatchNorm2d)]
    assert {(norm.eps, norm.momentum) for norm in norms} == {(1e-5, 0.1)}
    changed = [m.eps for m in on_meta(norm_eps=1e-3).modules() if isinstance(m, nn.BatchNorm2d)]
    assert changed == [1e-3] * len(norms)


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_it_trains(dims):
    torch.manual_seed(0)
    model = create_backbone("cspnext_tiny", dims=dims, in_channels=2, num_classes=3)
    model(torch.randn(2, 2, *(32 if dims < 3 else 24,) * dims)).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    assert model.stem[0].conv.weight.grad.any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"widen": 0.0}, "widen 0.0 and deepen 0.167 must be above 0"),
        ({"layers": (1, 1)}, "need an entry for each stage"),
        ({"kernel": 4}, "kernel of a CSPNeXt block must be odd, not 4"),
    ],
)
def test_a_wrong_option_is_one_line(options, message):
    with pytest.raises(ConfigError, match=message):
        on_meta(**options)
