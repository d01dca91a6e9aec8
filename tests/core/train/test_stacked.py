"""Members that train together are the members that train alone."""

import copy
import pickle

import pytest
import torch
from torch import nn

from core.config import TrainConfig
from core.residual import Residual, create_rule
from core.train.optim import build_optimizer
from core.train.stacked import Stacked

MEMBERS, BATCH, WIDTH = 3, 6, 5


class Net(nn.Module):
    """Three residual blocks with a shared branch, a shared parameter and a constant buffer."""

    def __init__(self, rule, seed):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            shared, other = (
                nn.Sequential(nn.Linear(WIDTH, 7), nn.ReLU(), nn.Linear(7, WIDTH)) for _ in range(2)
            )
            self.blocks = nn.ModuleList(
                Residual(branch, rule=create_rule(rule, channels=WIDTH, index=i, depth=3, dims=0))
                for i, branch in enumerate([shared, other, shared], 1)
            )
            for name, parameter in self.named_parameters():
                if ".rule." in name:  # members must differ here too
                    parameter.data.add_(0.2 * torch.rand_like(parameter))
        other[2].bias = shared[2].bias  # one parameter in two modules
        self.register_buffer("shift", torch.linspace(0, 1, WIDTH), persistent=False)

    def forward(self, x, scale):
        stream = self.blocks[0].rule.open(x + self.shift)
        for block in self.blocks:
            stream = block(stream)
        return self.blocks[-1].rule.close(stream) * scale


def members(rule):
    return [Net(rule, seed) for seed in range(MEMBERS)]


def batches(steps):
    source = torch.Generator().manual_seed(9)
    # Members of very different gradients, so that clipping one must not touch another.
    size = torch.tensor([0.1, 1.0, 10.0]).view(MEMBERS, 1, 1)
    for _ in range(steps):
        x = torch.randn(MEMBERS, BATCH, WIDTH, generator=source)
        y = torch.randn(MEMBERS, BATCH, WIDTH, generator=source)
        yield x * size, torch.ones(MEMBERS, BATCH, 1), y * size


CONFIG = TrainConfig(lr=0.01, optimizer="adamw", weight_decay=0.1)
LIMIT = 3.5


def train_alone(rule, steps):
    """One plain loop for each member; returns the members and the norms before clipping of each step."""
    models, norms = members(rule), []
    for e, model in enumerate(models):
        optimizer = build_optimizer(model, CONFIG)
        for x, scale, y in batches(steps):
            optimizer.zero_grad()
            (model(x[e], scale[e]) - y[e]).square().mean().backward()
            norms.append(nn.utils.clip_grad_norm_(model.parameters(), LIMIT))
            optimizer.step()
    return models, torch.stack(norms).view(MEMBERS, steps)


@pytest.mark.parametrize("batched", [True, False])
@pytest.mark.parametrize("rule", ["add", "skipinit", "layer_scale", "orthogonal", "laurel_lr", "decayed"])
def test_together_equals_alone(rule, batched):
    steps = 4
    stack = Stacked(members(rule), batched=batched)
    optimizer = build_optimizer(stack, CONFIG)
    norms = []
    for x, scale, y in batches(steps):
        optimizer.zero_grad()
        (stack(x, scale) - y).square().mean((1, 2)).sum().backward()
        norms.append(stack.clip_grad_norm(LIMIT))
        optimizer.step()
    alone, expected = train_alone(rule, steps)
    torch.testing.assert_close(torch.stack(norms, 1), expected, rtol=1e-4, atol=1e-6)
    assert (expected > LIMIT).any()
    assert (expected < LIMIT).any(), "some members are clipped and others are not"
    for e, model in enumerate(alone):
        own = dict(stack.member(e).named_parameters())
        for name, parameter in model.named_parameters():
            torch.testing.assert_close(own[name], parameter, rtol=1e-4, atol=2e-6)
            assert not torch.equal(parameter, members(rule)[e].get_parameter(name)), "nothing was trained"


def test_members_are_copies():
    models = members("skipinit")
    stack = Stacked(models)
    x, scale = torch.randn(BATCH, WIDTH), torch.ones(BATCH, 1)
    for e, model in enumerate(models):
        member = stack.member(e)
        assert torch.equal(member(x, scale), model(x, scale))
        assert member.blocks[0].branch is member.blocks[2].branch, "sharing is kept"
    with torch.no_grad():
        member.blocks[0].branch[0].weight.zero_()
        models[0].blocks[0].branch[0].weight.zero_()
    assert stack.member(2).blocks[0].branch[0].weight.abs().sum() > 0
    assert stack.member(0).blocks[0].branch[0].weight.abs().sum() > 0


def test_nothing_is_left_behind_by_a_call():
    """The template holds no weights, neither before nor after a forward and a backward pass."""
    for batched in (True, False):
        stack = Stacked(members("skipinit"), batched)
        stack(torch.randn(MEMBERS, BATCH, WIDTH), torch.ones(MEMBERS, BATCH, 1)).sum().backward()
        assert {type(p) for p in stack._base[0].parameters()} == {nn.Parameter}
        assert sum(p.numel() for p in stack._base[0].parameters()) == 0
        assert copy.deepcopy(stack).member(1).blocks[0].branch[0].weight.shape == (7, WIDTH)


def test_one_member_in_any_mode():
    model = Net("add", 0)
    x, scale = torch.randn(1, BATCH, WIDTH), torch.ones(1, BATCH, 1)
    for batched in (True, False):
        assert torch.equal(Stacked([model], batched)(x, scale)[0], model(x[0], scale[0]))


def test_weights_are_stored_once_and_travel():
    stack = Stacked(members("skipinit"))
    one = sum(p.numel() for p in Net("skipinit", 0).parameters())
    assert sum(p.numel() for p in stack.parameters()) == MEMBERS * one
    x, scale = torch.randn(MEMBERS, BATCH, WIDTH), torch.ones(MEMBERS, BATCH, 1)
    expected = stack(x, scale)
    other = Stacked([Net("skipinit", seed + 10) for seed in range(MEMBERS)])
    assert not torch.equal(other(x, scale), expected)
    other.load_state_dict(stack.state_dict())
    for twin in (other, copy.deepcopy(stack), pickle.loads(pickle.dumps(stack))):
        torch.testing.assert_close(twin(x, scale), expected)


def test_the_type_of_the_constant_buffers_follows():
    stack = Stacked(members("add")).double()
    out = stack(torch.randn(MEMBERS, BATCH, WIDTH).double(), torch.ones(MEMBERS, BATCH, 1).double())
    assert out.dtype == torch.float64


def test_training_mode_reaches_the_members():
    models = [nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5)) for _ in range(2)]
    x = torch.ones(2, 50, 4)
    for batched in (True, False):
        stack = Stacked(models, batched)
        dropped = [(out == 0).float() for out in stack(x)]
        assert 0.3 < torch.stack(dropped).mean() < 0.7
        assert not torch.equal(*dropped), "each member drops its own"
        assert not (stack.eval()(x) == 0).any()
        assert (stack.train()(x) == 0).any()


def test_frozen_parameters_stay_frozen():
    models = members("skipinit")
    for model in models:
        model.blocks[-1].rule.requires_grad_(False)
    frozen = [name for name, p in Stacked(models).named_parameters() if not p.requires_grad]
    assert [name.removeprefix("stacked.") for name in frozen] == ["blocks/2/rule/scale"]
