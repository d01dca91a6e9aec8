"""Options of Res2Net, ResNeSt, DPN and RDNet: each reaches every layer, or fails with one line."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from torch import nn

from core import nd
from core.backbones import create_backbone
from core.compress.folding import deploy
from core.errors import ConfigError
from core.residual import Residual, list_rules
from core.residual.attention import list_attention
from core.residual.blocks import BlockSpec, create_block

TINY = {
    "res2net50_26w_4s": {"layers": (2, 1), "widths": (32, 64), "stem_width": 8},
    "resnest14d": {"layers": (2, 1), "widths": (32, 64), "stem_width": 8, "stem_out": 8},
    "dpn68": {
        "layers": (2, 1),
        "widths": (16, 32),
        "growths": (8, 8),
        "inner": 8,
        "cardinality": 4,
        "stem_width": 8,
    },
    "rdnet_tiny": {
        "layers": (2, 1),
        "growths": (8, 16),
        "strides": (1, 2),
        "stem_width": 16,
        "plain_stages": 1,
    },
}
"""Each family with three blocks."""
ADDING = [name for name in TINY if name != "rdnet_tiny"]
every_family = pytest.mark.parametrize("name", TINY)
every_dims = pytest.mark.parametrize("dims", [1, 2, 3])


def small(name, **options):
    torch.manual_seed(0)
    return create_backbone(name, **{**TINY[name], **options})


@every_family
@every_dims
def test_forward_and_gradient(name, dims):
    model = small(name, dims=dims, in_channels=2, num_classes=3, zero_init_last=False)
    x = torch.randn(4, 2, *(32,) * dims)
    model(x).square().sum().backward()
    assert not {key for key, p in model.named_parameters() if p.grad is None or not p.grad.any()}


@every_family
@every_dims
@pytest.mark.parametrize("norm", ["batch", "instance", "group", "layer", "none"])
@pytest.mark.parametrize("act", ["relu", "silu", "prelu"])
def test_norm_and_activation_reach_every_layer(name, dims, norm, act):
    """Where one position is normalised (split attention, RDNet's head) ``layer`` stands for two of the norms."""
    options = {"dims": dims, "attention": "none"}
    asked, usual = (
        small(name, **options, **o) for o in ({"norm": norm, "act": act}, {"norm": "batch", "act": "relu"})
    )
    kinds, before = Counter(map(type, asked.modules())), Counter(map(type, usual.modules()))
    norms = {type(nd.norm(n, dims, 8)) for n in (norm, "layer" if norm in ("instance", "group") else norm)}
    if norm != "none":
        assert sum(kinds[kind] for kind in norms) == before[type(nd.norm("batch", dims, 8))]
    if norm != "batch":
        assert not any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in asked.modules())
    assert kinds[type(nd.act(act))] == before[nn.ReLU]
    assert act == "relu" or not kinds[nn.ReLU]
    assert asked(torch.randn(2, 3, *(64 if dims < 3 else 32,) * dims)).isfinite().all()


@every_family
@pytest.mark.parametrize(("norm", "kind"), [("batch", nn.BatchNorm2d), ("layer", nn.LayerNorm)])
def test_epsilon_of_the_norms(name, norm, kind):
    asked = [m.eps for m in small(name, norm=norm, norm_eps=0.25).modules() if isinstance(m, kind)]
    assert len(asked) >= 6 and asked.count(0.25) == len(asked)
    usual = {m.eps for m in small(name, norm=norm).modules() if isinstance(m, kind)}
    assert usual == {{"dpn68": 1e-3, "rdnet_tiny": 1e-6}.get(name, 1e-5)}


