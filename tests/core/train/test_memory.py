"""What recomputing saves, and that it changes nothing else."""

import copy
import math

import pytest
import torch
from torch import nn

from core.errors import ConfigError
from core.residual import Residual, ResidualChain, create_rule
from core.train.memory import RECOMPUTE, recompute, saved_bytes
from core.train.stacked import Stacked

WIDTH = 6


def layers():
    return nn.Sequential(
        nn.Linear(WIDTH, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.3), nn.Linear(32, WIDTH)
    )


class Method(Residual):
    """A block whose branch is a method, as the blocks of published networks are."""

    def __init__(self, rule, drop_path):
        super().__init__(None, rule, drop_path=drop_path)
        self.layers = layers()

    def branch(self, x):
        return self.layers(x)


def chain(depth=4, kind="module", rule="skipinit"):
    torch.manual_seed(0)
    rules = [create_rule(rule, channels=WIDTH, index=i + 1, depth=depth, dims=0) for i in range(depth)]
    if kind == "module":
        blocks = [Residual(layers(), r, drop_path=0.2) for r in rules]
    else:
        blocks = [Method(r, 0.2) for r in rules]
    model = ResidualChain(blocks)
    for name, parameter in model.named_parameters():
        if "rule" in name:
            nn.init.constant_(parameter, 0.7)  # a branch scaled by zero would have no gradient
    return model


def points(size=64):
    return torch.randn(size, WIDTH, generator=torch.Generator().manual_seed(2))


def train_once(model):
    """Gradients, buffers, and the bytes that the forward pass keeps."""
    kept = []
    torch.manual_seed(1)

    def forward():
        kept.append(model(points()).square().sum())

    size = saved_bytes(forward, model.parameters())
    kept[0].backward()
    return [p.grad for p in model.parameters()], list(model.buffers()), size, torch.rand(1)


@pytest.mark.parametrize("copied", [False, True])
@pytest.mark.parametrize("rule", ["skipinit", "stochastic_depth"])
@pytest.mark.parametrize("branch", ["module", "method"])
@pytest.mark.parametrize("kind", [kind for kind in RECOMPUTE if kind != "none"])
def test_recomputing_gives_the_same_from_less_memory(kind, branch, rule, copied):
    plain, recomputed = chain(kind=branch, rule=rule), chain(kind=branch, rule=rule)
    assert recompute(recomputed, kind) == {"branches": 4, "segments": 2}[kind]
    if copied:  # as the moving average of the weights does
        original, recomputed = recomputed, copy.deepcopy(recomputed)
        for parameter in original.parameters():
            nn.init.constant_(parameter, torch.nan)
    gradients, buffers, size, next_random = train_once(plain)
    again, buffers_again, smaller, next_again = train_once(recomputed)
    assert all(torch.equal(a, b) for a, b in zip(gradients, again, strict=True))
    assert all(g.abs().sum() > 0 for g in gradients[:2])
    # Running statistics count the batch once, although it was computed twice.
    assert all(torch.equal(a, b) for a, b in zip(buffers, buffers_again, strict=True))
    assert torch.equal(next_random, next_again)
    assert smaller < size / 3
    assert recomputed.state_dict().keys() == plain.state_dict().keys()


def test_segments_grow_with_the_root_of_the_depth():
    """Four times the blocks keep twice the streams, in segments; recomputed branches keep four times as many."""
    sizes = {}
    for depth in (4, 16, 64):
        for kind in RECOMPUTE:
            model = chain(depth, rule="add")
            recompute(model, kind)
            sizes[kind, depth] = saved_bytes(lambda model=model: model(points()), model.parameters())
    stream = 64 * WIDTH * 4
    for depth in (4, 16, 64):
        assert sizes["segments", depth] <= math.sqrt(depth) * stream
        assert sizes["segments", depth] < sizes["branches", depth] < sizes["none", depth] / 3
    assert sizes["segments", 64] == pytest.approx(4 * sizes["segments", 4], rel=0.05)
    assert sizes["branches", 64] == pytest.approx(16 * sizes["branches", 4], rel=0.1)


def test_segments_of_streams_that_are_lists():
    """A stream of several tensors, and a block in the middle that closes it."""

    class Twin(type(create_rule("add", dims=0))):
        def open(self, x):
            return [x, 0.5 * x]

        def prepare(self, stream):
            return stream[0] + stream[1], stream

        def merge(self, update, state):
            return [state[0] + update, state[1] - 0.1 * update]

        def close(self, stream):
            return stream[0] * stream[1]

        def activate(self, act, stream):
            return [act(x) for x in stream]

    def model():
        torch.manual_seed(0)
        spec = create_rule("add", dims=0).spec
        blocks = [Residual(layers(), Twin(spec)) for _ in range(5)]
        return ResidualChain([*blocks[:3], nn.Linear(WIDTH, WIDTH), *blocks[3:]])

    plain, recomputed = model(), model()
    assert recompute(recomputed, "segments") == 2
    a, b = train_once(plain), train_once(recomputed)
    assert all(torch.equal(x, y) for x, y in zip(a[0], b[0], strict=True))
    assert b[2] < a[2] / 3


def test_a_shared_branch_is_one_part():
    branch = layers()
    assert recompute(nn.Sequential(Residual(branch), Residual(branch)), "branches") == 1


def test_bytes_are_counted_once():
    x = torch.randn(10, 100, requires_grad=True)
    weight = torch.randn(100, 100, requires_grad=True)
    assert saved_bytes(lambda: (x * x) + x.exp().sum()) == 8000  # x and its exponential
    assert saved_bytes(lambda: x @ weight.t()) == 4000 + 40000
    assert saved_bytes(lambda: x @ weight.t(), [weight]) == 4000


@pytest.mark.parametrize(
    ("kind", "message"), [("branches", "no residual branches"), ("segments", "no chain of blocks")]
)
def test_recomputing_needs_blocks(kind, message):
    with pytest.raises(ConfigError, match=message):
        recompute(nn.Linear(2, 2), kind)
    with pytest.raises(ConfigError, match="stacked ensembles"):
        recompute(nn.Sequential(Stacked([nn.Linear(2, 2), nn.Linear(2, 2)])), kind)
    assert recompute(nn.Sequential(Stacked([nn.Linear(2, 2), nn.Linear(2, 2)])), "none") == 0
