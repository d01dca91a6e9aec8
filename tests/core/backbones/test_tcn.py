"""Temporal convolutional networks: nothing reads the future, and the weights have lengths and directions."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils.parametrizations import weight_norm

from core.backbones import create_backbone
from core.compress.folding import deployed
from core.errors import ConfigError
from core.residual import Residual, list_rules
from core.residual.attention import list_attention
from core.residual.blocks import Block, BlockSpec, create_block
from core.residual.blocks.tcn import CausalConv, ChannelDropout

CAUSAL_NORMS = ["none", "batch", "layer"]


def small(**options):
    torch.manual_seed(0)
    usual = {"in_channels": 3, "widths": (8, 8, 6), "kernel": 3, "dropout": 0.0, "zero_init_last": False}
    return create_backbone("tcn", dims=1, **{**usual, **options})


def convs(model):
    return [m for m in model.modules() if isinstance(m, CausalConv)]


class Reference(nn.Module):
    """Level i of the paper's network with torch's weight normalisation."""

    def __init__(self, before, width, kernel, dilation):
        super().__init__()
        self.reach = (kernel - 1) * dilation
        self.conv1 = weight_norm(nn.Conv1d(before, width, kernel, dilation=dilation))
        self.conv2 = weight_norm(nn.Conv1d(width, width, kernel, dilation=dilation))
        self.down = nn.Conv1d(before, width, 1) if before != width else nn.Identity()

    def forward(self, x):
        y = self.conv1(functional.pad(x, (self.reach, 0))).relu()
        y = self.conv2(functional.pad(y, (self.reach, 0))).relu()
        return (y + self.down(x)).relu()


@pytest.mark.parametrize("kernel", [2, 3, 7])
def test_the_papers_network(kernel):
    ours, widths = small(kernel=kernel), (3, 8, 8, 6)
    theirs = nn.Sequential(*(Reference(widths[i], widths[i + 1], kernel, 2**i) for i in range(3)))
    for level, reference in zip(ours.levels, theirs, strict=True):
        names = {
            "conv1.bias": "conv1.conv.bias",
            "conv1.parametrizations.weight.original0": "conv1.length",
            "conv1.parametrizations.weight.original1": "conv1.conv.weight",
            "down.weight": "downsample.0.weight",
            "down.bias": "downsample.0.bias",
        }
        names |= {key.replace("1.", "2.", 1): value.replace("1.", "2.", 1) for key, value in names.items()}
        state = reference.state_dict()
        state["conv1.parametrizations.weight.original0"] += (
            0.5  # lengths that are not those of the directions
        )
        level[0].load_state_dict({names[key]: value for key, value in state.items()})
        reference.load_state_dict(state)
    x = torch.randn(2, 3, 40)
    expected, features = x, ours.forward_features(x)
    for feature, level in zip(features, theirs, strict=True):
        expected = level(expected)
        torch.testing.assert_close(feature, expected)
    ours.zero_grad()
    features[-1].square().sum().backward()
    expected.square().sum().backward()
    torch.testing.assert_close(
        ours.levels[0][0].conv1.conv.weight.grad, theirs[0].conv1.parametrizations.weight.original1.grad
    )
    torch.testing.assert_close(
        ours.levels[0][0].conv1.length.grad, theirs[0].conv1.parametrizations.weight.original0.grad
    )


def test_by_hand():
    """x = 1, 2, 3 through kernels (1, 1) twice with dilation 2: 1, 2, 1+3, then 1, 2, 1+4; the sum adds x."""
    block = create_block("tcn", BlockSpec(1, 1, dims=1, norm="none", dilation=2), kernel=2, weight_norm=False)
    for conv in convs(block):
        nn.init.ones_(conv.conv.weight)
        nn.init.zeros_(conv.conv.bias)
    assert block(torch.tensor([[[1.0, 2.0, 3.0]]])).tolist() == [[[2.0, 4.0, 8.0]]]


def test_parameters_of_sequential_mnist():
    """Table 2 of the paper's appendix says 70K."""
    block = 25 * 25 * 7 + 2 * 25
    expected = (25 * 7 + 2 * 25) + block + (25 + 25) + 7 * 2 * block + (250 + 10)
    model = create_backbone("tcn", dims=1, in_channels=1, num_classes=10)
    assert sum(p.numel() for p in model.parameters()) == expected == 66_910


