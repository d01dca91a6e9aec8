"""Every registered backbone is tested by being registered; on the meta device even the largest costs nothing."""

from __future__ import annotations

import copy
import pickle
from collections import Counter
from functools import cache

import pytest
import torch
from torch import nn

from core import nd
from core.backbones import BACKBONES, create_backbone, create_features, list_backbones
from core.backbones.resnet import ResNet
from core.errors import ConfigError
from core.residual import Residual, list_rules
from core.residual.attention import list_attention
from core.residual.blocks import Block

LONG = {"resnet1202_cifar", "fixup_resnet1202_cifar", "preact_resnet1001", "resnetrs350", "resnetrs420"}
"""A thousand layers take seconds to build, and differ from their family's others in nothing but their number."""
FIRST = {
    (BACKBONES[name].model, getattr(BACKBONES[name].spec, "block", "")): name
    for name in list_backbones()[::-1]
}
"""A backbone of each family and block; the others differ in numbers, which do not depend on the dimension."""
EVERY = [
    (name, dims)
    for name in list_backbones()
    for dims in BACKBONES[name].spec.allowed_dims
    if name not in LONG and (dims == BACKBONES[name].spec.allowed_dims[0] or name in FIRST.values())
]
SIZE = 64
SMALL = {"layers": (1, 2), "widths": (16, 32), "strides": (1, 2), "dilations": (1, 1)}
"""A ResNet of three blocks."""


def on_meta(name, **options):
    with torch.device("meta"):
        return create_backbone(name, **options).eval()


def small(name="resnet18", **options):
    torch.manual_seed(0)
    return create_backbone(name, **{**SMALL, "stem_width": 8, "stem_out": 8, **options})


@pytest.mark.parametrize(("name", "dims"), EVERY)
def test_a_backbone_is_what_its_data_says(name, dims):
    """Features, stem, head, blocks that know their place: of one network, since building it is what takes time."""
    model = on_meta(name, dims=dims, in_channels=2, num_classes=5, drop_path=0.25)
    x = torch.empty(2, 2, *(SIZE,) * dims, device="meta")
    features = model.forward_features(x, stem=True)
    infos = [info for info in (model.stem_info, *model.feature_info) if info is not None]
    assert len(features) == len(infos)
    for feature, info in zip(features, infos, strict=True):
        assert feature.shape == (2, info.channels, *(SIZE // info.reduction,) * dims)
        assert model.get_submodule(info.module) is not None
    assert [f.shape for f in model.forward_features(x)] == [
        f.shape for f in features[-len(model.feature_info) :]
    ]
    assert model(x).shape == (2, 5)

    blocks = [module for module in model.modules() if isinstance(module, Residual)]
    assert [block.rule.spec.index for block in blocks] == list(range(1, len(blocks) + 1))
    assert {block.rule.spec.depth for block in blocks} <= {len(blocks)}
    rates = [getattr(block.drop_path, "rate", 0.0) for block in blocks]
    assert rates == sorted(rates) and (len(blocks) < 2 or rates[-1] == 0.25)


@pytest.mark.parametrize("name", [name for name in list_backbones() if name not in LONG])
def test_without_classes_a_backbone_gives_pooled_features(name):
    dims = BACKBONES[name].spec.allowed_dims[0]
    model = on_meta(name, dims=dims)
    pooled = model(torch.empty(2, 3, *(SIZE,) * dims, device="meta"))
    assert pooled.shape == (2, model.num_features) == (2, model.feature_info[-1].channels)


@cache
def kinds_of_layers(name, dims, norm, act):
    layers = {"layers": (1, 2), "strides": (1, 2), "dilations": (1, 1)}
    return Counter(map(type, on_meta(name, dims=dims, norm=norm, act=act, **layers).modules()))


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("norm", ["batch", "instance", "group", "layer", "none"])
@pytest.mark.parametrize("act", ["relu", "leaky_relu", "gelu", "prelu"])
@pytest.mark.parametrize(
    "name", ["resnet18", "resnet50d", "preact_resnet164", "wrn16_8", "pyramidnet110_a48"]
)
def test_norm_and_activation_reach_every_layer(name, dims, norm, act):
    """MONAI's ResNet loses both behind the stem."""
    kinds, before = kinds_of_layers(name, dims, norm, act), kinds_of_layers(name, dims, "batch", "relu")
    norm_type, act_type = type(nd.norm(norm, dims, 32)), type(nd.act(act))
    if norm != "none":
        assert kinds[norm_type] == before[type(nd.norm("batch", dims, 32))]
    assert kinds[act_type] == before[nn.ReLU]
    if norm != "batch":
        assert not any(issubclass(kind, nn.modules.batchnorm._BatchNorm) for kind in kinds)
    if act != "relu":
        assert not kinds[nn.ReLU]


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("rule", list_rules())
@pytest.mark.parametrize("name", ["resnet18", "preact_resnet164", "wrn16_8", "pyramidnet110_a48"])
def test_every_rule_trains_in_every_dimension(name, dims, rule):
    options = {"layers": (1, 2), "strides": (1, 2), "dilations": (1, 1), "rule": rule}
    widths = {"growth": 24} if name.startswith("pyramid") else {"widths": (16, 32)}
    torch.manual_seed(0)
    model = create_backbone(name, dims=dims, in_channels=2, num_classes=3, stem_width=8, **widths, **options)
    x = torch.randn(3, 2, *(12,) * dims)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-2)
    reached = set()
    for _ in range(
        8
    ):  # a scale that starts at 0 holds gradients back for one step, a dropped update for some
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), torch.tensor([0, 1, 2])).backward()
        reached |= {key for key, p in model.named_parameters() if p.grad is not None and p.grad.any()}
        optimizer.step()
    unused = {key for key, _ in model.named_parameters() if "rule" not in key} - reached
    assert not unused, f"no gradient reaches {sorted(unused)}"
    rules = [m.rule for m in model.modules() if isinstance(m, Residual)]
    assert len(rules) == 3 and len({type(r) for r in rules}) == 1


