"""Rules whose stream is more than the features, in chains: against numbers by hand and independent code."""

from __future__ import annotations

import copy
import pickle
from itertools import pairwise

import pytest
import torch
from branches import Times
from torch import nn
from torch.func import functional_call, stack_module_state, vmap

from core import nd
from core.errors import ConfigError
from core.residual import Residual, ResidualChain, create_rule, list_rules
from core.residual.rules import RULES

STREAM_RULES = ("hyper", "frac", "laurel_pa", "hires", "ladder")
every_dims = pytest.mark.parametrize("dims", [0, 1, 2, 3])


def halving(dims, channels, out_channels):
    """A branch or shortcut that changes the channels, and halves the resolution if there is one."""
    if dims == 0:
        return nd.pointwise(0, channels, out_channels)
    return nd.conv(dims)(channels, out_channels, kernel_size=2, stride=2)


def chain(name, dims, act=nn.ReLU, seed=0, randomise=False, **options):
    """Five blocks of 4, 4, 6, 6, 8 channels; the third and the fifth have a shortcut.

    The layers are the same for every rule; with ``randomise`` the rules' parameters are random.
    """
    torch.manual_seed(seed)
    widths, history, blocks = [4, 4, 4, 6, 6, 8], (), []
    for index, (channels, out_channels) in enumerate(pairwise(widths), 1):
        layers = nd.pointwise if channels == out_channels else halving
        branch = layers(dims, channels, out_channels)
        shortcut = layers(dims, channels, out_channels) if channels != out_channels else None
        history = (channels, *history) if shortcut else history
        with torch.random.fork_rng():
            place = {"channels": out_channels, "index": index, "depth": 5, "dims": dims, "history": history}
            rule = create_rule(name, **place, **options)
        blocks.append(Residual(branch, rule, shortcut, act()))
    if randomise:
        generator = torch.Generator().manual_seed(seed + 1)
        with torch.no_grad():
            for block in blocks:
                for parameter in block.rule.parameters():
                    parameter.normal_(0.5, 0.5, generator=generator)
    return ResidualChain(blocks).eval()


def features(dims, batch=3, seed=0):
    return torch.randn(batch, 4, *(4,) * dims, generator=torch.Generator().manual_seed(seed))


def scalars(name, count, options=None, **shortcuts):
    """A chain of ``x -> 2 x`` blocks on one channel without space."""
    blocks = []
    for index in range(1, count + 1):
        rule = create_rule(name, channels=1, index=index, depth=count, dims=0, **(options or {}))
        blocks.append(Residual(Times(2.0), rule, shortcuts.get(f"at_{index}")))
    return ResidualChain(blocks)


ONE = torch.ones(1, 1)


# --- all of them ---


@pytest.mark.parametrize("name", [name for name in list_rules() if RULES[name].plain_at_init])
@every_dims
def test_new_chain_is_the_plain_chain_bit_for_bit(name, dims):
    x = features(dims)
    plain = chain("add", dims)(x)
    assert plain.abs().max() > 0
    assert torch.equal(chain(name, dims)(x), plain)


@pytest.mark.parametrize(
    ("name", "options"),
    [("hyper", {"streams": n, "dynamic": n != 3}) for n in (1, 2, 3, 4, 5, 8)]
    + [("frac", {"fractions": 1}), ("frac", {"dynamic": False}), ("laurel_pa", {"previous": 1, "rank": 20})],
)
def test_new_chain_is_plain_with_other_options(name, options):
    x = 1e3 * features(1)
    assert torch.equal(chain(name, 1, **options)(x), chain("add", 1)(x))


@pytest.mark.parametrize("name", STREAM_RULES)
@every_dims
def test_gradient_reaches_every_block_of_a_chain(name, dims):
    blocks = chain(name, dims, act=nn.Tanh, randomise=True)
    x = features(dims).requires_grad_()
    blocks(x).square().sum().backward()
    for label, tensor in (("x", x), *blocks.named_parameters()):
        assert torch.isfinite(tensor.grad).all(), label
        assert (tensor.grad != 0).any(), label


