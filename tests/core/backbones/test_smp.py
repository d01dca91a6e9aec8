"""Decoders of segmentation_models_pytorch on our backbones: geometry, its own weights, training, dilations."""

from __future__ import annotations

import copy
import pickle
import re
import sys
from pathlib import Path

import pytest
import segmentation_models_pytorch as smp
import torch
from segmentation_models_pytorch.encoders import get_encoder
from torch import nn

from core.backbones import BACKBONES, list_backbones, register_smp_encoders
from core.errors import ConfigError
from core.residual import Residual, create_rule, list_rules

NAMES = register_smp_encoders()
FAMILIES = {BACKBONES[name.removeprefix("skipway-")].model: name for name in reversed(NAMES)}
"""The first, which is the smallest, of each family."""
ONE_OF_EACH = [*FAMILIES.values(), "skipway-resnet50d"]


def close(ours, theirs):
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5 * theirs.abs().max().item())


def trained(model, channels=3):
    """Random scales and the statistics of a few batches, since initial ones hide a wrong order of layers."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.2 * torch.randn_like(parameter))
        model.train()(torch.randn(2, channels, 64, 64))
    return model.eval()


def test_names():
    assert register_smp_encoders() == NAMES
    assert set(NAMES) <= set(smp.encoders.get_encoder_names())
    left = {name for name in list_backbones() if f"skipway-{name}" not in NAMES}
    # Signals, volumes, networks for 32 pixels, which reduce them by 4, and nnU-Net's, which begin at full size.
    small = {name for name in left if re.search(r"cifar|preact|wrn|resnext29|pyramidnet", name)}
    assert left - small == {"tcn", "p3d63", "p3d131", "p3d199", "resenc6", "plainconv6"}
    assert {"skipway-resnet18", "skipway-mobilenetv2_100", "skipway-rdnet_tiny", "skipway-dpn68"} <= set(
        NAMES
    )


@pytest.mark.parametrize("depth", [1, 4, 5])
@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_features(name, depth):
    with torch.device("meta"):
        if "cspnext" in name and depth < 5:
            with pytest.raises(ConfigError, match="takes encoder_depth=5 alone, not "):
                get_encoder(name, depth=depth)
            return
        encoder = get_encoder(name, in_channels=5, depth=depth)
        x = torch.empty(2, 5, 64, 96)
        features = encoder(x)
    assert features[0] is x
    assert [f.shape[1] for f in features] == encoder.out_channels
    assert [f.shape[2:] for f in features] == [(64 // 2**i, 96 // 2**i) for i in range(depth + 1)]
    assert encoder.output_stride == 2**depth
    assert ("rdnet" in name) == (encoder.out_channels[1] == 0)


@pytest.mark.parametrize("name", ONE_OF_EACH)
@pytest.mark.parametrize("depth", [3, 5])
def test_no_block_is_behind_the_last_feature(name, depth):
    if "cspnext" in name and depth < 5:
        return
    with torch.device("meta"):
        encoder = get_encoder(name, depth=depth)
        encoder(torch.empty(2, 3, 64, 64))[-1].sum().backward()
    idle = [key for key, parameter in encoder.named_parameters() if parameter.grad is None]
    # Norms of the head, which every backbone keeps.
    assert all(re.match(r"norm\.|head\.norm\.|features\.conv5_bn_ac\.", key) for key in idle)


@pytest.mark.parametrize("depth", [3, 4, 5])
@pytest.mark.parametrize("channels", [1, 3, 5])
def test_weights_of_smp(depth, channels):
    options = {"encoder_weights": None, "encoder_depth": depth, "in_channels": channels, "classes": 2}
    options["decoder_channels"] = (32, 16, 8, 8, 8)[:depth]
    theirs, ours = smp.Unet("resnet18", **options), smp.Unet("skipway-resnet18", **options)
    if depth == 5:
        assert ours.state_dict().keys() == theirs.state_dict().keys()
    ours.load_state_dict(trained(theirs, channels).state_dict())
    x = torch.randn(2, channels, 64, 64)
    with torch.no_grad():
        close(ours.eval()(x), theirs(x))


@pytest.mark.parametrize("stride", [8, 16])
def test_dilations_are_those_of_smp(stride):
    options = {"encoder_weights": None, "encoder_output_stride": stride, "decoder_channels": 16}
    theirs = smp.DeepLabV3Plus("resnet18", **options)
    ours = smp.DeepLabV3Plus("skipway-resnet18", **options)
    ours.load_state_dict(trained(theirs).state_dict())
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        close(ours.eval()(x), theirs(x))
        assert ours.encoder(x)[-1].shape[2] == 64 // stride == 64 // ours.encoder.output_stride


@pytest.mark.parametrize(
    "decoder", ["Unet", "UnetPlusPlus", "FPN", "Linknet", "MAnet", "UPerNet", "Segformer"]
)
@pytest.mark.parametrize("name", ["skipway-resnet18", "skipway-rdnet_tiny"])
def test_decoders(decoder, name):
    with torch.device("meta"):
        model = getattr(smp, decoder)(name, encoder_weights=None, in_channels=1, classes=2)
        assert model(torch.empty(2, 1, 64, 64)).shape == (2, 2, 64, 64)


@pytest.mark.parametrize("rule", list_rules())
def test_rules_reach_the_encoder(rule):
    names = register_smp_encoders(f"{rule}-", rule=rule)
    assert f"{rule}-resnet18" in names
    with torch.device("meta"):
        model = smp.Unet(
            f"{rule}-resnet18", encoder_weights=None, encoder_depth=4, decoder_channels=(8, 8, 8, 8)
        )
        assert model(torch.empty(2, 3, 64, 64)).shape == (2, 1, 64, 64)
    kinds = {type(m.rule) for m in model.encoder.modules() if isinstance(m, Residual)}
    assert kinds == {type(create_rule(rule, channels=64, dims=2))}


@pytest.mark.parametrize(
    ("decoder", "options"),
    [
        (smp.Unet, {"encoder_depth": 3, "decoder_channels": (32, 16, 8)}),
        (smp.Unet, {"encoder_depth": 5, "decoder_channels": (64, 32, 16, 16, 8)}),
        (
            smp.FPN,
            {
                "encoder_depth": 5,
                "decoder_dropout": 0.0,
                "decoder_segmentation_channels": 32,
            },
        ),
    ],
)
def test_training(decoder, options):
    """Where an image is bright, to be told from noise in one channel."""
    torch.manual_seed(0)
    model = decoder("skipway-resnet18", encoder_weights=None, in_channels=1, classes=2, **options)
    target = torch.zeros(4, 32, 32, dtype=torch.long)
    for i in range(4):
        target[i, 4 * i : 4 * i + 12, 16 - 4 * i : 28 - 4 * i] = 1
    x = target[:, None] + 0.3 * torch.randn(4, 1, 32, 32)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(12):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), target)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2
    model.eval()
    with torch.no_grad():
        close(pickle.loads(pickle.dumps(model))(x), model(x))
        close(copy.deepcopy(model)(x), model(x))


def test_first_convolution():
    torch.manual_seed(0)
    random = get_encoder("skipway-resnet18", in_channels=12)
    # He et al.: the deviation by which a layer keeps the variance of gradients, for any number of inputs.
    assert random.conv1.weight.std().item() == pytest.approx((2 / (64 * 49)) ** 0.5, rel=0.02)
    encoder = get_encoder("skipway-resnet18").eval()
    with torch.no_grad():
        x = torch.randn(2, 1, 64, 64)
        expected = encoder(x.expand(-1, 3, -1, -1))[-1]
        encoder.set_in_channels(1, pretrained=True)
        close(encoder(x)[-1], expected)
        encoder.set_in_channels(4)
        close(encoder(x.expand(-1, 4, -1, -1))[-1], expected)
    assert encoder.out_channels[0] == 4


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("skipway-resnet18", {"depth": 6}, "encoder_depth of resnet18 must be 1 to 5, not 6"),
        (
            "skipway-resnet18",
            {"output_stride": 4},
            "encoder_output_stride of resnet18 must be 8, 16 or 32, not 4",
        ),
        (
            "skipway-rdnet_tiny",
            {"output_stride": 16},
            "rdnet_tiny has no dilations for encoder_output_stride=16",
        ),
        ("wide-resnet18", {}, "backbone 'resnet18': act takes str, not 3"),
        ("flat-resnet18", {}, "resnet18 reduces its input by 2, 4, 8, 16, 16; an encoder needs"),
    ],
)
def test_a_wrong_encoder_is_one_line(name, options, message):
    register_smp_encoders("wide-", act=3)
    register_smp_encoders("flat-", strides=(1, 2, 2, 1))
    with pytest.raises(ConfigError, match=message):
        get_encoder(name, **options)


def test_a_wrong_registration_is_one_line(monkeypatch):
    with pytest.raises(ConfigError, match="no backbone for images has the options ruel"):
        register_smp_encoders(ruel="add")
    with pytest.raises(ConfigError, match="no backbone for images has the options in_channels"):
        register_smp_encoders(in_channels=4)
    with pytest.raises(
        ConfigError, match=r"segmentation_models_pytorch has its own '\w+'; take another prefix"
    ):
        register_smp_encoders("")
    with pytest.raises(KeyError, match="Wrong pretrained weights `imagenet`"):
        smp.Unet("skipway-resnet18")
    monkeypatch.setitem(sys.modules, "segmentation_models_pytorch.encoders", None)
    with pytest.raises(ConfigError, match=re.escape("run pip install 'skipway[backbones]'")):
        register_smp_encoders()


def test_the_code_of_the_documentation_runs(tmp_path, monkeypatch):
    page = (Path(__file__).parents[3] / "docs" / "backbones.md").read_text(encoding="utf-8")
    section = page[page.index("## Weights and decoders") :]
    blocks = re.findall(r"^```python\n(.*?)^```$", section, re.DOTALL | re.MULTILINE)
    assert len(blocks) == 4
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for block in blocks:
        exec(block, names)
    assert names["logits"].shape == (2, 10) and names["masks"].shape == (2, 2, 64, 64)
    downloads = re.findall(r"^```python download\n(.*?)^```$", section, re.DOTALL | re.MULTILINE)
    for block in downloads:
        compile(block, "docs/backbones.md", "exec")