@pytest.mark.parametrize("rule", list_rules())
def test_copies_and_export(rule):
    model = small(num_classes=3, rule=rule, norm="group").eval()
    x = torch.randn(2, 3, 33, 40)
    expected = model(x)
    assert torch.equal(pickle.loads(pickle.dumps(model))(x), expected)
    assert torch.equal(copy.deepcopy(model)(x), expected)
    program = torch.export.export(model, (x,), strict=False).module()
    torch.testing.assert_close(program(x), expected)


def test_samples_are_independent():
    model = small(num_classes=3).eval().double()
    x = torch.randn(3, 3, 32, 32, dtype=torch.float64)
    torch.testing.assert_close(model(x), torch.cat([model(sample[None]) for sample in x]))


def test_dilation_keeps_the_resolution():
    x = torch.randn(1, 3, 64, 64)
    model = small(layers=(1, 1, 1), widths=(8, 16, 32), strides=(1, 2, 1), dilations=(1, 1, 2))
    assert [f.reduction for f in model.feature_info] == [4, 8, 8]
    assert model.forward_features(x)[-1].shape == (1, 32, 8, 8)


def test_a_stage_of_one_block_works():
    """timm's schedule of drop path divides by zero here."""
    model = small(layers=(1,), widths=(16,), strides=(1,), dilations=(1,), drop_path=0.2)
    assert model(torch.randn(2, 3, 32, 32)).shape == (2, 16)


def test_attention_reaches_every_block():
    for name in list_attention():
        model = small(attention=name)
        slots = [m.se for m in model.modules() if isinstance(m, Block)]
        assert len(slots) == 3 and all((type(slot) is nn.Identity) == (name == "none") for slot in slots)
        assert model(torch.randn(2, 3, 32, 32)).shape == (2, 32)


def test_head_dropout_only_in_training():
    model = small(num_classes=3, head_dropout=0.9)
    x = torch.randn(2, 3, 32, 32)
    assert not torch.equal(model(x), model(x))
    assert torch.equal(model.eval()(x), model(x))


