"""The formula of each residual rule, against values by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch.func import vmap

from core.errors import ConfigError
from core.residual import create_rule

CHANNELS = 6
SPATIAL = {0: (), 1: (7,), 2: (4, 5), 3: (2, 3, 4)}


def build(name, dims, **options):
    return create_rule(name, channels=CHANNELS, index=2, depth=4, dims=dims, **options).eval()


def pair(dims, dtype=torch.float32, batch=3):
    generator = torch.Generator().manual_seed(0)
    shape = (batch, CHANNELS, *SPATIAL[dims])
    return tuple(torch.randn(shape, generator=generator).to(dtype) for _ in range(2))


def test_scaled():
    x, update = pair(2)
    torch.testing.assert_close(build("scaled", 2)(x, update), x + 0.1 * update)
    torch.testing.assert_close(build("scaled", 2, scale=0.25)(x, update), x + update / 4)


def test_depth_scaled_factors():
    assert create_rule("depth_scaled", depth=16).scale == pytest.approx(0.25)
    assert create_rule("depth_scaled", depth=16, power=1.0).scale == pytest.approx(1 / 16)
    with pytest.raises(ConfigError, match="power must be 0 or more, not -1"):
        create_rule("depth_scaled", power=-1)


@pytest.mark.parametrize("depth", [10, 50, 200])
def test_variance_growth_with_depth(depth):
    """Independent random linear branches multiply the variance by 1 + s^2, that is (1 + s^2)^L in all."""
    growth = {}
    for label, name, options in (
        ("plain", "add", {}),
        ("root", "depth_scaled", {}),
        ("full", "depth_scaled", {"power": 1.0}),
    ):
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(64, 256, generator=generator, dtype=torch.float64)
        first = x.var()
        for index in range(1, depth + 1):
            rule = create_rule(name, index=index, depth=depth, dims=0, **options)
            matrix = torch.randn(256, 256, generator=generator, dtype=torch.float64) / 16
            x = rule(x, x @ matrix)
        growth[label] = (x.var() / first).item()
    assert math.log(growth["plain"]) == pytest.approx(depth * math.log(2), rel=0.1)
    assert growth["root"] == pytest.approx((1 + 1 / depth) ** depth, rel=0.1)
    assert growth["full"] == pytest.approx((1 + 1 / depth**2) ** depth, rel=0.05)
    assert growth["plain"] > 900
    assert 2.3 < growth["root"] < 2.9
    assert 0.97 < growth["full"] < 1.15


def test_skipinit_and_layer_scale():
    x, update = pair(2)
    assert torch.equal(build("skipinit", 2)(x, update), x)
    torch.testing.assert_close(build("skipinit", 2, initial=0.5)(x, update), x + update / 2)
    rule = build("layer_scale", 2)
    torch.testing.assert_close(rule.gamma, torch.full((CHANNELS,), 1e-6))
    with torch.no_grad():
        rule.gamma.copy_(torch.arange(6.0))
    for channel in range(CHANNELS):
        expected = x[:, channel] + channel * update[:, channel]
        torch.testing.assert_close(rule(x, update)[:, channel], expected)


def test_stochastic_depth_survival_decays_linearly():
    keeps = [create_rule("stochastic_depth", index=index, depth=4).keep for index in (1, 2, 3, 4)]
    assert keeps == pytest.approx([0.875, 0.75, 0.625, 0.5])
    assert create_rule("stochastic_depth", index=4, depth=4, survival=1.0).keep == 1
    with pytest.raises(ConfigError, match=r"survival must be in \(0, 1\], not 0"):
        create_rule("stochastic_depth", survival=0)
    with pytest.raises(ConfigError, match="mode must be one of row, batch, not 'rows'"):
        create_rule("stochastic_depth", mode="rows")


def test_stochastic_depth_by_row():
    torch.manual_seed(0)
    rule = create_rule("stochastic_depth", index=2, depth=4)  # p = 0.75
    x, update = torch.full((20000, 2, 1), 5.0), torch.full((20000, 2, 1), 3.0)
    y = rule(x, update)
    assert set(y.unique().tolist()) == {5.0, 9.0}  # dropped, or 5 + 3 / 0.75
    assert torch.equal(y[:, 0], y[:, 1])  # one draw a sample
    assert (y == 9).double().mean().item() == pytest.approx(0.75, abs=4 * math.sqrt(0.75 * 0.25 / 20000))
    assert torch.equal(rule.eval()(x, update), x + update)


def test_stochastic_depth_by_batch():
    torch.manual_seed(0)
    rule = create_rule("stochastic_depth", index=2, depth=4, mode="batch")
    x, update = torch.full((3, 2, 1), 5.0), torch.full((3, 2, 1), 3.0)
    outcomes = [set(rule(x, update).flatten().tolist()) for _ in range(2000)]
    assert all(outcome in ({5.0}, {8.0}) for outcome in outcomes)  # all samples alike, and undivided
    kept = sum(outcome == {8.0} for outcome in outcomes) / 2000
    assert kept == pytest.approx(0.75, abs=4 * math.sqrt(0.75 * 0.25 / 2000))
    assert torch.equal(rule.eval()(x, update), torch.full((3, 2, 1), 5 + 0.75 * 3))


@pytest.mark.parametrize("mode", ["row", "batch"])
def test_stochastic_depth_draws_apart_for_members_of_an_ensemble(mode):
    torch.manual_seed(0)
    rule = create_rule("stochastic_depth", index=4, depth=4, mode=mode)
    x = torch.ones(64, 3, 2)
    y = vmap(lambda member: rule(member, member), randomness="different")(x)
    assert len({tuple(member.flatten().tolist()) for member in y}) > 1


def test_laurel_by_hand():
    x, update = torch.tensor([[1.0, 2.0]]), torch.tensor([[10.0, 20.0]])
    weights = create_rule("laurel_rw", dims=0)
    low_rank = create_rule("laurel_lr", channels=2, dims=0, rank=1)
    assert low_rank.parameter_formula() == 4
    with torch.no_grad():
        weights.update_weight.fill_(2)
        weights.skip_weight.fill_(3)
        low_rank.down.weight.copy_(torch.tensor([[1.0, 10.0]]))  # B x = 1 + 20 = 21
        low_rank.up.weight.copy_(torch.tensor([[1.0], [-1.0]]))  # A (B x) = (21, -21)
    assert weights(x, update).tolist() == [[23.0, 46.0]]
    assert low_rank(x, update).tolist() == [[32.0, 1.0]]


def test_laurel_low_rank_is_a_matrix_on_channels_of_rank_r():
    x = torch.eye(CHANNELS).reshape(CHANNELS, CHANNELS, 1, 1)
    rule = build("laurel_lr", 2, rank=2)
    torch.nn.init.normal_(rule.up.weight, generator=torch.Generator().manual_seed(0))
    added = (rule(x, torch.zeros_like(x)) - x).detach()
    assert torch.linalg.matrix_rank(added.reshape(CHANNELS, CHANNELS)) == 2
    with pytest.raises(ConfigError, match="rank must be 1 or more, not 0"):
        build("laurel_lr", 2, rank=0)


@pytest.mark.parametrize("dims", [0, 1, 2, 3])
@pytest.mark.parametrize("scope", ["feature", "global"])
def test_orthogonal_update(dims, scope):
    x, update = pair(dims)
    y = build("orthogonal", dims, scope=scope)(x, update)
    axes = (1,) if scope == "feature" else tuple(range(1, x.ndim))
    assert (x * (y - x)).sum(axes).abs().max() < 1e-4
    square = (y**2).sum(axes)
    torch.testing.assert_close(square, (x**2).sum(axes) + ((y - x) ** 2).sum(axes), rtol=1e-4, atol=1e-4)
    # What was taken away points along x: y - x = f - s x.
    taken = update - (y - x)
    along = (x * update).sum(axes, keepdim=True) / (x * x).sum(axes, keepdim=True)
    torch.testing.assert_close(taken, along * x, rtol=1e-3, atol=1e-4)


def test_orthogonal_edges():
    x, update = pair(2)
    zero = torch.zeros_like(x)
    assert torch.equal(build("orthogonal", 2)(zero, update), update)
    torch.testing.assert_close(build("orthogonal", 2)(x, 3 * x), x, rtol=1e-3, atol=1e-3)
    by_hand = create_rule("orthogonal", dims=0)(torch.tensor([[3.0, 4.0]]), torch.tensor([[5.0, 5.0]]))
    torch.testing.assert_close(by_hand, torch.tensor([[3 + 0.8, 4 - 0.6]]), rtol=0, atol=1e-5)  # s = 35 / 25
    with pytest.raises(ConfigError, match="scope must be one of feature, global, not 'channel'"):
        create_rule("orthogonal", scope="channel")
    with pytest.raises(ConfigError, match="eps must be positive, not 0"):
        create_rule("orthogonal", eps=0)


def test_orthogonal_projects_in_float32_for_bfloat16():
    x, update = pair(0, dtype=torch.bfloat16, batch=256)
    rule = create_rule("orthogonal", dims=0)
    # The update is rounded once, to within 2^-9 of its exact value, whatever cancels in the projection.
    exact = rule(x.double(), update.double()) - x.double()
    expected = (x + exact.bfloat16()).double()
    torch.testing.assert_close(rule(x, update).double(), expected, rtol=2**-8, atol=2**-8)


def test_decayed_endpoints():
    weights = [create_rule("decayed", index=index, depth=4).decay for index in (1, 2, 3, 4)]
    assert weights == pytest.approx([0.9, 0.8, 0.7, 0.6])
    product = math.prod(create_rule("decayed", index=index, depth=24).decay for index in range(1, 25))
    assert product == pytest.approx(2.8e-3, rel=0.02)
    x, update = pair(2)
    assert torch.equal(build("decayed", 2, minimum=1.0)(x, update), x + update)
    torch.testing.assert_close(build("decayed", 2)(x, update), 0.8 * x + update)
    with pytest.raises(ConfigError, match=r"minimum must be in \[0, 1\], not 2"):
        create_rule("decayed", minimum=2)


def test_fixup_by_hand():
    x, update = torch.tensor([[1.0, 2.0]]), torch.tensor([[10.0, 20.0]])
    rule = create_rule("fixup", dims=0)
    assert rule.lr_scale == 0.1
    assert {name: tuple(value.shape) for name, value in rule.named_parameters()} == {
        "scale": (1,),
        "bias": (1,),
    }
    with torch.no_grad():
        rule.scale.fill_(3)
        rule.bias.fill_(-0.5)
    assert rule(x, update).tolist() == [[30.5, 61.5]]


def gate_by_sign(rule, channel=0):
    """Opens the gate where the mean of one channel is positive."""
    with torch.no_grad():
        rule.gate.hidden.weight.zero_()
        rule.gate.hidden.bias.zero_()
        rule.gate.hidden.weight[0, channel] = 1
        rule.gate.logit.weight.zero_()
        rule.gate.logit.weight[0, 0] = 1
        rule.gate.logit.bias.fill_(0)  # relu(mean) > 0
    return rule


@pytest.mark.parametrize("dims", [0, 1, 2, 3])
def test_gate_chooses_between_the_plain_residual_and_the_identity(dims):
    x, update = pair(dims, batch=8)
    rule = gate_by_sign(build("gated", dims))
    is_open = x[:, 0].reshape(8, -1).double().mean(1) > 0
    assert 0 < is_open.sum() < 8
    y = rule(x, update)
    assert torch.equal(y[is_open], (x + update)[is_open])
    assert torch.equal(y[~is_open], x[~is_open])
    # The paper's own formula, with the residual layer F = x + f.
    gate = is_open.float().reshape(-1, *(1,) * (x.ndim - 1))
    torch.testing.assert_close(y, gate * (x + update) + (1 - gate) * x)


def test_new_gate_is_open_for_every_input_and_a_low_bias_closes_it():
    rule = build("gated", 0)
    x, update = 1e3 * torch.randn(64, CHANNELS), torch.randn(64, CHANNELS)
    assert torch.equal(rule(x, update), x + update)
    torch.nn.init.constant_(rule.gate.logit.bias, -2)
    assert torch.equal(rule(x, update), x)
    with pytest.raises(ConfigError, match="gated: hidden must be 1 or more, not 0"):
        build("gated", 0, hidden=0)


@pytest.mark.parametrize("logit", [0.3, -0.3])
def test_straight_through_gradient_is_that_of_the_sigmoid_whether_open_or_closed(logit):
    rule = create_rule("gated", channels=2, dims=0)
    torch.nn.init.constant_(rule.gate.logit.bias, logit)
    x, update = torch.tensor([[1.0, 2.0]]), torch.tensor([[10.0, 20.0]], requires_grad=True)
    rule(x, update).sum().backward()
    probability = 1 / (1 + math.exp(-logit))
    # d(sum y)/d(logit) = (10 + 20) p (1 - p)
    assert rule.gate.logit.bias.grad.item() == pytest.approx(30 * probability * (1 - probability), rel=1e-5)
    assert update.grad.tolist() == [[float(logit > 0)] * 2]
