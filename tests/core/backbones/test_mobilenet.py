"""MobileNetV2: timm's and torchvision's logits and features, and options that reach every layer."""

from __future__ import annotations

from collections import Counter

import pytest
import timm
import torch
import torchvision
from timm.layers import SEModule
from timm.models._efficientnet_blocks import DepthwiseSeparableConv
from timm.models._efficientnet_blocks import InvertedResidual as TimmInvertedResidual
from torch import nn

from core import nd
from core.backbones import create_backbone, create_features
from core.compress.folding import deployed
from core.errors import ConfigError
from core.residual import Residual, create_rule, list_rules
from core.residual.attention import list_attention
from core.residual.blocks import BlockSpec, create_block
from core.residual.blocks.inverted import inverted_plain

NAMES = ["mobilenetv2_050", "mobilenetv2_100", "mobilenetv2_140"]
TINY = {
    "layers": (1, 3, 2),
    "widths": (8, 16, 32),
    "strides": (1, 2, 2),
    "expands": (1, 2, 3),
    "head_width": 24,
}
"""Six blocks, of which three keep the shape."""
every_dims = pytest.mark.parametrize("dims", [1, 2, 3])


def small(**options):
    torch.manual_seed(0)
    return create_backbone("mobilenetv2_100", **{**TINY, "stem_width": 8, "width": 2.0, **options})