@pytest.mark.parametrize("name", ADDING)
@pytest.mark.parametrize("rule", list_rules())
def test_every_rule_trains(name, rule):
    model = small(name, num_classes=3, rule=rule, drop_path=0.1)
    blocks = [m for m in model.modules() if isinstance(m, Residual)]
    assert len(blocks) == 3 and len({type(block.rule) for block in blocks}) == 1
    x, target = torch.randn(4, 3, 32, 32), torch.tensor([0, 1, 2, 0])
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-2)
    touched = set()
    for _ in range(3):  # a scale that starts at 0 holds the branch's gradients back for one step
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), target).backward()
        optimizer.step()
        touched |= {key for key, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    assert not {key for key, _ in model.named_parameters() if "rule" not in key} - touched


@pytest.mark.parametrize("name", ADDING)
@pytest.mark.parametrize("attention", list_attention())
def test_attention_reaches_every_block(name, attention):
    model = small(name, attention=attention)
    slots = [m.se for m in model.modules() if isinstance(m, Residual) and hasattr(m, "se")]
    assert len(slots) == 3 and all((type(slot) is nn.Identity) == (attention == "none") for slot in slots)
    assert model(torch.randn(2, 3, 32, 32)).shape == (2, model.num_features)


@pytest.mark.parametrize("attention", list_attention())
def test_attention_of_a_dense_network_begins_behind_the_plain_stages(attention):
    model = small("rdnet_tiny", attention=attention)
    slots = [m.layers.layers[5] for m in model.modules() if hasattr(m, "gamma")]
    assert [type(slot) is nn.Identity for slot in slots] == [True, True, attention == "none"]
    assert model(torch.randn(2, 3, 32, 32)).shape == (2, model.num_features)


@every_family
def test_drop_path_and_dropout(name):
    """The last block has the rate asked for; the mask changes what training gives, not what evaluation does."""
    model = small(name, drop_path=0.5, zero_init_last=False, norm="layer", **_scale(name))
    rates = [
        m.drop_path.rate
        for m in model.modules()
        if isinstance(getattr(m, "drop_path", None), nn.Module) and hasattr(m.drop_path, "rate")
    ]
    assert rates == [0.25, 0.5]
    x = torch.randn(8, 3, 32, 32)
    assert not torch.equal(model(x), model(x))
    assert torch.equal(model.eval()(x), model(x))


def _scale(name):
    return {"layer_scale": 1.0} if name == "rdnet_tiny" else {}


def test_dropout_of_dense_blocks():
    model = small("rdnet_tiny", dropout=0.5, layer_scale=1.0)
    x = torch.randn(2, 3, 32, 32)
    assert not torch.equal(model(x), model(x))
    assert torch.equal(model.eval()(x), model(x))


@every_family
@pytest.mark.parametrize("norm", ["batch", "none"])
def test_samples_are_independent(name, norm):
    model = small(name, norm=norm, zero_init_last=False, **_scale(name)).eval()
    x = torch.randn(3, 3, 32, 32)
    torch.testing.assert_close(model(x), torch.cat([model(sample[None]) for sample in x]))


def test_one_part_is_a_bottleneck():
    for stride, channels in ((1, 64), (2, 128)):
        spec = BlockSpec(64, channels, stride)
        ours, plain = create_block("res2net", spec, scale=1, base_width=64), create_block("bottleneck", spec)
        names = {key: key.replace("convs.0", "conv2").replace("bns.0", "bn2") for key in ours.state_dict()}
        plain.load_state_dict({names[key]: value for key, value in ours.state_dict().items()})
        x = torch.randn(2, 64, 9, 8)
        assert torch.equal(ours(x), plain(x))


@pytest.mark.parametrize(
    ("name", "left"), [("res2net50_26w_4s", 0), ("resnest14d", 0), ("dpn68", 6), ("rdnet_tiny", 2)]
)
def test_deployed(name, left):
    """Norms that follow a convolution alone are folded; those of concatenations and of pooled features stay."""
    model = small(name, norm="batch", zero_init_last=False, **_scale(name))
    x = torch.randn(4, 3, 32, 32)
    for _ in range(2):
        model(x)
    merged = deploy(model.eval())
    assert sum(isinstance(m, nn.BatchNorm2d) for m in merged.modules()) == left
    expected = model(x)
    torch.testing.assert_close(merged(x), expected, rtol=0, atol=1e-5 * expected.abs().max().item())


def test_beginnings():
    """With ``zero_init_last`` a dual path block adds nothing but still widens; a dense block follows its scale."""
    block = small("dpn68").block("conv2_2").eval()
    path, dense = torch.randn(1, 16, 4, 4), torch.randn(1, 24, 4, 4)
    added, kept, grown = block([path, dense])
    assert torch.equal(added, path) and kept is dense and grown.any()
    for scale, moves in ((1.0, True), (0.0, False)):
        block = small("rdnet_tiny", layer_scale=scale).dense_stages[0][0][0]
        assert bool(block(torch.randn(1, 16, 4, 4))[:, 16:].any()) == moves


@pytest.mark.parametrize(
    ("name", "chain"),
    [
        ("resnest14d", {"conv1", "conv2.conv", "conv3"}),
        ("dpn68", {"c1x1_a.conv", "c3x3_b.conv", "c1x1_c.conv"}),
    ],
)
def test_fixup_scales_the_convolutions_of_the_branch_alone(name, chain):
    fixed, usual = (
        small(name, norm="bias", rule="fixup", init=init, num_classes=2, zero_init_last=False)
        for init in ("fixup", "kaiming")
    )
    before = usual.state_dict()
    changed = {key for key, value in fixed.state_dict().items() if not torch.equal(value, before[key])}
    owners = [key for key, m in fixed.named_modules() if isinstance(m, Residual)]
    head = {key for key in before if key.startswith(("fc.", "classifier."))}
    assert changed - head == {f"{owner}.{conv}.weight" for owner in owners for conv in chain}


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (
            "rdnet_tiny",
            {"rule": "scaled"},
            "dense blocks concatenate and have no residual rule: leave it 'add'",
        ),
        ("rdnet_tiny", {"rule_options": {"scale": 2}}, "dense blocks concatenate and have no residual rule"),
        (
            "rdnet_tiny",
            {"strides": (2, 2)},
            "no transition is before the first stage: its stride is 1, not 2",
        ),
        ("rdnet_tiny", {"growths": (8,)}, r"growths \(8,\) has fewer entries than layers \(2, 1\)"),
        ("rdnet_tiny", {"kernel": 4}, "dense block: kernel must be odd, not 4"),
        ("rdnet_tiny", {"expansion": 0.1}, "dense block: expansion 0.1 of 16 channels must give 8 or more"),
        ("rdnet_tiny", {"compression": 0.1}, "compression 0.1 of 32 channels must leave 8 or more"),
        ("dpn68", {"cardinality": 3}, "dual path: cardinality 3 must divide the 8 inner channels"),
        ("dpn68", {"layers": (2, 0)}, r"layers must be 1 or more blocks for each stage, not \(2, 0\)"),
        ("dpn68", {"growths": (8,)}, r"growths \(8,\) has fewer entries than layers \(2, 1\)"),
        (
            "res2net50_26w_4s",
            {"block_options": {"scale": 0}},
            "scale of a Res2Net block must be 1 or more, not 0",
        ),
        ("resnest14d", {"block_options": {"radix": 3}}, "must divide 8 input channels"),
    ],
)
def test_a_wrong_option_is_one_line(name, options, message):
    with pytest.raises(ConfigError, match=message):
        small(name, **options)