@pytest.mark.parametrize("name", STREAM_RULES)
@every_dims
def test_chains_are_copied_exported_and_stacked(name, dims):
    chains = [chain(name, dims, act=nn.Tanh, seed=seed, randomise=True) for seed in (0, 7)]
    x = torch.stack([features(dims, seed=seed) for seed in (0, 7)])
    expected = torch.stack([blocks(member) for blocks, member in zip(chains, x, strict=True)])
    assert torch.equal(pickle.loads(pickle.dumps(chains[0]))(x[0]), expected[0])
    assert torch.equal(copy.deepcopy(chains[0])(x[0]), expected[0])
    program = torch.export.export(chains[0], (x[0],), strict=False).module()
    torch.testing.assert_close(program(x[0]), expected[0])
    parameters, buffers = stack_module_state(chains)

    def run(parameters, buffers, x):
        return functional_call(chains[0], (parameters, buffers), (x,))

    torch.testing.assert_close(vmap(run)(parameters, buffers, x), expected)


@pytest.mark.parametrize("name", STREAM_RULES)
@pytest.mark.parametrize("dims", [1, 2, 3])
def test_chains_in_mixed_precision(name, dims):
    blocks, x = chain(name, dims, act=nn.Tanh, randomise=True), features(dims)
    exact = blocks(x)
    with torch.autocast("cpu", torch.bfloat16):
        # What tanh reads is some 20 large, and bfloat16 rounds to 2^-9 of that.
        torch.testing.assert_close(blocks(x).float(), exact, rtol=0.05, atol=0.15)
    assert copy.deepcopy(blocks).bfloat16()(x.bfloat16()).dtype == torch.bfloat16


@pytest.mark.parametrize("name", STREAM_RULES)
def test_stream_is_a_tensor_or_a_list(name):
    blocks = chain(name, 2)
    stream = blocks[0].rule.open(features(2))
    for block in blocks:
        assert isinstance(stream, (torch.Tensor, list))
        stream = block(stream)
    assert isinstance(stream, (torch.Tensor, list))


# --- hyper-connections and frac-connections ---


def connection_weights(weights, parts):
    """Width and depth weights from features ``(B, n, c, *spatial)``, in float64 and in other words."""
    width = weights.width.double().expand(len(parts), -1, -1)
    depth = weights.depth.double().expand(len(parts), -1)
    if weights.channels is None:
        return width, depth
    pooled = parts.flatten(3).mean(3) if parts.ndim > 3 else parts
    unit = pooled / (pooled.square().mean(2, keepdim=True) + 1e-6).sqrt()
    by_width = torch.einsum("bnc,cm->bnm", unit, weights.width_projection.double())
    by_depth = torch.einsum("bnc,cm->bnm", unit, weights.depth_projection.double())[..., 0]
    return (
        width + weights.width_scale.double() * by_width.tanh(),
        depth + weights.depth_scale.double() * by_depth.tanh(),
    )


@every_dims
@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("streams", [1, 2, 3])
def test_hyper_connections_in_matrix_form(dims, dynamic, streams):
    """H' = B^T f(A_m^T H) + A_r^T H, with H of shape (B, n, C, *spatial)."""
    blocks = chain("hyper", dims, act=nn.Tanh, randomise=True, streams=streams, dynamic=dynamic)
    x = features(dims)
    hidden = torch.stack([x.double()] * streams, dim=1)
    for block in copy.deepcopy(blocks).double():
        if block.downsample is not None:
            read = hidden.mean(1)
            hidden = torch.stack([block.downsample(read)] * streams, dim=1)
        width, depth = connection_weights(block.rule.weights, hidden)
        if block.downsample is None:
            read = torch.einsum("bn,bn...->b...", width[..., 0], hidden)
        hidden = torch.einsum("bnm,bn...->bm...", width[..., 1:], hidden)
        hidden = torch.tanh(hidden + torch.einsum("bn,b...->bn...", depth, block.branch(read)))
    torch.testing.assert_close(blocks(x).double(), hidden.mean(1), rtol=1e-4, atol=1e-5)


