"""Vision Mamba's mixer against the authors' weights and outputs, and the residual block that is made of it."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional

from core.errors import ConfigError
from core.residual import ResidualChain, create_rule, list_rules
from core.residual.blocks.mamba import BidirectionalMamba, MambaBlock

FIXTURE = Path(__file__).parent / "fixtures" / "vim_bimamba_v2_d32_N16.safetensors"
"""Weights, input ``(2, 25, 32)`` and output of the authors' mixer: width 32, state 16, both directions, halved."""


def mixer(**options):
    torch.manual_seed(0)
    return BidirectionalMamba(8, state=4, **options)


def test_it_is_the_authors_mixer():
    fixture = load_file(FIXTURE)
    x, expected = fixture.pop("input"), fixture.pop("output")
    model = BidirectionalMamba(32)
    model.load_state_dict(fixture)
    torch.testing.assert_close(model(x), expected, rtol=1e-5, atol=2e-5)
    whole = BidirectionalMamba(32, halve=False)
    whole.load_state_dict(fixture)
    torch.testing.assert_close(whole(x), 2 * expected, rtol=1e-5, atol=4e-5)


def test_both_directions_act():
    model, x = mixer(), torch.randn(1, 12, 8)
    last, first = x.clone(), x.clone()
    last[:, -1] += 1
    first[:, 0] += 1
    y = model(x)
    assert (model(last) - y)[:, 0].abs().max() > 1e-6
    assert (model(first) - y)[:, -1].abs().max() > 1e-6


def test_exchanging_the_directions_reverses_time():
    model, other = mixer(), mixer()
    state = model.state_dict()
    pairs = [("A_log", "A_b_log"), ("D", "D_b")]
    pairs += [
        (key, key.replace(".", "_b.")) for key in state if key.startswith(("conv1d.", "x_proj.", "dt_proj."))
    ]
    other.load_state_dict(state | {a: state[b] for a, b in pairs} | {b: state[a] for a, b in pairs})
    x = torch.randn(2, 9, 8)
    torch.testing.assert_close(other(x.flip(1)).flip(1), model(x))


def test_parameters_of_the_paper():
    assert sum(p.numel() for p in MambaBlock(384).parameters()) == 1_043_328


def test_first_weights_are_mambas():
    torch.manual_seed(0)
    model = BidirectionalMamba(64)
    for layer in (model.dt_proj, model.dt_proj_b):
        steps = functional.softplus(layer.bias)
        assert 0.99e-3 < steps.min() < 2e-3 and 0.05 < steps.max() < 0.101
        assert 0.008 < steps.log().mean().exp() < 0.0125  # the middle of a log-uniform distribution is 0.01
    torch.testing.assert_close(model.A_log.exp(), torch.arange(1.0, 17).expand(128, 16))
    torch.testing.assert_close(model.A_b_log, model.A_log)
    assert model.D.eq(1).all() and model.D_b.eq(1).all()


@pytest.mark.parametrize("option", ["state", "conv", "expand"])
def test_numbers_below_one_are_refused(option):
    with pytest.raises(ConfigError, match=f"{option} of a Mamba block must be 1 or more, not 0"):
        BidirectionalMamba(8, **{option: 0})


@pytest.mark.parametrize("rule", list_rules())
def test_any_rule_joins_it_and_every_weight_learns(rule):
    torch.manual_seed(0)
    rules = [create_rule(rule, channels=8, index=i, depth=3, dims=1) for i in (1, 2, 3)]
    chain = ResidualChain(MambaBlock(8, made, state=4) for made in rules)
    with torch.no_grad():  # rules that begin as the identity give branches no gradient
        for made in rules:
            for parameter in made.parameters():
                parameter.add_(0.1)
    x = torch.randn(2, 8, 10)
    y = chain(x)
    assert y.shape == x.shape
    y.square().sum().backward()
    assert all(
        p.grad is not None and p.grad.abs().sum() > 0 for block in chain for p in block.mixer.parameters()
    )


def test_the_block_adds_what_the_mixer_finds_in_the_normalised_stream():
    torch.manual_seed(0)
    block, x = MambaBlock(8, state=4), torch.randn(2, 8, 10)
    normalised = x / (x.square().mean(1, keepdim=True) + 1e-5).sqrt()
    torch.testing.assert_close(block(x), x + block.mixer(normalised.transpose(1, 2)).transpose(1, 2))


def test_dropped_samples_stay_as_they_were():
    torch.manual_seed(0)
    block, x = MambaBlock(8, state=4, drop_path=0.5), torch.randn(64, 8, 5)
    same = (block(x) == x).flatten(1).all(1)
    assert 16 < same.sum() < 48
    assert not (block.eval()(x) == x).flatten(1).all(1).any()


def test_the_stream_stays_in_float32_under_autocast():
    torch.manual_seed(0)
    block, x = MambaBlock(8, state=4), torch.randn(2, 8, 10)
    with torch.autocast("cpu", torch.bfloat16):
        y = block(x)
    assert y.dtype == torch.float32
    torch.testing.assert_close(y, block(x), rtol=0.02, atol=0.02)


def test_it_can_be_copied_and_pickled():
    torch.manual_seed(0)
    block, x = MambaBlock(8, state=4), torch.randn(2, 8, 10)
    for twin in (copy.deepcopy(block), pickle.loads(pickle.dumps(block))):
        torch.testing.assert_close(twin(x), block(x))