def trained(model, x):
    """Random scales and biases, and the statistics of a few batches: initial ones hide a wrong order of layers."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.2 * torch.randn_like(parameter))
        model.train()
        for shift in range(3):
            model(x + shift)
    return model.eval()


def close(ours, theirs):
    assert theirs.std() > 1e-3
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5 * max(1, theirs.abs().max().item()))


@pytest.mark.parametrize("name", NAMES)
def test_timm(name):
    torch.manual_seed(0)
    x = torch.randn(2, 3, 64, 64)
    theirs, ours = timm.create_model(name, num_classes=7), create_backbone(name, num_classes=7)
    with torch.no_grad():
        ours.load_state_dict(trained(theirs, x).state_dict())
        close(ours.eval()(x), theirs(x))
        theirs.load_state_dict(trained(ours, x).state_dict())
        close(theirs(x), ours(x))

        features = create_features(name).eval()
        head = ("classifier.", "conv_head.", "bn2.")
        features.backbone.load_state_dict(
            {key: value for key, value in ours.state_dict().items() if not key.startswith(head)}
        )
        their_features = timm.create_model(name, features_only=True).eval()
        their_features.load_state_dict(features.backbone.state_dict())
        for our_feature, their_feature in zip(features(x), their_features(x), strict=True):
            close(our_feature, their_feature)
    info = features.feature_info
    assert [f.channels for f in info] == their_features.feature_info.channels()
    assert [f.reduction for f in info] == their_features.feature_info.reduction()
    assert [f.module for f in info] == their_features.feature_info.module_name()


def test_torchvision_has_the_same_parameters_in_the_same_order():
    torch.manual_seed(0)
    x = torch.randn(2, 3, 64, 64)
    theirs = torchvision.models.mobilenet_v2(num_classes=7, dropout=0.0)
    ours = create_backbone("mobilenetv2_100", num_classes=7).eval()
    values = trained(theirs, x).state_dict().values()
    with torch.no_grad():
        ours.load_state_dict(dict(zip(ours.state_dict(), values, strict=True)))
        close(ours(x), theirs(x))
        values = trained(ours, x).state_dict().values()
        theirs.load_state_dict(dict(zip(theirs.state_dict(), values, strict=True)))
        close(theirs(x), ours(x))


@pytest.mark.parametrize("expand", [1, 6])
@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize(("stride", "channels"), [(1, 16), (2, 16), (1, 24)])
def test_one_block_with_attention(expand, kernel, stride, channels):
    options = {"stride": stride, "dw_kernel_size": kernel, "act_layer": nn.SiLU, "se_layer": _squeeze}
    if expand == 1:
        theirs = DepthwiseSeparableConv(16, channels, **options)
    else:
        theirs = TimmInvertedResidual(16, channels, exp_ratio=expand, **options)
    spec = BlockSpec(16, channels, stride, act="silu", attention="se", attention_options={"act": "relu"})
    if spec.changes_shape:
        ours = inverted_plain(spec, expand=expand, kernel=kernel)
    else:
        ours = create_block("inverted", spec, expand=expand, kernel=kernel)
    x = torch.randn(3, 16, 9, 8, generator=torch.Generator().manual_seed(0))
    theirs.load_state_dict(trained(ours, x).state_dict())
    with torch.no_grad():
        close(ours(x), theirs.eval()(x))


def _squeeze(channels, act_layer, device, dtype):
    return SEModule(channels)


def test_a_block_that_changes_the_shape_has_the_shortcut_of_the_spec():
    spec = BlockSpec(8, 16, 2, shortcut="plain_conv")
    block = create_block("inverted", spec).eval()
    plain = inverted_plain(spec).eval()
    plain.load_state_dict({k: v for k, v in block.state_dict().items() if not k.startswith("downsample")})
    x = torch.randn(2, 8, 6, 6)
    torch.testing.assert_close(block(x), plain(x) + block.downsample(x))


def test_ten_of_seventeen_blocks_are_residual():
    with torch.device("meta"):
        model = create_backbone("mobilenetv2_100", drop_path=0.3)
    blocks = [block for chain in model.blocks for block in chain]
    residual = [block for block in blocks if isinstance(block, Residual)]
    assert (len(blocks), len(residual)) == (17, 10)
    assert [block.rule.spec.index for block in residual] == list(range(1, 11))
    assert [getattr(block.drop_path, "rate", 0) for block in residual] == pytest.approx(
        [i / 30 for i in range(10)]
    )


@pytest.mark.parametrize("rule", list_rules())
def test_every_rule_trains(rule):
    model = small(num_classes=3, rule=rule)
    x, target = torch.randn(4, 3, 32, 32), torch.tensor([0, 1, 2, 0])
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-2)
    touched = set()
    for _ in range(
        8
    ):  # a scale that starts at 0 holds the branch's gradients back, a dropped update does too
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), target).backward()
        optimizer.step()
        touched |= {key for key, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    assert not {key for key, _ in model.named_parameters() if "rule" not in key} - touched


@pytest.mark.parametrize("rule", list_rules())
def test_layers_between_the_blocks_end_the_stream(rule):
    """A new rule that adds gives the plain network, whatever it carries from block to block."""
    if not create_rule(rule, channels=8).plain_at_init:
        pytest.skip("is no plain sum at the start")
    x = torch.randn(2, 3, 32, 32)
    plain = trained(small(zero_init_last=False), x)
    other = small(rule=rule, zero_init_last=False).eval()
    missing, unexpected = other.load_state_dict(plain.state_dict(), strict=False)
    assert not unexpected and all("rule" in key for key in missing)
    torch.testing.assert_close(other(x), plain(x), rtol=1e-4, atol=1e-5)


@every_dims
@pytest.mark.parametrize("norm", ["batch", "instance", "group", "layer", "none"])
@pytest.mark.parametrize("act", ["relu6", "silu", "prelu"])
def test_norm_and_activation_reach_every_layer(dims, norm, act):
    model = small(dims=dims, norm=norm, act=act, num_classes=3)
    kinds = Counter(map(type, model.modules()))
    convs = kinds[nd.conv(dims)]
    assert convs == 2 + 3 * 6 - 1
    assert norm == "none" or kinds[type(nd.norm(norm, dims, 8))] == convs
    assert norm == "batch" or not any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in model.modules())
    assert kinds[type(nd.act(act))] == convs - 6, "all convolutions but the projections"
    assert model(torch.randn(2, 3, *(32,) * dims)).isfinite().all()


def test_epsilon_reaches_every_norm():
    assert {m.eps for m in small(norm_eps=0.25, num_classes=3).modules() if hasattr(m, "eps")} == {0.25}


@pytest.mark.parametrize("attention", list_attention())
def test_attention_reaches_every_block(attention):
    model = small(attention=attention)
    slots = [block.se for chain in model.blocks for block in chain]
    assert len(slots) == 6 and all((type(slot) is nn.Identity) == (attention == "none") for slot in slots)
    assert model(torch.randn(2, 3, 32, 32)).shape == (2, model.num_features)


@every_dims
def test_gradient_and_samples(dims):
    model = small(dims=dims, num_classes=3, zero_init_last=False, kernel=5)
    x = torch.randn(4, 3, *(32,) * dims)
    model(x).square().sum().backward()
    assert not {key for key, p in model.named_parameters() if p.grad is None or not p.grad.any()}
    model.eval()
    torch.testing.assert_close(model(x), torch.cat([model(sample[None]) for sample in x]))


def test_blocks_begin_as_their_shortcut():
    x = torch.randn(2, 32, 8, 8)
    for begins in (True, False):
        block = small(zero_init_last=begins).eval().blocks[1][1]
        assert torch.equal(block(x), x) == begins


def test_the_last_convolution_belongs_to_the_head():
    model = create_backbone("mobilenetv2_140")
    assert model.num_features == 448 and not any(key.startswith("conv_head") for key in model.state_dict())
    assert small(num_classes=3).classifier.in_features == 48
    assert small(num_classes=3, width=0.5).classifier.in_features == 24, "the head does not shrink"


def test_head_dropout_only_in_training():
    model = small(num_classes=3, head_dropout=0.9, norm="layer")
    x = torch.randn(2, 3, 32, 32)
    assert not torch.equal(model(x), model(x))
    assert torch.equal(model.eval()(x), model(x))


def test_every_norm_folds():
    x = torch.randn(2, 3, 32, 32)
    model = trained(small(num_classes=3, zero_init_last=False), x)
    folded, done = deployed(model)
    assert done.folded == sum(isinstance(m, nn.BatchNorm2d) for m in model.modules())
    close(folded(x), model(x))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"expands": (1, 0, 6)}, "expand of an inverted residual must be 1 or more, not 0"),
        ({"kernel": 4}, "kernel of an inverted residual must be odd, not 4"),
        ({"widths": (8,)}, r"widths \(8,\) has fewer entries than layers \(1, 3, 2\)"),
        ({"layers": (0, 1, 1)}, "layers must be 1 or more blocks for each stage"),
        ({"width": 0.0}, "width must be above 0, and stem_width, head_width and widths 1 or more"),
        ({"head_width": 0}, "width must be above 0, and stem_width, head_width and widths 1 or more"),
    ],
)
def test_a_wrong_option_is_one_line(options, message):
    with pytest.raises(ConfigError, match=message):
        small(**options)