@every_dims
@pytest.mark.parametrize("dynamic", [False, True])
def test_frac_connections_in_matrix_form(dims, dynamic):
    blocks = chain("frac", dims, act=nn.Tanh, randomise=True, dynamic=dynamic)
    x = features(dims)
    hidden = x.double()
    for block in copy.deepcopy(blocks).double():
        shortcut = hidden if block.downsample is None else block.downsample(hidden)
        parts = shortcut.reshape(len(x), 2, -1, *shortcut.shape[2:])
        width, depth = connection_weights(block.rule.weights, parts)
        read = torch.einsum("bnm,bn...->bm...", width[..., :2], parts).reshape(shortcut.shape)
        update = block.branch(read if block.downsample is None else hidden).reshape(parts.shape)
        parts = torch.einsum("bnm,bn...->bm...", width[..., 2:], parts)
        parts = parts + torch.einsum("bm,bm...->bm...", depth, update)
        hidden = torch.tanh(parts.reshape(shortcut.shape))
    torch.testing.assert_close(blocks(x).double(), hidden, rtol=1e-4, atol=1e-5)


def test_hyper_connections_by_hand():
    blocks = scalars("hyper", 3, {"dynamic": False})
    # At the start blocks read streams 0, 1, 0.
    assert [block.rule.weights.width[:, 0].tolist() for block in blocks] == [[1, 0], [0, 1], [1, 0]]
    with torch.no_grad():
        for block in blocks:
            block.rule.weights.width.copy_(torch.tensor([[0.25, 1.0, 0.0], [0.75, 0.5, 1.0]]))
            block.rule.weights.depth.copy_(torch.tensor([1.0, 2.0]))
    # (1, 1): reads 1, mixes to (1.5, 1), update 2 -> (3.5, 5)
    # (3.5, 5): reads 4.625, mixes to (6, 5), update 9.25 -> (15.25, 23.5)
    # reads 21.4375, mixes to (27, 23.5), update 42.875 -> (69.875, 109.25); mean 89.5625
    assert blocks(ONE).item() == 89.5625


def test_number_of_connection_weights():
    def count(name, **options):
        rule = create_rule(name, channels=12, dims=2, **options)
        assert rule.parameter_formula() == sum(p.numel() for p in rule.parameters())
        return rule.parameter_formula()

    for n in (1, 2, 4):
        assert count("hyper", streams=n, dynamic=False) == n * (n + 1) + n
        assert count("hyper", streams=n) == n * (n + 1) + n + 12 * (n + 1) + 12 + 2
        assert count("frac", fractions=n, dynamic=False) == 2 * n * n + n
        assert count("frac", fractions=n) == 2 * n * n + n + 2 * 12 + 12 // n + 2


@pytest.mark.parametrize("fractions", [1, 2, 4])
@every_dims
def test_new_frac_block_is_the_plain_residual(fractions, dims):
    """The published package feeds the first fraction to all: with the identity as branch it is not 2 x."""
    x = features(dims)
    rule = create_rule("frac", channels=4, dims=dims, fractions=fractions)
    read, _ = rule.prepare(rule.open(x))
    assert torch.equal(read, x)
    assert torch.equal(ResidualChain([Residual(nn.Identity(), rule)])(x), 2 * x)
    branch = nd.pointwise(dims, 4, 4)
    assert torch.equal(ResidualChain([Residual(branch, rule)])(x), x + branch(x))


@every_dims
def test_one_fraction_is_hyper_with_one_stream(dims):
    x = features(dims)
    frac = chain("frac", dims, randomise=True, fractions=1)
    hyper = chain("hyper", dims, streams=1)
    assert not torch.allclose(frac(x), hyper(x))
    hyper.load_state_dict(frac.state_dict())
    assert torch.equal(frac(x), hyper(x))


# --- earlier features ---


def test_previous_activations_by_hand():
    blocks = scalars("laurel_pa", 4, {"previous": 2, "rank": 1})
    with torch.no_grad():
        for block in blocks:
            block.rule.gamma.copy_(torch.tensor([1.0, 10.0]))
            block.rule.down.weight.fill_(0.5)
            block.rule.up.weight.fill_(0.2)  # h(x) = x / 10
    # 1, 1, 1 -> 3 + (1 + 10) / 10 = 4.1;      4.1, 1, 1 -> 12.3 + (1 + 10) / 10 = 13.4
    # 13.4, 4.1, 1 -> 40.2 + (4.1 + 10) / 10 = 41.61
    # 41.61, 13.4, 4.1 -> 124.83 + (13.4 + 41) / 10 = 130.27
    values = [ResidualChain(list(blocks)[:count])(ONE).item() for count in (1, 2, 3, 4)]
    assert values == pytest.approx([4.1, 13.4, 41.61, 130.27], rel=1e-6)


