"""Parallel, looped, dense and dual-path arrangements against what they are made of."""

from __future__ import annotations

import copy
import itertools
import math
import pickle

import pytest
import torch
from branches import Doubly, Times
from torch import nn

from core import nd
from core.errors import ConfigError
from core.residual import Residual, ResidualChain, Rule, RuleSpec, create_rule
from core.residual.drop import DropPath
from core.residual.topology import Dense, DenseStep, DualPath, Loop, Parallel

SPATIAL = {0: (), 1: (7,), 2: (4, 5), 3: (2, 3, 4)}
every_dims = pytest.mark.parametrize("dims", [0, 1, 2, 3])


def mixer(dims, inputs=4, outputs=4):
    """A branch with weights and a nonlinearity."""
    return nn.Sequential(nd.pointwise(dims, inputs, outputs, bias=True), nn.Tanh()).double()


def features(dims, channels=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(3, channels, *SPATIAL[dims], generator=generator, dtype=torch.float64)


BUILD = {
    "parallel": lambda dims: Parallel([mixer(dims), mixer(dims)], "laurel_rw", dims=dims),
    "loop": lambda dims: Loop(Residual(mixer(dims), "laurel_rw", dims=dims), 3),
    "dense": lambda dims: Dense([mixer(dims, 4, 2), mixer(dims, 6, 2)]),
    "dual_path": lambda dims: DualPath(mixer(dims, 4, 5), 3, "layer_scale", dims=dims),
}


@every_dims
@pytest.mark.parametrize("name", BUILD)
def test_gradient_copies_and_export(name, dims):
    torch.manual_seed(0)
    module = BUILD[name](dims).double().eval()
    x = features(dims).requires_grad_()
    y = module(x)
    assert y.shape[2:] == x.shape[2:] and x._version == 0
    (y * torch.randn_like(y)).sum().backward()
    for tensor in (x, *module.parameters()):
        assert torch.isfinite(tensor.grad).all() and (tensor.grad != 0).any()
    assert torch.equal(pickle.loads(pickle.dumps(module))(x), y)
    assert torch.equal(copy.deepcopy(module)(x), y)
    fresh = BUILD[name](dims).double()
    fresh.load_state_dict(module.state_dict())
    assert torch.equal(fresh(x), y)
    program = torch.export.export(module, (x.detach(),), strict=False).module()
    torch.testing.assert_close(program(x.detach()), y)


# --- parallel ---


@every_dims
def test_parallel_applies_its_rule_to_the_sum(dims):
    branches = [mixer(dims) for _ in range(3)]
    x = features(dims)
    total = branches[0](x) + branches[1](x) + branches[2](x)
    torch.testing.assert_close(Parallel(branches)(x), x + total, rtol=0, atol=0)
    rule = create_rule("orthogonal", dims=dims)
    torch.testing.assert_close(Parallel(branches, rule)(x), rule(x, total))
    alone = Residual(branches[0], "depth_scaled", index=2, depth=9, act=nn.ReLU())
    assert torch.equal(Parallel(branches[:1], "depth_scaled", index=2, depth=9, act=nn.ReLU())(x), alone(x))


def test_parallel_with_a_shortcut_and_drop_path():
    shrink = nd.conv(2)(4, 6, 3, stride=2, padding=1, dtype=torch.float64)
    branches = [nd.conv(2)(4, 6, 3, stride=2, padding=1, dtype=torch.float64) for _ in range(2)]
    x = features(2)
    block = Parallel(branches, shortcut=shrink, drop_path=0.5)
    torch.testing.assert_close(block.eval()(x), shrink(x) + branches[0](x) + branches[1](x))
    torch.manual_seed(0)
    dropped = block.train()(x) - shrink(x)
    whole = 2 * (branches[0](x) + branches[1](x))
    kept = [not (sample == 0).all() for sample in dropped]
    assert any(kept) and not all(kept)
    for sample, update, survived in zip(dropped, whole, kept, strict=True):
        torch.testing.assert_close(sample, update * survived)


@every_dims
def test_parallel_differs_from_the_stack_in_second_order(dims):
    """``|deep - parallel| = O(eps^2)``, while both are of first order away from ``x``."""
    torch.manual_seed(0)
    branches = [mixer(dims) for _ in range(5)]
    x = features(dims)
    difference, update = [], []
    for scale in (1e-2, 1e-3, 1e-4):
        small = [nn.Sequential(branch, Times(scale)) for branch in branches]
        deep, wide = x, Parallel(small)(x)
        for branch in small:
            deep = Residual(branch)(deep)
        difference.append((deep - wide).norm().item())
        update.append((wide - x).norm().item())
    for values, order in ((difference, 2), (update, 1)):
        for large, small in itertools.pairwise(values):
            assert math.log10(large / small) == pytest.approx(order, abs=0.02)


def test_parallel_needs_a_branch():
    with pytest.raises(ConfigError, match="at least one branch"):
        Parallel([])


# --- loop ---


class Drift(Rule):
    """A stream of two tensors; the branch reads the older."""

    def open(self, x):
        return [x, x]

    def close(self, stream):
        return stream[0]

    def prepare(self, stream):
        return stream[1], stream[0]

    def merge(self, update, state):
        return [state + update, state]


RULES = {
    "add": lambda dims: "add",
    "orthogonal": lambda dims: create_rule("orthogonal", dims=dims),
    "stream": lambda dims: Drift(RuleSpec(dims=dims)),
}


@every_dims
@pytest.mark.parametrize("rule", RULES)
def test_loop_equals_the_chain_of_its_block(rule, dims):
    block = Residual(mixer(dims), RULES[rule](dims))
    x = features(dims)
    assert torch.equal(Loop(block, 1)(x), ResidualChain([block])(x))
    unrolled = ResidualChain([copy.deepcopy(block) for _ in range(4)])
    assert torch.equal(Loop(block, 4)(x), unrolled(x))
    assert not torch.equal(Loop(block, 4)(x), Loop(block, 3)(x))


def test_a_stream_stays_open_between_the_passes():
    """By hand with f = 2x: [1, 1] -> [3, 1] -> [5, 3] -> [11, 5]; opened anew it would be 3^3 = 27."""
    block = Residual(Times(2.0), Drift(RuleSpec()))
    assert Loop(block, 3)(torch.ones(1, 1)).item() == 11


def test_loop_adds_no_parameters_and_sums_their_gradients():
    block = Residual(mixer(0))
    loop, x = Loop(block, 3), features(0)
    assert [p.numel() for p in loop.parameters()] == [p.numel() for p in block.parameters()]
    unrolled = ResidualChain([copy.deepcopy(block) for _ in range(3)])
    loop(x).square().sum().backward()
    unrolled(x).square().sum().backward()
    weight = block.branch[0].weight
    parts = [copied.branch[0].weight.grad for copied in unrolled]
    torch.testing.assert_close(weight.grad, sum(parts))


def test_loop_collects_side_outputs_and_runs_chains():
    x, *sides = Loop(Residual(Doubly(0.5)), 3)(torch.ones(1, 1))
    assert x.item() == 0.125
    assert [side.item() for side in sides] == [10.0, 5.0, 2.5]
    pair = ResidualChain([Residual(Times(1.0)), Residual(Times(2.0))])
    assert Loop(pair, 2)(torch.ones(1, 1)).item() == 36
    with pytest.raises(ConfigError, match="1 or more times, not 0"):
        Loop(pair, 0)


# --- dense ---


@every_dims
def test_dense_reads_all_that_came_before(dims):
    branches = [mixer(dims, 4 + 2 * i, 2) for i in range(3)]
    x = features(dims)
    seen = [x]
    for branch in branches:
        seen.append(branch(torch.cat(seen, 1)))
    y = Dense(branches)(x)
    assert y.shape == (3, 10, *SPATIAL[dims])
    assert torch.equal(y, torch.cat(seen, 1))
    assert torch.equal(y[:, :4], x)


class _Named(DenseStep):
    """As a backbone writes it."""

    def __init__(self):
        super().__init__(drop_path=0.5)
        self.layers = nn.Linear(4, 2, dtype=torch.float64)

    def branch(self, x):
        return self.layers(x)


def test_a_dense_step_may_give_its_branch_as_a_method():
    step, x = _Named(), features(0)
    assert set(step.state_dict()) == {"layers.weight", "layers.bias"}
    assert torch.equal(step.eval()(x), torch.cat([x, step.layers(x)], 1))
    torch.manual_seed(1)
    new = step.train()(x)[:, 4:] / step.layers(x)
    assert set(new.flatten().round(decimals=6).tolist()) == {0.0, 2.0}
    assert sum(isinstance(module, DropPath) for module in Dense([nn.Identity()] * 3, 0.1).modules()) == 3


# --- dual path ---


@every_dims
def test_dual_path_without_growth_is_the_plain_residual(dims):
    branch, x = mixer(dims), features(dims)
    for rule in ("add", "orthogonal"):
        assert torch.equal(DualPath(branch, 4, rule, dims=dims)(x), Residual(branch, rule, dims=dims)(x))


@every_dims
def test_dual_path_adds_one_part_and_concatenates_the_other(dims):
    branch, x = mixer(dims, 6, 5), features(dims, 6)
    f, y = branch(x), DualPath(branch, 4, "orthogonal", dims=dims)(x)
    assert y.shape[1] == 7
    assert torch.equal(y[:, :4], create_rule("orthogonal", dims=dims)(x[:, :4], f[:, :4]))
    assert torch.equal(y[:, 4:], torch.cat([x[:, 4:], f[:, 4:]], 1))
    shortcut = mixer(dims, 6, 6)
    block = DualPath(branch, 4, shortcut=shortcut, act=nn.ReLU())
    kept = shortcut(x)
    expected = torch.cat([kept[:, :4] + f[:, :4], kept[:, 4:], f[:, 4:]], 1).relu()
    assert torch.equal(block(x), expected)


def _numbers(module):
    """The same weights for layers of the same name, whatever the order in which they were built."""
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            if tensor.is_floating_point():
                tensor.uniform_(0.1, 1, generator=torch.Generator().manual_seed(sum(map(ord, name))))
    return module.eval()


class _TimmNamed(DualPath):
    """timm's dual path block on this base, with timm's names for branch and shortcut."""

    def __init__(self, theirs):
        super().__init__(None, theirs.num_1x1_c)
        self.c1x1_w_s2, self.c1x1_a = theirs.c1x1_w_s2, theirs.c1x1_a
        self.c3x3_b, self.c1x1_c = theirs.c3x3_b, theirs.c1x1_c

    def project(self, x):
        return self.c1x1_w_s2(x)

    def branch(self, x):
        return self.c1x1_c(self.c3x3_b(self.c1x1_a(x)))


def test_dual_path_serves_the_layers_of_timm():
    from timm.models.dpn import DualPathBlock

    theirs = _numbers(DualPathBlock(8, 6, 6, 8, 4, 2, "down"))
    ours = _TimmNamed(theirs).eval()
    assert set(ours.state_dict()) == set(theirs.state_dict())
    x = torch.randn(2, 8, 6, 6)
    torch.testing.assert_close(ours(x), theirs(x))


def test_dual_path_checks_its_values():
    with pytest.raises(ConfigError, match="takes a pointwise residual rule, not Drift"):
        DualPath(nn.Identity(), 2, Drift(RuleSpec()))
    with pytest.raises(ConfigError, match="channels of a residual rule must be 1 or more, not 0"):
        DualPath(nn.Identity(), 0)
