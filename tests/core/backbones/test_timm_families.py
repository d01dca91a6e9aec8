"""Res2Net, ResNeSt, DPN and RDNet: timm's parameters, logits and features, with weights copied both ways."""

from __future__ import annotations

import pytest
import timm
import torch
from timm.models.res2net import Bottle2neck
from timm.models.resnest import ResNestBottleneck
from torch import nn

from core.backbones import create_backbone, create_features
from core.residual.blocks import BlockSpec, create_block

PARAMETERS = {
    "res2net50_26w_4s": 25_699_120,
    "res2net50_26w_6s": 37_051_448,
    "res2net50_26w_8s": 48_403_776,
    "res2net50_14w_8s": 25_059_816,
    "res2net50_48w_2s": 25_287_304,
    "res2net101_26w_4s": 45_206_688,
    "resnest14d": 10_611_688,
    "resnest26d": 17_069_448,
    "resnest50d": 27_483_240,
    "resnest101e": 48_275_016,
    "dpn68": 12_611_602,
    "dpn92": 37_668_392,
    "dpn98": 61_570_728,
    "dpn107": 86_917_800,
    "dpn131": 79_254_504,
    "rdnet_tiny": 23_863_008,
    "rdnet_small": 50_436_448,
    "rdnet_base": 87_451_096,
    "rdnet_large": 186_269_632,
}
HEADS = ("fc.", "classifier.", "head.", "features.conv5_bn_ac.")


@pytest.mark.parametrize(("name", "expected"), PARAMETERS.items())
def test_parameters(name, expected):
    """The number is the one published with timm 1.0.31; names and shapes are those of the installed one."""
    with torch.device("meta"):
        ours, theirs = create_backbone(name, num_classes=1000), timm.create_model(name, num_classes=1000)
    assert sum(p.numel() for p in ours.parameters()) == expected
    shapes = [{key: value.shape for key, value in m.state_dict().items()} for m in (ours, theirs)]
    assert shapes[0] == shapes[1]


def trained(model, *inputs):
    """Random scales and biases, and the statistics of a few batches: initial ones hide a wrong order of layers."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.2 * torch.randn_like(parameter))
        model.train()
        for shift in range(3):
            model(*(x + shift for x in inputs))
    return model.eval()


def close(ours, theirs):
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5 * theirs.abs().max().item())


@pytest.mark.parametrize("name", ["res2net50_14w_8s", "resnest14d", "dpn68", "rdnet_tiny"])
def test_logits_and_features(name):
    torch.manual_seed(0)
    x = torch.randn(2, 3, 64, 64)
    theirs = timm.create_model(name, num_classes=7)
    ours = create_backbone(name, num_classes=7, zero_init_last=False).eval()
    with torch.no_grad():
        theirs.load_state_dict(ours.state_dict())
        assert ours(x).std() > 0
        close(ours(x), theirs.eval()(x))
        ours.load_state_dict(trained(theirs, x).state_dict())
        close(ours(x), theirs(x))
        theirs.load_state_dict(trained(ours, x).state_dict())
        close(theirs(x), ours(x))

        features = create_features(name).eval()
        state = {key: value for key, value in ours.state_dict().items() if not key.startswith(HEADS)}
        features.backbone.load_state_dict(state)
        their_features = timm.create_model(name, features_only=True).eval()
        _load_renamed(their_features, state)
        for our_feature, their_feature in zip(features(x), their_features(x), strict=True):
            close(our_feature, their_feature)
    info = features.feature_info
    assert [f.channels for f in info] == their_features.feature_info.channels()
    assert [f.reduction for f in info] == their_features.feature_info.reduction()
    assert [f.module for f in info] == their_features.feature_info.module_name()


def _load_renamed(their_features, state):
    """timm's wrapper flattens ``features.conv1_1`` to ``features_conv1_1`` and drops what no feature needs."""
    flat = {key.replace(".", "_"): value for key, value in state.items()}
    their_features.load_state_dict({key: flat[key.replace(".", "_")] for key in their_features.state_dict()})


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(
    ("scale", "cardinality", "base_width"), [(4, 1, 26), (3, 4, 8), (1, 1, 64), (1, 8, 16)]
)
def test_multi_scale_block(stride, scale, cardinality, base_width):
    options = {"scale": scale, "cardinality": cardinality, "base_width": base_width}
    ours = create_block("res2net", BlockSpec(64, 128 if stride == 2 else 64, stride), **options)
    planes = ours.spec.out_channels // 4
    theirs = Bottle2neck(64, planes, stride, ours.downsample, norm_layer=nn.BatchNorm2d, **options)
    _agree(ours, theirs)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(("radix", "cardinality", "base_width"), [(2, 1, 64), (4, 2, 40), (1, 4, 24)])
@pytest.mark.parametrize(("avd", "avd_first"), [(True, False), (True, True), (False, False)])
def test_split_attention_block(stride, radix, cardinality, base_width, avd, avd_first):
    options = {
        "radix": radix,
        "cardinality": cardinality,
        "base_width": base_width,
        "avd": avd,
        "avd_first": avd_first,
    }
    ours = create_block("resnest", BlockSpec(128, 256 if stride == 2 else 128, stride), **options)
    theirs = ResNestBottleneck(128, ours.spec.out_channels // 4, stride, ours.downsample, **options)
    _agree(ours, theirs)


def _agree(ours, theirs):
    x = torch.randn(3, ours.spec.in_channels, 9, 8, generator=torch.Generator().manual_seed(0))
    theirs.load_state_dict(trained(ours, x).state_dict())
    with torch.no_grad():
        close(ours(x), theirs.eval()(x))
