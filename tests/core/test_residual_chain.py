"""Chains of blocks, and history and stream rules through the same two modules as pointwise ones."""

from __future__ import annotations

import pickle

import pytest
import torch
from branches import Doubly, Times
from torch import nn
from torch.func import functional_call, stack_module_state, vmap

from core import nd
from core.residual import Residual, ResidualChain, Rule, RuleSpec


class Ladder(Rule):
    """x_{t+1} = x_t + f(x_{t-1}): the branch reads features that are one block old."""

    def open(self, x):
        return [x, x]

    def close(self, stream):
        return stream[0]

    def prepare(self, stream):
        return stream[1], stream[0]

    def merge(self, update, state):
        return [state + update, state]

    def activate(self, act, stream):
        return [act(stream[0]), stream[1]]


class TwoStreams(Rule):
    """Two parallel streams: the branch reads one mixture, the next streams are another plus the update."""

    def __init__(self, spec, *, read=(0.5, 0.5), mix=((1.0, 0.0), (0.0, 1.0)), write=(1.0, 1.0)):
        super().__init__(spec)
        self.read = nn.Parameter(torch.tensor(read))
        self.mix = nn.Parameter(torch.tensor(mix))
        self.write = nn.Parameter(torch.tensor(write))

    def open(self, x):
        return torch.stack([x, x])

    def close(self, stream):
        return stream.mean(0)

    def prepare(self, stream):
        return torch.einsum("n,n...->...", self.read, stream), torch.einsum("mn,n...->m...", self.mix, stream)

    def merge(self, update, state):
        return state + torch.einsum("n,...->n...", self.write, update)


ONE = torch.ones(1, 1)


def test_chain_of_pointwise_blocks_is_their_composition():
    chain = ResidualChain([Residual(Times(2.0)), Residual(Times(-0.5)), Residual(Times(1.0), "scaled")])
    assert chain(ONE).item() == pytest.approx(3 * 0.5 * 1.1)


def test_chain_returns_side_outputs_in_the_order_of_the_blocks():
    backcast, first, second = ResidualChain([Residual(Doubly(0.75)), Residual(Doubly(0.5))])(ONE)
    assert backcast.item() == 0.125  # 1 - 0.75, then halved
    assert first.item() == 10
    assert second.item() == 2.5
    x, only = ResidualChain([Residual(Times(2.0)), Residual(Doubly(0.5))])(ONE)
    assert (x.item(), only.item()) == (1.5, 30)


def test_history_rule_reads_older_features():
    def ladder(count):
        return ResidualChain([Residual(Times(2.0), Ladder(RuleSpec())) for _ in range(count)])

    # x1 = 1 + 2*1 = 3; x2 = 3 + 2*1 = 5; x3 = 5 + 2*3 = 11
    assert [ladder(count)(ONE).item() for count in (1, 2, 3)] == [3, 5, 11]


def test_history_begins_anew_at_a_shortcut():
    chain = ResidualChain(
        [
            Residual(Times(2.0), Ladder(RuleSpec())),  # [3, 1]
            Residual(Times(2.0), Ladder(RuleSpec()), shortcut=Times(10.0)),  # 10*3 + 2*3, before it 10*3
            Residual(Times(2.0), Ladder(RuleSpec())),  # 36 + 2*30
        ]
    )
    assert chain(ONE).item() == 96


def test_history_is_activated_once():
    chain = ResidualChain([Residual(Times(2.0), Ladder(RuleSpec()), act=Times(-1.0)) for _ in range(3)])
    # [1, 1] -> [-(1 + 2), 1] -> [-(-3 + 2), -3] -> -(1 - 6)
    assert chain(ONE).item() == 5


def test_history_with_side_outputs():
    chain = ResidualChain([Residual(Doubly(0.5), Ladder(RuleSpec())) for _ in range(2)])
    # x1 = 1 - 0.5; x2 = 0.5 - 0.5*1: both blocks read 1
    assert [value.item() for value in chain(ONE)] == [0, 10, 10]


def test_stream_rule_mixes_widths_and_depths():
    options = {"read": (0.25, 0.75), "mix": ((1.0, 0.5), (0.0, 1.0)), "write": (1.0, 2.0)}
    chain = ResidualChain([Residual(Times(2.0), TwoStreams(RuleSpec(), **options)) for _ in range(2)])
    # (1, 1): reads 1, mixes to (1.5, 1), update 2 -> (3.5, 5)
    # (3.5, 5): reads 4.625, mixes to (6, 5), update 9.25 -> (15.25, 23.5); mean 19.375
    assert chain(ONE).item() == 19.375


@pytest.mark.parametrize("dims", [0, 1, 2, 3])
def test_stream_rule_with_equal_streams_is_the_plain_sum(dims):
    torch.manual_seed(0)
    branches = [nd.pointwise(dims, 4, 4), nd.pointwise(dims, 4, 6), nd.pointwise(dims, 6, 6)]
    shortcuts = [None, nd.pointwise(dims, 4, 6), None]
    x = torch.randn(2, 4, *(3,) * dims)
    plain, streams = (
        ResidualChain(
            [
                Residual(branch, rule, shortcut, nn.ReLU())
                for branch, rule, shortcut in zip(branches, rules, shortcuts, strict=True)
            ]
        )
        for rules in (["add"] * 3, [TwoStreams(RuleSpec()) for _ in range(3)])
    )
    torch.testing.assert_close(streams(x), plain(x))
    streams(x).sum().backward()
    assert (streams[0].rule.read.grad != 0).all()


@pytest.mark.parametrize("rule", [Ladder, TwoStreams])
def test_other_kinds_are_copied_exported_and_stacked(rule):
    torch.manual_seed(0)
    chains = [
        ResidualChain([Residual(nn.Linear(3, 3), rule(RuleSpec(dims=0)), act=nn.ReLU()) for _ in range(3)])
        for _ in range(2)
    ]
    x = torch.randn(2, 5, 3)
    expected = torch.stack([chain(member) for chain, member in zip(chains, x, strict=True)])
    assert torch.equal(pickle.loads(pickle.dumps(chains[0]))(x[0]), expected[0])
    program = torch.export.export(chains[0], (x[0],), strict=False).module()
    torch.testing.assert_close(program(x[0]), expected[0])
    parameters, buffers = stack_module_state(chains)

    def run(parameters, buffers, x):
        return functional_call(chains[0], (parameters, buffers), (x,))

    torch.testing.assert_close(vmap(run)(parameters, buffers, x), expected)
