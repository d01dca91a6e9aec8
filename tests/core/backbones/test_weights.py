"""Inflated kernels respond as in two dimensions, and weights of timm and of files arrive whole or with one line."""

from __future__ import annotations

import re
import sys

import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.models._manipulate import adapt_input_conv
from torch import nn

from core import nd
from core.backbones import (
    BACKBONES,
    adapt_input,
    create_backbone,
    inflate,
    list_backbones,
    load_timm,
    load_weights,
    read_weights,
)
from core.errors import ConfigError, DataError
from core.residual import list_rules
from core.residual.attention import list_attention

SMALL = {"layers": (1, 2), "widths": (16, 32), "strides": (1, 2), "dilations": (1, 1), "stem_width": 8}
DEPTH = 7
TINY = {
    "resnet18": {"layers": (1, 1, 1, 1)},
    "resnet50d": {"layers": (1, 1)},
    "resnext50_32x4d": {"layers": (1, 1)},
    "seresnet18": {"layers": (1, 1)},
    "mobilenetv2_050": {},
    "dpn68": {"layers": (1, 1)},
    "rdnet_tiny": {"layers": (1, 1), "strides": (1, 2), "growths": (32, 32), "plain_stages": 1},
    "replknet_31b": {"layers": (1, 1), "widths": (16, 32), "kernels": (7, 5), "small_kernel": 3},
    "unireplknet_a": {"layers": (1, 1), "widths": (16, 32)},
    "cspnext_tiny": {"widths": (16, 16, 32, 32, 32)},
    "preact_resnet164": {"layers": (1, 1), "widths": (32, 32)},
    "pyramidnet110_a48": {"layers": (1, 1), "growth": 8},
}
"""A small network of every family."""
KINDS = {
    (preset.model, *(getattr(preset.spec, option, None) for option in ("block", "stem", "shortcut"))): name
    for name, preset in ((name, BACKBONES[name]) for name in list_backbones())
}
"""The last registered backbone of every family and kind of block, stem and shortcut; others differ in numbers."""
BOTH = [name for name in KINDS.values() if {2, 3} <= set(BACKBONES[name].spec.allowed_dims)]


def random_state(model):
    """Trained-looking values in every weight and statistic: initial ones leave branches at zero."""
    generator = torch.Generator().manual_seed(0)
    for value in model.state_dict().values():
        if value.is_floating_point():
            noise = torch.rand(value.shape, generator=generator)
            value.copy_(noise + 0.5 if value.ndim < 2 else (noise - 0.5) * (12 / value[0].numel()) ** 0.5)
    return model.eval()


def close(ours, theirs):
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5 * theirs.abs().max().item())


def conv_pair(kernel, stride, dilation, padding, mode, groups=1):
    torch.manual_seed(0)
    args = (4, 4, kernel, stride, padding, dilation, groups)
    flat, deep = nd.conv(2)(*args), nd.conv(3)(*args)
    deep.load_state_dict(inflate(flat.state_dict(), 3, mode))
    x = torch.randn(2, 4, 14, 13)
    return flat(x)[:, :, None], deep(x[:, :, None].expand(-1, -1, 14, -1, -1))


