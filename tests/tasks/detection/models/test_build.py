"""From a configuration to a network, and weights of backbones."""

from __future__ import annotations

import pytest
import torch
from torchvision.models import mobilenet_v3_large

from core.backbones import create_backbone
from core.errors import ConfigError, DataError
from tasks.detection.config import MODELS, RTMDetConfig, RTMDetInsConfig, SSDLiteConfig
from tasks.detection.models.build import BUILDERS, build_network
from tasks.detection.models.rtmdet import RTMDet
from tasks.detection.models.rtmdet_ins import RTMDetIns
from tasks.detection.models.ssdlite import SSDLite


def test_every_configuration_has_a_network():
    assert set(BUILDERS) == set(MODELS)
    for name, kind in (("rtmdet", RTMDet), ("rtmdet_ins", RTMDetIns), ("ssdlite", SSDLite)):
        assert type(build_network(MODELS[name](), 3)) is kind


def test_options_reach_the_network():
    with torch.device("meta"):
        config = RTMDetConfig(
            size="nano",
            exp_on_reg=False,
            pixels="rgb",
            backbone="resnet18",
            backbone_options={"act": "gelu"},
            rule="scaled",
            rule_options={"scale": 0.25},
        )
        network = build_network(config, 7)
    spec = network.backbone.spec
    assert (spec.act, spec.rule, spec.rule_options) == ("gelu", "scaled", {"scale": 0.25})
    assert (network.pixels, network.bbox_head.exp, len(network.bbox_head.rtm_cls[0].bias)) == (
        "rgb",
        False,
        7,
    )


def test_options_of_cspnext_may_change_its_widths():
    with torch.device("meta"):
        network = build_network(RTMDetInsConfig(size="nano", backbone_options={"widen": 0.375}), 2)
        assert network(torch.empty(1, 3, 64, 64)).prototypes.shape == (1, 8, 8, 8)
    assert [info.channels for info in network.backbone.feature_info] == [48, 96, 192, 384]


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (RTMDetConfig(backbone="resnet81"), "resnet"),
        (RTMDetConfig(backbone="resnet20_cifar"), "reduced by 8"),
        (RTMDetConfig(backbone_options={"drop": 0.1}), "drop_path"),
        (RTMDetConfig(backbone_options={"rule": "scaled"}), "--model.rule"),
        (RTMDetConfig(rule="scald"), "scaled"),
        (SSDLiteConfig(rule="scaled"), "--model.rule"),
    ],
)
def test_wrong_options_are_one_line(config, said):
    with pytest.raises(ConfigError) as error:
        build_network(config, 2)
    assert said in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("wrap", ["plain", "classifier", "detector"])
def test_weights_of_a_backbone_load_from_every_kind_of_file(tmp_path, wrap):
    torch.manual_seed(1)
    backbone = create_backbone("resnet18", num_classes=10)
    state = backbone.state_dict()
    if wrap == "plain":
        state = {key: weight for key, weight in state.items() if not key.startswith("fc.")}
    if wrap == "detector":
        state = {f"backbone.{key}": weight for key, weight in state.items()} | {"neck.x": torch.ones(1)}
    torch.save({"state_dict": state, "epoch": 3}, tmp_path / "first.pth")
    torch.manual_seed(2)
    config = RTMDetConfig(size="nano", backbone="resnet18", backbone_weights=str(tmp_path / "first.pth"))
    loaded = build_network(config, 2).backbone.state_dict()
    assert loaded and all(torch.equal(weight, backbone.state_dict()[key]) for key, weight in loaded.items())


def test_weights_of_another_backbone_are_refused(tmp_path):
    torch.save(create_backbone("resnet18").state_dict(), tmp_path / "wrong.pth")
    config = RTMDetConfig(size="nano", backbone="resnet34", backbone_weights=str(tmp_path / "wrong.pth"))
    with pytest.raises(DataError, match="missing"):
        build_network(config, 2)
    with pytest.raises(DataError, match="cannot be read"):
        build_network(RTMDetConfig(size="nano", backbone_weights=str(tmp_path / "none.pth")), 2)


def test_ssdlite_is_that_of_torchvision():
    torch.manual_seed(0)
    network = build_network(SSDLiteConfig(), 90).eval()
    assert sum(weight.numel() for weight in network.parameters()) == 3_440_060  # published
    assert (network.pixels, network.mean, network.std) == ("rgb", (127.5,) * 3, (127.5,) * 3)


def test_ssdlite_finds_what_torchvision_finds():
    torch.manual_seed(0)
    network = build_network(SSDLiteConfig(), 3).eval()
    with torch.inference_mode():
        network.ssd.score_thresh = 0.0
        image = torch.rand(3, 320, 320)
        theirs = network.ssd([image])[0]
        boxes, scores = network.decode(network((image[None] - 0.5) / 0.5))
    assert boxes.shape[:2] == scores.shape[:2] and scores.shape[2] == 3
    clipped = boxes[0].clamp(0, 320)
    for box, score, label in zip(*(theirs[key][:20] for key in ("boxes", "scores", "labels")), strict=True):
        place = int((clipped - box).abs().sum(1).argmin())
        torch.testing.assert_close(clipped[place], box, rtol=1e-4, atol=1e-2)
        torch.testing.assert_close(scores[0, place, label - 1], score, rtol=1e-4, atol=1e-5)


def test_ssdlite_takes_other_sizes():
    with torch.inference_mode():
        network = build_network(SSDLiteConfig(), 2).eval()
        outputs = network(torch.zeros(2, 3, 192, 256))
        boxes, scores = network.decode(outputs)
    assert boxes.shape == (2, len(outputs["anchors"]), 4) and scores.shape == (2, len(outputs["anchors"]), 2)
    assert torch.equal(outputs["anchors"][:, 0] <= outputs["anchors"][:, 2], torch.ones(boxes.shape[1]) > 0)


def test_weights_of_imagenet_fill_all_of_ssdlite_but_its_narrower_tail(tmp_path):
    torch.manual_seed(1)
    theirs = mobilenet_v3_large(weights=None)
    torch.save(theirs.state_dict(), tmp_path / "mobilenet.pth")
    torch.manual_seed(2)
    network = build_network(SSDLiteConfig(backbone_weights=str(tmp_path / "mobilenet.pth")), 2)
    first, tail = network.ssd.backbone.features
    for mine, block in zip(first[:13], theirs.features[:13], strict=True):
        assert all(
            torch.equal(a, b)
            for a, b in zip(mine.state_dict().values(), block.state_dict().values(), strict=True)
        )
    expand = theirs.features[13].block
    assert torch.equal(first[13][0].weight, expand[0][0].weight)
    assert torch.equal(tail[0][0][0].weight, expand[1][0].weight)
    torch.save(create_backbone("resnet18").state_dict(), tmp_path / "other.pth")
    with pytest.raises(DataError, match="mobilenet_v3_large"):
        build_network(SSDLiteConfig(backbone_weights=str(tmp_path / "other.pth")), 2)