def test_features_in_the_order_asked_for():
    model = create_features("resnet20_cifar", (-1, 0))
    last, stem = model(torch.randn(1, 3, 32, 32))
    assert (last.shape[1], stem.shape[1]) == (64, 16)
    assert [info.module for info in model.feature_info] == ["layer3", "act1"]


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("resnet81", {}, r"unknown backbone 'resnet81'\. Did you mean 'resnet1\d+'\?"),
        ("resnet18", {"nrm": "batch"}, r"backbone 'resnet18' has no option 'nrm'\. Did you mean 'norm'\?"),
        ("resnet18", {"norm": "bach"}, r"unknown normalisation 'bach'\. Did you mean 'batch'\?"),
        ("resnet18", {"act": "rleu"}, r"unknown activation 'rleu'\. Did you mean 'relu'\?"),
        ("resnet18", {"rule": "ad"}, r"unknown residual rule 'ad'\. Did you mean 'add'\?"),
        ("resnet18", {"block": "basik"}, r"unknown residual block 'basik'\. Did you mean 'basic'\?"),
        ("resnet18", {"stem": "imagnet"}, r"unknown stem 'imagnet'\. Did you mean 'imagenet'\?"),
        ("resnet18", {"dims": 4}, r"dims must be 1 \(signals\), 2 \(images\) or 3 \(volumes\), not 4"),
        ("resnet18", {"in_channels": 0}, "in_channels must be 1 or more, not 0"),
        ("resnet18", {"num_classes": 0}, "num_classes must be 1 or more, or None for features, not 0"),
        ("resnet18", {"drop_path": 1.0}, r"drop_path must be in \[0, 1\), not 1.0"),
        ("resnet18", {"drop_path": "high"}, "backbone 'resnet18': drop_path takes float, not 'high'"),
        ("resnet18", {"widths": (8,)}, r"widths \(8,\) has fewer entries than layers"),
        ("resnet18", {"in_channels": 2.5}, "in_channels must be 1 or more, not 2.5"),
        ("resnet18", {"layers": (1, "a")}, "layers takes entries of type int, not"),
        ("resnet18", {"in_channels": True}, "in_channels must be 1 or more, not True"),
        ("resnet18", {"dropout": 0.3}, "this block has no dropout between its layers"),
        ("pyramidnet110_a48", {"growth": -5}, "growth must be 0 or more, not -5"),
        ("resnet18", {"layers": ()}, "layers must be 1 or more blocks for each stage"),
        (
            "resnet50",
            {"block_options": {"cardinal": 2}},
            "has no option 'cardinal'. Did you mean 'cardinality'",
        ),
        (
            "resnet20_cifar",
            {"widths": (64, 32, 16)},
            "zero-padded shortcut cannot lead from 64 to 32 channels",
        ),
        ("fixup_resnet20_cifar", {"norm": "batch"}, "Fixup blocks have scalar biases in place of norms"),
    ],
)
def test_a_wrong_option_is_one_line(name, options, message):
    with pytest.raises(ConfigError, match=message):
        create_backbone(name, **options)


def test_a_wrong_feature_is_one_line():
    with pytest.raises(ConfigError, match="out_indices: 5 is not one of the 5 features, 0 to 4"):
        create_features("resnet18", (5,))


def test_patterns():
    assert list_backbones("wrn16*") == ["wrn16_8"]
    assert BACKBONES["resnet18"].model is ResNet


def test_first_weights_are_chosen_alike():
    """The table of exceptions in docs/backbones.md."""
    inits = {
        "fixup": "fixup",
        "unireplknet": "trunc_normal",
        "replknet": "default",
        "cspnext": "default",
        "resenc6": "he_leaky",
        "plainconv6": "he_leaky",
    }
    for name in BACKBONES:
        spec = BACKBONES[name].spec
        assert spec.init == inits.get(name.split("_")[0], "kaiming"), name
        assert spec.zero_init_last == (not name.startswith(("unireplknet", "replknet", "cspnext", "tcn"))), (
            name
        )
