from __future__ import annotations

import copy
import pickle

import pytest
import torch
from branches import Doubly, Times
from torch import nn
from torch.func import functional_call, stack_module_state, vmap

from core import nd
from core.errors import ConfigError
from core.residual import (
    DropPath,
    Residual,
    ResidualChain,
    create_rule,
    drop_path_rates,
    list_rules,
)

ONE = torch.ones(1, 1)


# --- one block ---


def test_branch_shortcut_rule_and_activation_in_their_order():
    block = Residual(Times(2.0), "scaled", shortcut=Times(10.0), act=Times(-1.0))
    assert block(ONE).item() == pytest.approx(-(10 + 0.1 * 2))
    assert Residual(Times(2.0))(ONE).item() == 3
    assert Residual(Times(-2.0), act=nn.ReLU())(ONE).item() == 0


def test_rule_by_name_gets_its_place_in_the_network():
    block = Residual(nn.Identity(), "decayed", index=2, depth=4)
    assert block(ONE).item() == pytest.approx(0.8 + 1)
    assert Residual(nn.Identity(), "layer_scale", channels=7, dims=1).rule.gamma.shape == (7,)
    assert Residual(nn.Identity(), create_rule("scaled", scale=0.5))(ONE).item() == 1.5
    with pytest.raises(ConfigError, match=r"Did you mean 'orthogonal'\?"):
        Residual(nn.Identity(), "ortogonal")


def test_rule_sees_the_projected_shortcut():
    torch.manual_seed(0)
    branch = nn.Conv2d(4, 6, 3, stride=2, padding=1)
    shortcut = nn.Conv2d(4, 6, 1, stride=2)
    x = torch.randn(2, 4, 8, 8)
    y = Residual(branch, "orthogonal", shortcut=shortcut)(x)
    assert y.shape == (2, 6, 4, 4)
    assert (shortcut(x) * (y - shortcut(x))).sum(1).abs().max() < 1e-4
    assert (shortcut(x) * branch(x)).sum(1).abs().max() > 0.1


def test_side_outputs_leave_the_block_and_only_the_update_is_merged():
    stream, forecast = Residual(Doubly(0.75))(ONE)
    assert stream.item() == 0.25
    assert forecast.item() == 10
    stream, forecast = Residual(Doubly(0.75), "decayed", index=1, depth=1)(ONE)
    assert stream.item() == pytest.approx(0.6 - 0.75)
    assert forecast.item() == 10


def test_parameters_are_named_after_their_part():
    block = Residual(nn.Linear(3, 3), "layer_scale", nn.Linear(3, 3), nn.PReLU(), 0.1, channels=3, dims=0)
    assert set(block.state_dict()) == {
        "branch.weight",
        "branch.bias",
        "rule.gamma",
        "downsample.weight",
        "downsample.bias",
        "act.weight",
    }


@pytest.mark.parametrize("name", list_rules())
@pytest.mark.parametrize("dims", [0, 1, 2, 3])
def test_blocks_of_every_rule_are_copied_exported_and_trained(name, dims):
    torch.manual_seed(0)
    chain = ResidualChain(
        [
            Residual(nd.pointwise(dims, 4, 4), name, None, nn.ReLU(), 0.2, 4, 1, 2, dims),
            Residual(nd.pointwise(dims, 4, 6), name, nd.pointwise(dims, 4, 6), None, 0.2, 6, 2, 2, dims),
        ]
    )
    x = torch.randn(3, 4, *(3,) * dims)
    chain(x).square().mean().backward()
    assert all(torch.isfinite(p.grad).all() for p in chain.parameters())
    chain.eval()
    expected = chain(x)
    assert expected.shape == (3, 6, *(3,) * dims)
    assert torch.equal(pickle.loads(pickle.dumps(chain))(x), expected)
    assert torch.equal(copy.deepcopy(chain)(x), expected)
    program = torch.export.export(chain, (x,), strict=False).module()
    torch.testing.assert_close(program(x), expected)


# --- drop path ---


def test_drop_path_keeps_the_expectation_and_wraps_the_update_alone():
    torch.manual_seed(0)
    block = Residual(Doubly(0.75), "scaled", drop_path=0.25)
    x = torch.ones(20000, 2)
    stream, forecast = block(x)
    assert torch.equal(forecast, 10 * x)
    assert torch.equal(stream[:, 0], stream[:, 1])
    values = sorted(stream.unique().tolist())
    assert values == pytest.approx([1 - 0.1 * 0.75 / 0.75, 1.0])  # kept and divided by 3/4, or dropped
    # The standard error of the mean is 0.1 * sqrt(3/16 / 20000) = 3.1e-4.
    assert stream.mean().item() == pytest.approx(1 - 0.075, abs=4 * 3.1e-4)
    assert torch.equal(block.eval()(x)[0], torch.full_like(x, 1 - 0.075))


def test_drop_path_draws_apart_for_members_of_an_ensemble_with_gradients():
    torch.manual_seed(0)
    members = [Residual(nn.Linear(3, 3), "skipinit", drop_path=0.5, dims=0) for _ in range(4)]
    parameters, buffers = stack_module_state(members)
    x = torch.ones(4, 32, 3)
    masks = vmap(DropPath(0.5), randomness="different")(x)
    assert len({tuple(mask.flatten().tolist()) for mask in masks}) == 4

    def loss(parameters, buffers, x):
        return functional_call(members[0], (parameters, buffers), (x,)).square().mean()

    vmap(loss, randomness="different")(parameters, buffers, x).sum().backward()
    assert (parameters["rule.scale"].grad != 0).all()
    assert parameters["rule.scale"].grad.shape == (4, 1)


def test_drop_path_rates_grow_from_zero():
    assert drop_path_rates(0.3, 4) == pytest.approx([0, 0.1, 0.2, 0.3])
    assert drop_path_rates(0.3, 1) == [0]
    assert drop_path_rates(0.3, 0) == []
    for rate in (1.0, -0.1):
        with pytest.raises(ConfigError, match=r"drop path rate must be in \[0, 1\)"):
            Residual(nn.Identity(), drop_path=rate)