@every_dims
def test_previous_activations_against_a_list_of_all_features(dims):
    torch.manual_seed(0)
    rules = [create_rule("laurel_pa", channels=4, index=i, depth=5, dims=dims, rank=2) for i in range(1, 6)]
    for rule in rules:
        nn.init.normal_(rule.gamma)
    branches = [nd.pointwise(dims, 4, 4) for _ in rules]
    x = features(dims)
    made = [x]
    for rule, branch in zip(rules, branches, strict=True):
        matrix = rule.up.weight.reshape(4, 2) @ rule.down.weight.reshape(2, 4)
        earlier = sum(g * made[max(len(made) - 2 - j, 0)] for j, g in enumerate(rule.gamma))
        made.append(made[-1] + branch(made[-1]) + torch.einsum("dc,bc...->bd...", matrix, earlier))
    blocks = ResidualChain([Residual(b, r) for b, r in zip(branches, rules, strict=True)])
    torch.testing.assert_close(blocks(x), made[-1], rtol=1e-4, atol=1e-4)


def test_earlier_features_are_activated_once():
    blocks = []
    for _ in range(3):
        rule = create_rule("laurel_pa", channels=1, dims=0, previous=1, rank=1)
        for parameter in rule.parameters():
            nn.init.ones_(parameter)
        blocks.append(Residual(Times(2.0), rule, act=Times(-1.0)))
    # [1, 1] -> -(3 + 1) = -4; [-4, 1] -> -(-12 + 1) = 11; [11, -4] -> -(33 - 4) = -29
    assert ResidualChain(blocks)(ONE).item() == -29


def test_ladder_by_hand():
    # x1 = 1 + 2*1 = 3; x2 = 3 + 2*1 = 5; x3 = 5 + 2*3 = 11; x4 = 11 + 2*5
    assert [scalars("ladder", count)(ONE).item() for count in (1, 2, 3, 4)] == [3, 5, 11, 21]
    # [3, 1]; shortcut 10 * 3 + 2 * 3 = 36 and before it 30; 36 + 2 * 30
    assert scalars("ladder", 3, at_2=Times(10.0))(ONE).item() == 96
    x, branch = features(2), nd.pointwise(2, 4, 4)
    assert torch.equal(ResidualChain([Residual(branch, "ladder")])(x), x + branch(x))
    blocks = ResidualChain([Residual(Times(2.0), "ladder", act=Times(-1.0)) for _ in range(3)])
    assert blocks(ONE).item() == 5  # [1, 1] -> [-3, 1] -> [-(-3 + 2), -3] -> -(1 - 6)


# --- all stages so far ---


def hires(index, channels, history, weight, rank=1, dims=0):
    """A rule whose projections multiply every memory by ``weight`` (one channel) or sum its channels."""
    rule = create_rule(
        "hires", channels=channels, index=index, depth=9, dims=dims, history=history, rank=rank
    )
    for layer in rule.down:
        nn.init.ones_(layer.weight)
    for layer in rule.up:
        nn.init.constant_(layer.weight, weight)
    return rule


def test_stages_by_hand():
    blocks = ResidualChain(
        [
            Residual(Times(2.0), hires(1, 1, (), 0.5)),  # 1 + 2 + 1/2
            Residual(Times(2.0), hires(2, 1, (), 0.5)),  # 3 * 3.5 + 1/2 = 11
            Residual(Times(2.0), hires(3, 1, (1,), 0.25), Times(10.0)),  # 110 + 22 + (110 + 1) / 4 = 159.75
            Residual(Times(2.0), hires(4, 1, (1,), 0.25)),  # 3 * 159.75 + (110 + 1) / 4 = 507
            Residual(Times(0.0), hires(5, 1, (1, 1), 2.0), Times(0.5)),  # 253.5 + 2 (253.5 + 110 + 1)
        ]
    )
    values = [ResidualChain(list(blocks)[:count])(ONE).item() for count in (1, 2, 3, 4, 5)]
    assert values == [3.5, 11, 159.75, 507, 982.5]


