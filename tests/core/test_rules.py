"""Every registered rule is tested by being registered."""

from __future__ import annotations

import copy
import io
import pickle

import pytest
import torch
from torch import nn
from torch.func import functional_call, stack_module_state, vmap

from core.errors import ConfigError
from core.residual import RuleSpec, create_rule, list_rules, rule_options

CHANNELS = 6
SPATIAL = {0: (), 1: (7,), 2: (4, 5), 3: (2, 3, 4)}
every_rule = pytest.mark.parametrize("name", list_rules())
every_dims = pytest.mark.parametrize("dims", [0, 1, 2, 3])


class Joined(nn.Module):
    """One block whose branch output is given: the protocol of every kind of rule as a function."""

    def __init__(self, rule):
        super().__init__()
        self.rule = rule

    def forward(self, x, update):
        _, state = self.rule.prepare(self.rule.open(x))
        return self.rule.close(self.rule.merge(update, state))


class Branched(Joined):
    """One block whose branch multiplies what it reads: also the weights of what a branch reads matter."""

    def forward(self, x, update):
        read, state = self.rule.prepare(self.rule.open(x))
        return self.rule.close(self.rule.merge(update * read, state))


def build(name, dims, seed=None, **options):
    """A rule in evaluation mode; with a seed its parameters are random instead of initial."""
    rule = create_rule(name, channels=CHANNELS, index=2, depth=4, dims=dims, **options)
    if seed is not None:
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in rule.parameters():
                parameter.normal_(generator=generator)
    return Joined(rule).eval()


def pair(dims, seed=0, dtype=torch.float32, batch=3):
    generator = torch.Generator().manual_seed(seed)
    shape = (batch, CHANNELS, *SPATIAL[dims])
    return tuple(torch.randn(shape, generator=generator).to(dtype) for _ in range(2))


@every_rule
@every_dims
def test_claims_at_initialisation(name, dims):
    block = build(name, dims)
    x, update = pair(dims)
    y = block(x, update)
    assert y.shape == x.shape
    if block.rule.plain_at_init:
        torch.testing.assert_close(y, x + update, rtol=0, atol=0)
    if block.rule.identity_at_init:
        assert (y - x).abs().max() <= 1e-5 * update.abs().max()
    assert not (block.rule.plain_at_init and block.rule.identity_at_init)


