"""Backbones of the core on features over time and frequency."""

from __future__ import annotations

import pytest
import torch

from core.errors import ConfigError
from tasks.speech.config import BackboneConfig
from tasks.speech.models.backbone import BackboneNet


def network(**options):
    torch.manual_seed(0)
    return BackboneNet(BackboneConfig(**options), 31, 16, 3)


@pytest.mark.parametrize(
    ("name", "dims"), [("resnet20_cifar", 2), ("resnet20_cifar", 1), ("tcn", 1), ("mobilenetv2_050", 2)]
)
def test_output_is_a_linear_layer_on_pooled_features(name, dims):
    model = network(backbone=name, dims=dims).eval()
    x = torch.randn(2, 31, 16)
    pooled = model.embed(x)
    assert pooled.shape == (2, model.backbone.num_features)
    torch.testing.assert_close(model(x), pooled @ model.output.weight.T + model.output.bias)


def test_what_is_an_image_and_what_a_signal():
    image, signal = network(backbone="resnet20_cifar"), network(backbone="resnet20_cifar", dims=1)
    assert (image.backbone.spec.dims, image.backbone.spec.in_channels) == (2, 1)
    assert (signal.backbone.spec.dims, signal.backbone.spec.in_channels) == (1, 16)
    # Frames, not features, are the axis of a signal: later frames change nothing that a causal network has seen.
    causal = network(backbone="tcn", dims=1, options={"widths": [8], "kernel": 2}).eval()
    x = torch.randn(1, 31, 16)
    changed = x.clone()
    changed[:, :28] = 0  # two convolutions of 2 frames see the last 3
    torch.testing.assert_close(causal(changed), causal(x))


def test_rule_and_options_reach_the_backbone():
    scaled = network(backbone="resnet20_cifar", rule="scaled", rule_options={"scale": 0.5}).backbone.spec
    assert (scaled.rule, scaled.rule_options) == ("scaled", {"scale": 0.5})
    assert network(backbone="resnet20_cifar", options={"norm": "group"}).backbone.spec.norm == "group"
    # The default is the backbone's own rule, not the plain sum.
    assert network(backbone="fixup_resnet20_cifar").backbone.spec.rule == "fixup"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backbone": "resnet19"}, "resnet19"),
        ({"dims": 3}, "model.dims 3"),
        ({"backbone": "tcn"}, "dims=1 alone"),
        ({"options": {"speed": 1}}, "speed"),
        ({"options": {"rule": "scaled"}}, "options has rule, which --model.rule decides"),
        ({"options": {"num_classes": 3}}, "which the words decide"),
        ({"backbone": "rdnet_tiny"}, "cannot take 31 frames of 16 features"),
    ],
)
def test_what_cannot_be_built_is_named(options, message):
    with torch.device("meta"), pytest.raises(ConfigError, match=message):
        network(**options)