@every_dims
def test_stages_against_a_list_of_their_inputs(dims):
    blocks = chain("hires", dims, act=nn.Tanh, randomise=True, rank=2)
    x = features(dims)
    memories, y = [x], x
    for block in blocks:
        shortcut = y
        if block.downsample is not None:
            shortcut = block.downsample(y)
            # Halving the resolution by linear interpolation is a mean of neighbours.
            memories = [shortcut, *(nd.pool("avg", dims)(2)(m) if dims else m for m in memories)]
        made = shortcut + block.branch(y)
        for down, up, memory in zip(block.rule.down, block.rule.up, memories, strict=True):
            matrix = up.weight.flatten(1) @ down.weight.flatten(1)
            made = made + torch.einsum("dc,bc...->bd...", matrix, memory)
        y = torch.tanh(made)
    assert [len(block.rule.down) for block in blocks] == [1, 1, 2, 2, 3]
    torch.testing.assert_close(blocks(x), y, rtol=1e-4, atol=1e-4)


def test_number_of_projections_follows_the_history():
    rule = create_rule("hires", channels=10, history=(6, 4), dims=2, rank=3)
    assert rule.parameter_formula() == 3 * (10 + 10) + 3 * (6 + 10) + 3 * (4 + 10)
    assert sum(p.numel() for p in rule.parameters()) == rule.parameter_formula()


def test_stages_that_were_never_seen_or_have_other_channels():
    x = torch.ones(2, 4)
    with pytest.raises(ConfigError, match=r"stages of \[4, 3\] channels but its stream holds \[4\]"):
        ResidualChain([Residual(nn.Identity(), hires(1, 4, (3,), 1.0))])(x)
    wrong = Residual(nn.Linear(4, 5), hires(2, 5, (3,), 1.0), nn.Linear(4, 5))
    with pytest.raises(ConfigError, match=r"block 2 .* \[5, 3\] channels but its stream holds \[5, 4\]"):
        ResidualChain([Residual(nn.Identity(), hires(1, 4, (), 1.0)), wrong])(x)


# --- construction ---


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("hyper", {"streams": 0}, "hyper: streams must be 1 or more, not 0"),
        ("hyper", {"streams": 2.0}, "streams takes int, not 2.0"),
        ("hyper", {"dynamic": 1}, "dynamic takes bool, not 1"),
        ("frac", {"fractions": 0}, "frac: fractions must be 1 or more, not 0"),
        ("frac", {"fractions": True}, "fractions takes int, not True"),
        ("frac", {"dynamic": "no"}, "dynamic takes bool, not 'no'"),
        ("laurel_pa", {"previous": 0}, "laurel_pa: previous must be 1 or more, not 0"),
        ("laurel_pa", {"previous": "3"}, "previous takes int, not '3'"),
        ("laurel_pa", {"rank": 0}, "laurel_pa: rank must be 1 or more, not 0"),
        ("hires", {"rank": 0}, "hires: rank must be 1 or more, not 0"),
        ("hires", {"rank": 0.5}, "rank takes int, not 0.5"),
        ("gated", {"hidden": "10"}, "hidden takes int, not '10'"),
        ("ladder", {"rank": 1}, "'ladder' has no option 'rank'"),
        ("fixup", {"scale": 1.0}, "'fixup' has no option 'scale'"),
    ],
)
def test_wrong_options_are_one_line(name, options, message):
    with pytest.raises(ConfigError, match=message) as error:
        create_rule(name, channels=6, **options)
    assert "\n" not in str(error.value)


def test_static_hyper_connections_need_no_channels():
    assert create_rule("hyper", dynamic=False).parameter_formula() == 8
    for name in ("hyper", "frac", "laurel_pa", "hires", "gated"):
        with pytest.raises(ConfigError, match="give `channels`"):
            create_rule(name)


@pytest.mark.parametrize(("channels", "fractions", "taken"), [(7, 2, 1), (6, 4, 2), (12, 8, 4)])
def test_fractions_divide_every_width(channels, fractions, taken):
    rule = create_rule("frac", channels=channels, fractions=fractions)
    assert rule.fractions == taken
    x, update = torch.randn(2, 3, channels, 5, 5)
    mixed, state = rule.prepare(x)
    assert torch.equal(mixed, x) and torch.equal(rule.merge(update, state), x + update)