@every_rule
@every_dims
def test_number_of_parameters(name, dims):
    rule = build(name, dims).rule
    by_hand = {
        "skipinit": 1,
        "layer_scale": CHANNELS,
        "laurel_rw": 2,
        "laurel_lr": 2 * 8 * CHANNELS,
        "fixup": 2,
        "gated": CHANNELS * 10 + 10 + 10 + 1,
        "hyper": (2 * 3 + 2) + (CHANNELS * 3 + CHANNELS) + 2,
        "frac": (2 * 2 + 2 * 2 + 2) + (CHANNELS // 2 * 4 + CHANNELS // 2) + 2,
        "laurel_pa": 3 + 2 * 8 * CHANNELS,
        "hires": 8 * (CHANNELS + CHANNELS),
        "ladder": 0,
    }
    assert sum(p.numel() for p in rule.parameters()) == rule.parameter_formula()
    if name in by_hand:
        assert rule.parameter_formula() == by_hand[name]
    # FSDP2 cannot shard a parameter without an axis.
    assert all(p.ndim > 0 for p in rule.parameters())


@every_rule
@every_dims
def test_gradient_reaches_everything(name, dims):
    block = Branched(build(name, dims, seed=1).rule).eval()
    x, update = (tensor.requires_grad_() for tensor in pair(dims))
    weight, _ = pair(dims, seed=5)
    (block(x, update) * weight).sum().backward()
    # A rule that may decline an update cuts the gradient of that sample.
    reached = torch.any if getattr(block.rule, "may_skip", False) else torch.all
    for tensor in (x, update, *block.parameters()):
        assert torch.isfinite(tensor.grad).all()
        assert reached(tensor.grad != 0)


@every_rule
def test_training_can_leave_the_initial_values(name):
    block = build(name, 2).train()
    x, update = (tensor.requires_grad_() for tensor in pair(2))
    (block(x, update) * pair(2, seed=5)[0]).sum().backward()
    assert (x.grad != 0).any()
    parameters = list(block.parameters())
    assert not parameters or any((p.grad != 0).any() for p in parameters)


@every_rule
@every_dims
def test_samples_are_independent_in_evaluation(name, dims):
    block = build(name, dims, seed=1)
    x, update = pair(dims)
    together = block(x, update)
    alone = torch.cat([block(x[i : i + 1], update[i : i + 1]) for i in range(len(x))])
    torch.testing.assert_close(together, alone)


@every_rule
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_dtype_is_kept(name, dtype):
    x, update = pair(2, dtype=dtype)
    assert build(name, 2, seed=1).to(dtype)(x, update).dtype == dtype


@every_rule
def test_dtypes_in_mixed_precision(name):
    block = build(name, 2, seed=1)
    x, update = pair(2)
    with torch.autocast("cpu", torch.bfloat16):
        assert block(x.bfloat16(), update.bfloat16()).dtype == torch.bfloat16
        mixed = block(x, update.bfloat16())
    assert mixed.dtype == torch.float32
    torch.testing.assert_close(mixed, block(x, update), rtol=0.05, atol=0.1)


@every_rule
@pytest.mark.parametrize("training", [False, True])
def test_inputs_are_not_modified(name, training):
    block = build(name, 2, seed=1).train(training)
    x, update = pair(2)
    before = x.clone(), update.clone()
    block(x, update)
    assert x._version == update._version == 0
    assert torch.equal(x, before[0])
    assert torch.equal(update, before[1])


@every_rule
@every_dims
def test_copies_and_state_dict_give_the_same_output(name, dims):
    block = build(name, dims, seed=1)
    x, update = pair(dims)
    expected = block(x, update)
    assert torch.equal(pickle.loads(pickle.dumps(block))(x, update), expected)
    assert torch.equal(copy.deepcopy(block)(x, update), expected)
    file = io.BytesIO()
    torch.save(block.state_dict(), file)
    file.seek(0)
    fresh = build(name, dims)
    fresh.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(fresh(x, update), expected)


@every_rule
@every_dims
def test_export(name, dims):
    block = build(name, dims, seed=1)
    x, update = pair(dims)
    program = torch.export.export(block, (x, update), strict=False).module()
    torch.testing.assert_close(program(x, update), block(x, update))


@every_rule
@every_dims
def test_stacked_ensemble_equals_its_members(name, dims):
    members = [build(name, dims, seed=seed) for seed in range(3)]
    inputs = [pair(dims, seed=10 + seed) for seed in range(3)]
    x, update = (torch.stack(tensors) for tensors in zip(*inputs, strict=True))
    parameters, buffers = stack_module_state(members)

    def run(parameters, buffers, x, update):
        return functional_call(members[0], (parameters, buffers), (x, update))

    stacked = vmap(run, randomness="different")(parameters, buffers, x, update)
    expected = torch.stack([member(*given) for member, given in zip(members, inputs, strict=True)])
    torch.testing.assert_close(stacked, expected)


# --- construction ---


def test_wrong_names_and_options_are_one_line():
    with pytest.raises(ConfigError, match=r"unknown residual rule 'laurel_lw'\. Did you mean 'laurel_"):
        create_rule("laurel_lw")
    with pytest.raises(
        ConfigError, match=r"'scaled' has no option 'scal'\. Did you mean 'scale'\? Options: scale"
    ):
        create_rule("scaled", scal=0.2)
    with pytest.raises(ConfigError, match=r"'add' has no option 'scale'\. It has no options"):
        create_rule("add", scale=0.2)
    with pytest.raises(ConfigError, match="give `channels`"):
        create_rule("layer_scale")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"dims": 4}, "dims of a residual rule must be 0, 1, 2 or 3, not 4"),
        ({"index": 0}, "residual block 0 of 1"),
        ({"index": 3, "depth": 2}, "residual block 3 of 2"),
        ({"channels": 0}, "channels of a residual rule must be 1 or more, not 0"),
    ],
)
def test_spec_is_checked(values, message):
    with pytest.raises(ConfigError, match=message):
        RuleSpec(**values)


def test_options_are_listed_with_their_defaults():
    assert rule_options("stochastic_depth") == {"survival": 0.5, "mode": "row"}
    assert rule_options("add") == {}
    assert {"add", "orthogonal", "laurel_lr"} <= set(list_rules())