@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize(("stride", "dilation"), [(1, 1), (2, 1), (1, 2)])
@pytest.mark.parametrize("kernel", [1, 3, 7])
def test_a_centred_kernel_responds_as_in_the_plane_at_every_depth(kernel, stride, dilation, groups):
    flat, deep = conv_pair(kernel, stride, dilation, kernel // 2 * dilation, "center", groups)
    close(deep, flat.expand_as(deep))


def test_even_kernels():
    flat, deep = conv_pair(4, 4, 1, 0, "center")
    close(deep, flat.expand_as(deep))
    flat, deep = conv_pair(4, 1, 1, 2, "center")
    close(deep[:, :, :-1], flat.expand_as(deep)[:, :, :-1])
    assert (deep[:, :, -1] - flat[:, :, 0]).abs().max() > 0.1


@pytest.mark.parametrize("kernel", [3, 4, 5])
def test_a_mean_kernel_responds_as_in_the_plane_inside(kernel):
    edge = kernel // 2
    flat, deep = conv_pair(kernel, 1, 1, edge, "mean")
    close(deep[:, :, edge:-edge], flat.expand_as(deep)[:, :, edge:-edge])
    assert (deep[:, :, 0] - flat[:, :, 0]).abs().max() > 0.1


def test_inflated_values_by_hand():
    kernel = torch.arange(9.0).reshape(1, 1, 3, 3)
    state = {"conv.weight": kernel, "fc.weight": torch.ones(2, 3), "eca.weight": torch.ones(1, 1, 3)}
    centre, mean = inflate(state, 3)["conv.weight"], inflate(state, 3, "mean")["conv.weight"]
    assert torch.equal(centre[0, 0, 1], kernel[0, 0]) and not centre[0, 0, ::2].any()
    assert all(torch.equal(mean[0, 0, depth], kernel[0, 0] / 3) for depth in range(3))
    assert inflate(state, 1)["conv.weight"].tolist() == [[[9.0, 12.0, 15.0]]]
    for dims in (1, 2, 3):
        assert all(inflate(state, dims)[key] is state[key] for key in ("fc.weight", "eca.weight"))


@pytest.mark.parametrize("name", TINY)
def test_whole_networks_respond_as_in_the_plane(name):
    torch.manual_seed(0)
    flat = random_state(create_backbone(name, num_classes=5, **TINY[name]))
    deep = create_backbone(name, num_classes=5, dims=3, **TINY[name]).eval()
    load_weights(deep, inflate(flat.state_dict(), 3))
    x = torch.randn(1, 3, 64, 64)
    volume = x[:, :, None].expand(-1, -1, 4 if name == "rdnet_tiny" else DEPTH, -1, -1)
    if name == "rdnet_tiny":
        volume = volume.repeat(1, 1, 2, 1, 1)
    with torch.no_grad():
        pairs = zip(deep.forward_features(volume, True), flat.forward_features(x, True), strict=True)
        for ours, theirs in pairs:
            assert theirs.std() > 1e-3
            close(ours, theirs[:, :, None].expand_as(ours))
        close(deep(volume), flat(x))


@pytest.mark.parametrize("name", ["res2net50_26w_4s", "resnest14d"])
def test_poolings_over_padding_respond_as_in_the_plane_inside(name):
    options = {"layers": (1, 1), "strides": (1, 2), "widths": (64, 64)}
    flat = random_state(create_backbone(name, **options))
    deep = load_weights(create_backbone(name, dims=3, **options).eval(), inflate(flat.state_dict(), 3))
    x = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        theirs = flat.forward_features(x)[-1]
        ours = deep.forward_features(x[:, :, None].repeat(1, 1, 32, 1, 1))[-1]
    close(ours[:, :, 1:], theirs[:, :, None].expand_as(ours)[:, :, 1:])
    assert (ours[:, :, 0] - theirs).abs().max() > 1e-3 * theirs.abs().max()


@pytest.mark.parametrize("name", BOTH)
def test_every_backbone_can_be_inflated(name):
    layers = getattr(BACKBONES[name].spec, "layers", None)
    short = {"layers": (1,) * len(layers)} if layers else {}
    with torch.device("meta"):
        state = create_backbone(name, num_classes=3, **short).state_dict()
        create_backbone(name, num_classes=3, dims=3, **short).load_state_dict(inflate(state, 3, "mean"))
        load_weights(create_backbone(name, num_classes=3, dims=1, **short), inflate(state, 1))


@pytest.mark.parametrize("rule", list_rules())
def test_every_rule_can_be_inflated(rule):
    state = create_backbone("resnet18", rule=rule, **SMALL).state_dict()
    for dims in (1, 3):
        load_weights(create_backbone("resnet18", rule=rule, dims=dims, **SMALL), inflate(state, dims))


@pytest.mark.parametrize("attention", list_attention())
def test_attention_can_be_inflated_unless_it_has_a_layer_an_axis(attention):
    state = create_backbone("resnet18", attention=attention, **SMALL).state_dict()
    for dims in (1, 3):
        if any("conv_h" in key for key in state):
            with pytest.raises(
                ConfigError, match=r"layer1\.0\.\S+conv_h\.weight belongs to one axis of images"
            ):
                inflate(state, dims)
        else:
            model = create_backbone("resnet18", attention=attention, dims=dims, **SMALL)
            load_weights(model, inflate(state, dims))


@pytest.mark.parametrize(("kernel", "dilation"), [(1, 1), (3, 1), (3, 2), (7, 1)])
def test_a_flattened_kernel_responds_to_what_is_constant_along_the_height(kernel, dilation):
    torch.manual_seed(0)
    reach = kernel // 2 * dilation
    args = (3, 5, kernel, 1, reach, dilation)
    flat, line = nd.conv(2)(*args), nd.conv(1)(*args)
    line.load_state_dict(inflate(flat.state_dict(), 1))
    x = torch.randn(2, 3, 20)
    rows = flat(x[:, :, None].expand(-1, -1, 20, -1))[:, :, reach : 20 - reach]
    close(line(x)[:, :, None].expand_as(rows), rows)


def test_a_network_for_signals_responds_as_in_the_plane():
    flat = random_state(create_backbone("resnet18", **SMALL))
    line = load_weights(create_backbone("resnet18", dims=1, **SMALL).eval(), inflate(flat.state_dict(), 1))
    x = torch.randn(1, 3, 128)
    with torch.no_grad():
        rows = flat.forward_features(x[:, :, None].expand(-1, -1, 128, -1))
        signals = line.forward_features(x)
    # Receptive fields of 43 and 91 pixels reach 22 and 46 beyond a row: 6 and 6 rows of 4 and 8 pixels.
    for row, signal in zip(rows, signals, strict=True):
        assert row.std() > 1e-3
        inside = row[:, :, 6 : row.shape[2] - 6]
        assert inside.shape[2] >= 4
        close(signal[:, :, None].expand_as(inside), inside)


def test_inflation_has_one_line_for_every_mistake():
    square = {"a.weight": torch.ones(1, 1, 3, 3)}
    with pytest.raises(ConfigError, match="dims must be 1"):
        inflate(square, 4)
    with pytest.raises(ConfigError, match=r"unknown mode of inflation 'centre'. Did you mean 'center'"):
        inflate(square, 3, "centre")
    with pytest.raises(ConfigError, match=r"a.weight is \(1, 1, 1, 3\): only square kernels have a depth"):
        inflate({"a.weight": torch.ones(1, 1, 1, 3)}, 3)
    with pytest.raises(
        ConfigError, match=r"takes the weights of a 2-D network, but a.weight is \(1, 1, 1, 1, 3\)"
    ):
        inflate({"a.weight": torch.ones(1, 1, 1, 1, 3)}, 3)


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 6, 7])
def test_first_layers_are_adapted_as_in_timm(channels):
    torch.manual_seed(0)
    state = {
        "bias": torch.ones(3),
        "stem.weight": torch.randn(8, 3, 7, 7),
        "next.weight": torch.randn(8, 3, 3, 3),
    }
    adapted = adapt_input(state, channels)
    torch.testing.assert_close(adapted["stem.weight"], adapt_input_conv(channels, state["stem.weight"]))
    assert adapted["next.weight"] is state["next.weight"] and list(adapted) == list(state)
    half = adapt_input({"stem.weight": state["stem.weight"].half()}, channels)["stem.weight"]
    assert torch.equal(half, adapt_input_conv(channels, state["stem.weight"].half()))