def derivative(model, length, time):
    x = torch.randn(1, 3, length, generator=torch.Generator().manual_seed(1)).requires_grad_()
    (gradient,) = torch.autograd.grad(model.forward_features(x)[-1][..., time].sum(), x)
    return gradient.abs().sum((0, 1))


@pytest.mark.parametrize("norm", CAUSAL_NORMS)
@pytest.mark.parametrize("rule", list_rules())
def test_nothing_reads_the_future(rule, norm):
    seen = derivative(small(rule=rule, norm=norm, act="silu").eval(), 30, 14)
    assert seen[14] > 0 and not seen[15:].any()


@pytest.mark.parametrize(
    ("kernel", "levels", "base"), [(2, 4, 2), (3, 3, 2), (7, 2, 2), (3, 3, 3), (1, 3, 2)]
)
def test_receptive_field(kernel, levels, base):
    model = small(kernel=kernel, widths=(4,) * levels, dilation_base=base, act="silu")
    field = 1 + 2 * (kernel - 1) * sum(base**i for i in range(levels))
    assert base != 2 or field == 1 + 2 * (kernel - 1) * (2**levels - 1)
    assert model.spec.receptive_field() == field
    (seen,) = derivative(model, field + 10, field + 4).nonzero(as_tuple=True)
    assert (seen.min(), seen.max()) == (5, field + 4)


def test_without_causality_both_sides_are_read():
    model = small(causal=False, act="silu")
    (seen,) = derivative(model, 61, 30).nonzero(as_tuple=True)
    assert (seen.min(), seen.max()) == (30 - 14, 30 + 14)
    even = small(causal=False, kernel=4)
    assert even.forward_features(torch.randn(2, 3, 20))[-1].shape == (2, 6, 20)


def test_the_head_reads_the_last_time_or_the_mean():
    x = torch.randn(2, 3, 20)
    for causal in (True, False):
        model = small(causal=causal)
        last = model.forward_features(x)[-1]
        assert torch.equal(model(x), last[..., -1] if causal else last.mean(-1))
        assert model.num_features == 6 and small(num_classes=4)(x).shape == (2, 4)


def test_a_causal_network_runs_on_a_growing_series():
    model, x = small().eval(), torch.randn(1, 3, 30)
    whole = model.forward_features(x)[-1]
    torch.testing.assert_close(model.forward_features(x[..., :17])[-1], whole[..., :17])


def kernels(model):
    return [conv.kernel().detach().clone() for conv in convs(model)]


def test_schemes_of_initialisation_set_the_kernels_in_use():
    """With torch's parametrisation they would write to a copy and change nothing."""
    for kernel in kernels(small(widths=(64, 64), init="kaiming", kernel=7)):
        assert kernel.std().item() == pytest.approx((2 / (64 * 7)) ** 0.5, rel=0.1)
    for kernel in kernels(small(init="orthonormal")):
        rows = kernel.flatten(1)
        torch.testing.assert_close(rows @ rows.T, torch.eye(len(rows)), rtol=0, atol=1e-5)
    plain = kernels(small())
    fixup = kernels(small(init="fixup"))
    for ours, usual in zip(fixup[::2], plain[::2], strict=True):
        torch.testing.assert_close(ours, usual * 3**-0.5)
    assert not any(kernel.any() for kernel in fixup[1::2])


