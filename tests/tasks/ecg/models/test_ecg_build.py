"""Networks from configurations, and what is said about options that make no sense."""

from __future__ import annotations

import pytest
import torch

from core.errors import ConfigError
from tasks.ecg.config import (
    MODELS,
    BackboneConfig,
    MambaConfig,
    MambaSmallConfig,
    MambaTinyConfig,
    ResNetWangConfig,
    XResNet18Config,
    XResNet50Config,
    XResNet101Config,
)
from tasks.ecg.models.backbone import BackboneNet
from tasks.ecg.models.build import build_network
from tasks.ecg.models.mamba import EcgMamba
from tasks.ecg.models.resnets import ResNet1dWang, XResNet1d


def count(model):
    return sum(p.numel() for p in model.parameters())


def build(config, leads=12, classes=71, length=250):
    with torch.device("meta"):
        return build_network(config, leads, classes, length)


@pytest.mark.parametrize("name", MODELS)
def test_every_model_gives_logits(name):
    with torch.device("meta"):
        model = build_network(MODELS[name](), 8, 5, 250).eval()
        assert model(torch.empty(2, 8, 250)).shape == (2, 5)


@pytest.mark.parametrize(
    ("config", "kind", "parameters"),
    [
        (ResNetWangConfig(), ResNet1dWang, 481_863),
        (XResNet18Config(), XResNet1d, 373_447),
        (XResNet50Config(), XResNet1d, 962_503),
        (XResNet101Config(), XResNet1d, 1_880_775),
        (MambaConfig(), EcgMamba, 25_828_295),
        (BackboneConfig(), BackboneNet, None),
    ],
)
def test_the_published_sizes(config, kind, parameters):
    model = build(config)
    assert type(model) is kind
    assert parameters in (None, count(model))


def test_presets_are_small_enough_for_cpus():
    assert count(build(MambaTinyConfig())) < count(build(MambaSmallConfig())) < 500_000


def test_options_reach_the_mamba():
    config = MambaTinyConfig(
        width=16, depth=3, state=4, conv=3, expand=3, stem=6, kernels=[5, 9], strides=[1, 3], token="middle",
        halve=False, dropout=0.3, drop_path=0.2, rule="scaled", rule_options={"scale": 0.5},
    )  # fmt: skip
    model = build(config)
    mixer = model.blocks[2].mixer
    assert len(model.blocks) == 3 and mixer.A_log.shape == (48, 4) and mixer.conv1d.kernel_size == (3,)
    assert mixer.scale == 1.0 and model.dropout.p == 0.3 and model.blocks[2].drop_path.rate == 0.2
    assert model.stem[0].out_channels == 6 and model.token is not None
    assert (model.stem[0].kernel_size, model.stem[3].kernel_size, model.stem[3].stride) == ((5,), (9,), (3,))
    assert "0.5" in repr(vars(model.blocks[0].rule))


def test_options_reach_the_resnets():
    wang = build(ResNetWangConfig(width=8, dropout=0.4, rule="skipinit"))
    assert wang.head.dropout2.p == 0.4 and wang.head.dropout1.p == 0.2
    assert type(wang.blocks[0].rule).__name__ == "SkipInit" and wang.blocks[0].conv1.out_channels == 8
    x = build(XResNet50Config(width=8, kernel=7, layers=[1, 2], dropout=0.1))
    assert (
        len(x.blocks) == 3 and x.blocks[0].conv2.kernel_size == (7,) and x.blocks[0].conv3.out_channels == 32
    )
    assert x.head.dropout2.p == 0.1


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (ResNetWangConfig(width=0), "--model.width 0 must be 1 or more"),
        (ResNetWangConfig(dropout=1.0), "--model.dropout 1.0 must be 0 or more and below 1"),
        (XResNet18Config(kernel=4), "--model.kernel 4 must be odd"),
        (XResNet18Config(layers=[]), r"--model.layers \[\] must be 1 or more blocks"),
        (XResNet18Config(layers=[2, 0]), r"--model.layers \[2, 0\]"),
        (MambaConfig(depth=0), "--model.depth 0"),
        (MambaConfig(state=0), "--model.state 0"),
        (MambaConfig(kernels=[7]), r"--model.kernels \[7\] must be two numbers"),
        (MambaConfig(strides=[1, 0]), r"--model.strides \[1, 0\] must be two numbers"),
        (MambaConfig(drop_path=-0.1), "--model.drop_path -0.1"),
        (MambaConfig(rule="ad"), "ad"),
        (BackboneConfig(backbone="resnet19"), "resnet19"),
        (BackboneConfig(options={"num_classes": 3}), "num_classes, which the labels decides"),
        (BackboneConfig(options={"nrom": "group"}), "nrom"),
        (BackboneConfig(dropout=2.0), "--model.dropout 2.0"),
    ],
)
def test_silly_options_are_one_line(config, message):
    with pytest.raises(ConfigError, match=message) as error:
        build(config)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "name",
    ["resnet18", "tcn", "fixup_resnet20_cifar", "resnext50_32x4d", "res2net50_26w_4s", "unireplknet_a"],
)
def test_backbones_of_the_core_in_one_dimension(name):
    model = build_network(BackboneConfig(backbone=name, dropout=0.1), 3, 4, 250).eval()
    assert model(torch.randn(2, 3, 250)).shape == (2, 4)


@pytest.mark.parametrize("name", ["rdnet_tiny", "plainconv6"])
def test_inputs_that_are_too_short_for_a_backbone_are_said(name):
    with pytest.raises(ConfigError, match=f"{name} cannot take 8 samples of 12 leads"):
        build(BackboneConfig(backbone=name), length=8)


def test_the_rule_reaches_the_backbone():
    model = build(BackboneConfig(rule="scaled", rule_options={"scale": 0.5}))
    rules = {type(module.rule).__name__ for module in model.modules() if hasattr(module, "rule")}
    assert rules == {"Scaled"}