@pytest.mark.parametrize("name", KINDS.values())
def test_the_first_weight_reads_the_input(name):
    layers = getattr(BACKBONES[name].spec, "layers", None)
    short = {"layers": (1,) * len(layers)} if layers and name[:3] != "p3d" else {}
    dims = BACKBONES[name].spec.allowed_dims[-1]
    with torch.device("meta"):
        state = adapt_input(create_backbone(name, dims=dims, in_channels=3, **short).state_dict(), 5)
        if name == "tcn":  # whose shortcut and first convolution both read the input
            state = adapt_input(state, 5, "levels.0.0.conv1.conv.weight")
        create_backbone(name, dims=dims, in_channels=5, **short).load_state_dict(state)


def test_a_wrong_adaption_is_one_line():
    with pytest.raises(ConfigError, match="in_channels must be 1 or more, not 0"):
        adapt_input({"a": torch.ones(1, 3, 3, 3)}, 0)
    with pytest.raises(ConfigError, match="the weights have no convolution 'b' to change"):
        adapt_input({"a": torch.ones(1, 3, 3, 3)}, 1, "b")


@pytest.fixture
def offline(monkeypatch):
    """timm with random weights in place of those it downloads, and the networks that it gave."""
    given, create = [], timm.create_model

    def pretend(name, pretrained=False, **options):
        assert pretrained
        given.append(random_state(create(name.partition(".")[0], **options)))
        return given[-1]

    monkeypatch.setattr(timm, "create_model", pretend)
    return given


@pytest.mark.parametrize("name", ["resnet18.a1_in1k", "mobilenetv2_050", "cspnext_tiny", "rdnet_tiny"])
def test_timm_weights(offline, name):
    ours = load_timm(name).eval()
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        theirs = offline[0](x)
        assert theirs.std() > 0
        close(ours(x), theirs)


@pytest.mark.parametrize("classes", [None, 7])
@pytest.mark.parametrize(("name", "head"), [("resnet18", "fc"), ("mobilenetv2_050", "classifier")])
def test_another_head_starts_at_random(offline, name, head, classes):
    ours = load_timm(name, num_classes=classes).eval()
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert ours(x).shape == (2, classes or ours.feature_info[-1].channels)
        theirs = offline[0].forward_features(x)
        features = ours.forward_features(x)[-1]
        if name == "mobilenetv2_050":  # timm counts the last convolution to the features
            features = ours.act2(ours.bn2(ours.conv_head(features))) if classes else None
        if features is not None:
            close(features, theirs)
    weights = [key for key, value in ours.state_dict().items() if key.startswith(head)]
    assert weights == ([f"{head}.weight", f"{head}.bias"] if classes else [])