@pytest.mark.parametrize("norm", CAUSAL_NORMS)
@pytest.mark.parametrize("normalised", [True, False])
def test_a_block_that_begins_as_its_shortcut_is_trained(norm, normalised):
    """The ReLU after the last convolution has no gradient at 0, so that the update begins just above."""
    model = small(norm=norm, weight_norm=normalised, zero_init_last=True, widths=(3, 3))
    x = torch.randn(4, 3, 20)
    torch.testing.assert_close(model.forward_features(x)[-1], x.relu(), rtol=0, atol=1e-5)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    touched = set()
    for _ in range(3):
        optimizer.zero_grad()
        feature = model.forward_features(x)[-1]
        (feature * torch.randn(feature.shape)).sum().backward()
        optimizer.step()
        touched |= {key for key, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    assert touched == {key for key, _ in model.named_parameters()}


def test_zero_is_left_to_rules_that_begin_at_the_identity():
    for rule, begins in (("add", True), ("skipinit", False)):
        block = small(rule=rule, zero_init_last=True).levels[1][0]
        assert (not block.conv2.kernel().any()) == begins


@pytest.mark.parametrize("norm", [*CAUSAL_NORMS, "group", "instance"])
def test_norms_take_the_place_of_weight_normalisation(norm):
    model = small(norm=norm, causal=norm not in ("group", "instance"), act="prelu")
    assert all((conv.length is not None) == (norm == "none") for conv in convs(model))
    assert all((conv.conv.bias is not None) == (norm == "none") for conv in convs(model))
    assert all(conv.length is None for conv in convs(small(norm=norm, causal=False, weight_norm=False)))
    blocks = [m for m in model.modules() if isinstance(m, Residual)]
    assert len({type(block.bn1) for block in blocks} | {type(block.bn2) for block in blocks}) == 1
    assert not any(isinstance(m, nn.ReLU) for m in model.modules())
    assert model(torch.randn(4, 3, 20)).isfinite().all()


def test_attention_reaches_every_block():
    for name in list_attention():
        model = small(attention=name, causal=False)
        slots = [m.se for m in model.modules() if isinstance(m, Block)]
        assert len(slots) == 3 and all((type(slot) is nn.Identity) == (name == "none") for slot in slots)
        assert model(torch.randn(2, 3, 20)).shape == (2, 6)


def test_dropout_is_of_whole_channels():
    torch.manual_seed(0)
    y = ChannelDropout(0.25)(torch.ones(50, 40, 5))
    assert torch.equal(y, y[..., :1].expand_as(y)), "a channel is kept or dropped as a whole"
    assert set(y.unique().tolist()) == {0.0, torch.tensor(1 / 0.75).item()}
    assert (y == 0).float().mean().item() == pytest.approx(0.25, abs=0.03)
    model, x = small(dropout=0.5), torch.randn(2, 3, 20)
    assert sum(isinstance(m, ChannelDropout) for m in model.modules()) == 6
    assert not torch.equal(model(x), model(x))
    assert torch.equal(model.eval()(x), model(x))


@pytest.mark.parametrize("norm", ["none", "batch"])
def test_deployment_leaves_plain_convolutions(norm):
    model, x = small(norm=norm, num_classes=4), torch.randn(3, 3, 25)
    model(x)  # statistics
    plain, done = deployed(model.eval())
    assert (done.merged, done.folded) == ((6, 0) if norm == "none" else (0, 8))
    assert not any(conv.can_merge() for conv in convs(plain))
    assert all("length" not in key for key, _ in plain.named_parameters())
    torch.testing.assert_close(plain(x), model(x), rtol=1e-5, atol=1e-6)


def test_copies_and_export():
    model, x = small(num_classes=4).eval(), torch.randn(2, 3, 25)
    expected = model(x)
    assert torch.equal(pickle.loads(pickle.dumps(model))(x), expected)
    assert torch.equal(copy.deepcopy(model)(x), expected)
    torch.testing.assert_close(torch.export.export(model, (x,), strict=False).module()(x), expected)


@pytest.mark.parametrize("rule", list_rules())
def test_every_rule_trains(rule):
    model = small(num_classes=3, rule=rule, zero_init_last=True)
    x, target = torch.randn(4, 3, 20), torch.tensor([0, 1, 2, 0])
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-2)
    touched = set()
    for _ in range(
        12
    ):  # a scale that starts at 0 holds the branch's gradients back, a dropped update does too
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), target).backward()
        optimizer.step()
        touched |= {key for key, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    assert not {key for key, _ in model.named_parameters() if "rule" not in key} - touched


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"widths": ()}, r"widths must be 1 or more channels for each level, not \(\)"),
        ({"kernel": 0}, "kernel and dilation_base must be 1 or more, not 0 and 2"),
        ({"dilation_base": 0}, "kernel and dilation_base must be 1 or more, not 3 and 0"),
        ({"norm": "group"}, "norm 'group' of a causal block reads later times; take none, batch or layer"),
        ({"attention": "se"}, "attention 'se' of a causal block reads later times; set causal=False"),
    ],
)
def test_a_wrong_option_is_one_line(options, message):
    with pytest.raises(ConfigError, match=message):
        small(**options)


def test_other_dimensions_are_one_line():
    with pytest.raises(ConfigError, match="this backbone exists for dims=1 alone, not 2"):
        create_backbone("tcn")
    with pytest.raises(ConfigError, match="TCN blocks exist for dims=1 alone, not 2"):
        create_block("tcn", BlockSpec(4, 4))
    with pytest.raises(ConfigError, match="kernel of a TCN block must be 1 or more, not 0"):
        create_block("tcn", BlockSpec(4, 4, dims=1), kernel=0)
