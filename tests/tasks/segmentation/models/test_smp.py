"""Decoders of segmentation_models_pytorch on any encoder: any size, rules, weights, one line for every mistake."""

from __future__ import annotations

import socket

import pytest
import torch

from core.backbones import create_backbone
from core.errors import ConfigError, DataError
from core.residual import Residual, create_rule
from tasks.segmentation.models.smp import DECODERS, SMPNet

SHORT = {"layers": (1, 1, 1, 1), "widths": (8, 16, 24, 32), "stem_width": 8}
NARROW = {"decoder_channels": (16, 8, 8, 8, 4)}


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    def refuse(*_):
        raise AssertionError("a network is asked for")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def build(decoder="Unet", encoder="resnet18", in_channels=2, outputs=3, **options):
    torch.manual_seed(0)
    given = (
        {"encoder_options": SHORT, "options": NARROW} if encoder == "resnet18" and decoder == "Unet" else {}
    )
    return SMPNet(decoder, encoder, in_channels, outputs, **{**given, **options})


def images(size=(40, 33), channels=2):
    return torch.randn(2, channels, *size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("decoder", DECODERS)
def test_every_decoder_takes_any_size(decoder):
    with torch.device("meta"):
        network = SMPNet(decoder, "resnet18", 2, 3)
        size = (130, 129) if decoder == "PAN" else (70, 33)
        assert network.train()(torch.empty(2, 2, *size)).shape == (2, 3, *size)
    assert network.deep_supervision is False


@pytest.mark.parametrize("encoder", ["resnet18", "mobilenet_v2", "tu-resnet10t"])
def test_encoders_of_the_core_and_of_the_library(encoder):
    network = build(encoder=encoder).eval()
    assert network(images()).shape == (2, 3, 40, 33)
    assert (sum(isinstance(m, Residual) for m in network.modules()) > 0) == (encoder == "resnet18")


def test_it_stands_what_networks_have_to(shake, stands):
    stands(shake(build()), images((33, 32)))


def test_rules_reach_the_encoder():
    networks = [
        build(rule=rule, rule_options=options)
        for rule, options in (("scaled", {"scale": 0.5}), ("hires", {}))
    ]
    for network, rule in zip(networks, ("scaled", "hires"), strict=True):
        rules = {type(m.rule) for m in network.modules() if isinstance(m, Residual)}
        assert rules == {type(create_rule(rule, channels=8))}
        assert network(images()).isfinite().all()
    assert {m.rule.scale for m in networks[0].modules() if isinstance(m, Residual)} == {0.5}


def test_an_encoder_keeps_its_own_rule():
    rules = [
        {
            type(m.rule).__name__
            for m in SMPNet("FPN", "fixup_resnet50", 3, 1, rule=rule).modules()
            if isinstance(m, Residual)
        }
        for rule in ("add", "scaled")
    ]
    assert rules[0] == {type(create_rule("fixup", channels=8)).__name__} != rules[1]


@pytest.mark.parametrize("channels", [1, 3, 6])
def test_weights_of_an_encoder(tmp_path, channels):
    """Equal channels give what they gave; the classifier is passed over."""
    torch.manual_seed(1)
    source = create_backbone("resnet18", num_classes=5, zero_init_last=False, **SHORT).eval()
    path = str(tmp_path / "resnet18.pth")
    torch.save(source.state_dict(), path)
    network = build(in_channels=channels, encoder_weights=path).eval()
    x = images((64, 64), 1)
    features = network.network.encoder(x.expand(-1, channels, -1, -1))
    expected = source.forward_features(x.expand(-1, 3, -1, -1))[-1]
    torch.testing.assert_close(features[-1], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"decoder": "UNet"}, "unknown --model.decoder 'UNet'. Did you mean 'Unet'"),
        ({"encoder": "resnet81"}, "unknown --model.encoder 'resnet81'. Did you mean 'resnet18'"),
        ({"encoder": "resnet20_cifar"}, "resnet20_cifar is no encoder for these decoders"),
        ({"encoder": "tcn"}, "--model.encoder tcn is no encoder for these decoders"),
        (
            {"encoder": "mobilenet_v2", "rule": "scaled"},
            "--model.rule is for encoders of core.backbones, and mobil",
        ),
        (
            {"encoder": "mobilenet_v2", "encoder_weights": "x.pth"},
            "--model.encoder_weights is for encoders of core",
        ),
        (
            {"encoder": "mobilenet_v2", "encoder_options": {"norm": "group"}},
            "--model.encoder_options is for encoders",
        ),
        ({"encoder": "tu-nothing"}, "Unet cannot be built on tu-nothing"),
        (
            {"encoder_options": {"nrm": "group"}},
            "backbone 'resnet18' has no option 'nrm'. Did you mean 'norm'",
        ),
        (
            {"encoder_options": {"rule": "scaled"}},
            "--model.encoder_options has rule, which --model.rule decides",
        ),
        ({"options": {"classes": 4}}, "--model.options has classes, which the labels decides; take it out"),
        (
            {"options": {"decoder_channel": (1,)}},
            "--model.options of Unet has no option 'decoder_channel'. Did you mean 'decoder_channels'",
        ),
        ({"options": {"decoder_channels": (8,)}}, "Unet cannot be built on resnet18 with --model.options"),
        ({"options": {"encoder_depth": 7}}, "encoder_depth of resnet18 must be 1 to 5, not 7"),
        ({"encoder": "rdnet_tiny", "rule": "scaled"}, "dense blocks concatenate and have no residual rule"),
    ],
)
def test_a_mistake_is_one_line(options, message):
    with pytest.raises(ConfigError, match=message) as caught:
        build(**options)
    assert "\n" not in str(caught.value)


def test_weights_that_do_not_fit_are_one_line(tmp_path):
    path = str(tmp_path / "other.pth")
    torch.save(create_backbone("resnet18", layers=(1, 1)).state_dict(), path)
    with pytest.raises(DataError, match=r"other\.pth does not fit"):
        build(encoder_weights=path)
    with pytest.raises(DataError, match=r"nowhere\.pth cannot be read"):
        build(encoder_weights=str(tmp_path / "nowhere.pth"))