def test_timm_weights_for_other_inputs(offline):
    deep = load_timm("resnet18", dims=3, in_channels=1, num_classes=None).eval()
    x = torch.randn(1, 1, 48, 48)
    with torch.no_grad():
        theirs = offline[0].forward_features(x.expand(-1, 3, -1, -1))
        ours = deep.forward_features(x[:, :, None].expand(-1, -1, 5, -1, -1))[-1]
    close(ours, theirs[:, :, None].expand_as(ours))


def test_what_a_rule_or_an_attention_adds_starts_as_always(offline):
    ours = load_timm("resnet18", rule="skipinit", attention="coord", num_classes=None)
    theirs, mine = offline[0].state_dict(), ours.state_dict()
    assert all(torch.equal(value, theirs[key]) for key, value in mine.items() if key in theirs)
    added = mine.keys() - theirs.keys()
    assert added and all(".rule." in key or ".se." in key for key in added)


def test_timm_has_one_line_for_every_mistake(offline, monkeypatch):
    with pytest.raises(ConfigError, match=r"unknown backbone 'resnet51'. Did you mean 'resnet50'"):
        load_timm("resnet51.a1_in1k")
    with pytest.raises(ConfigError, match=r"timm 1.* has no network 'wrn16_8'"):
        load_timm("wrn16_8")
    with pytest.raises(
        DataError, match=r"timm's resnet18 does not fit ResNet: \d+ weights \(bn1.running_mean, .*unexpected"
    ):
        load_timm("resnet18", norm="group")
    assert len(offline) == 1

    def fail(name, pretrained):
        raise RuntimeError("no route to the hub\nand a traceback")

    monkeypatch.setattr(timm, "create_model", fail)
    with pytest.raises(
        DataError, match=r"^timm's weights 'resnet18' did not arrive \(no route to the hub\); check .*$"
    ):
        load_timm("resnet18")
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ConfigError, match=re.escape("run pip install 'skipway[backbones]'")):
        load_timm("resnet18")


def save_wrapped(state, path):
    wrapped = {"epoch": 3, "state_dict": {f"module.{key}": value for key, value in state.items()}}
    torch.save(wrapped, path)


def save_compiled(state, path):
    torch.save({"model": {f"_orig_mod.module.{key}": value for key, value in state.items()}}, path)


@pytest.mark.parametrize(
    ("file", "save"),
    [
        ("a.pth", torch.save),
        ("b.pth", save_wrapped),
        ("c.pt", save_compiled),
        ("d.safetensors", save_file),
    ],
)
def test_files(tmp_path, file, save):
    model = random_state(create_backbone("resnet18", num_classes=3, **SMALL))
    save(model.state_dict(), tmp_path / file)
    other = create_backbone("resnet18", num_classes=3, **SMALL)
    assert load_weights(other, tmp_path / file) is other
    assert all(torch.equal(value, other.state_dict()[key]) for key, value in model.state_dict().items())
    assert read_weights(str(tmp_path / file)).keys() == model.state_dict().keys()


def test_files_have_one_line_for_every_mistake(tmp_path):
    model = create_backbone("resnet18", num_classes=3, **SMALL)
    state = model.state_dict()
    code, damaged, empty = tmp_path / "code.pth", tmp_path / "a.safetensors", tmp_path / "empty.pth"
    torch.save(model, code)
    damaged.write_bytes(b"nothing")
    empty.write_bytes(b"")
    for source, message in [
        (tmp_path / "none.pth", "none.pth cannot be read: No such file"),
        (tmp_path / "none.safetensors", "none.safetensors cannot be read: No such file"),
        (
            code,
            "code.pth is damaged or holds more than tensors, which could run code; save the state_dict alone",
        ),
        (damaged, "a.safetensors is no file of weights"),
        (empty, "empty.pth is no file of weights"),
        ({}, "the state_dict has no weights by name; save model.state_dict()"),
        ({"epoch": 3}, r"the state_dict: 1 weight \(epoch\) is no tensors"),
        (
            {key: value for key, value in state.items() if key != "fc.bias"} | {"a": state["fc.bias"]},
            r"does not fit ResNet: 1 weight \(fc.bias\) is missing; 1 weight \(a\) is unexpected",
        ),
        ({"a": state["fc.bias"]}, r"\d+ weights \(conv1.weight, bn1.weight, bn1.bias, ...\) are missing"),
        (
            state | {"fc.bias": torch.ones(4)},
            r"does not fit ResNet: 1 weight \(fc.bias \(4,\) for \(3,\)\) is of another shape",
        ),
    ]:
        with pytest.raises(DataError, match=message) as error:
            load_weights(model, source)
        assert "\n" not in str(error.value)


def test_any_module_can_be_loaded():
    layer = nn.Linear(2, 3)
    assert torch.equal(
        load_weights(layer, {"weight": torch.ones(3, 2), "bias": torch.ones(3)}).bias, torch.ones(3)
    )
