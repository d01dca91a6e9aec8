"""LAMB against timm's, and that members of a stack do not feel each other."""

import copy

import pytest
import torch
from timm.optim import Lamb as TimmLamb
from torch import nn

from core.config import TrainConfig
from core.train.lamb import Lamb
from core.train.optim import build_optimizer
from core.train.stacked import Stacked


def net(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.LayerNorm(8), nn.Linear(8, 2))


def descend(model, optimizer, step, size=1.0):
    source = torch.Generator().manual_seed(step)
    x, y = torch.randn(12, 5, generator=source), size * torch.randn(12, 2, generator=source)
    optimizer.zero_grad()
    (model(x) - y).square().mean().backward()
    optimizer.step()


@pytest.mark.parametrize("decay", [0.0, 0.02])
def test_each_step_is_timms(decay):
    ours, theirs = net(), net()
    a = build_optimizer(ours, TrainConfig(optimizer="lamb", lr=0.05, weight_decay=decay))
    split = [[p for p in theirs.parameters() if (p.ndim > 1) is matrix] for matrix in (True, False)]
    groups = [{"params": split[0], "weight_decay": decay, "always_adapt": True}]
    groups.append({"params": split[1], "weight_decay": 0.0})
    b = TimmLamb(groups, lr=0.05, max_grad_norm=None, foreach=False)
    for step in range(6):
        descend(ours, a, step)
        descend(theirs, b, step)
        for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-6)
    assert not torch.equal(ours[0].weight, net()[0].weight)


def test_members_of_a_stack_step_alone():
    config = TrainConfig(optimizer="lamb", lr=0.05, weight_decay=0.02)
    alone = [net(seed) for seed in range(3)]
    with torch.no_grad():
        alone[1][0].weight.mul_(100)  # one norm over all members would drown the others
    stack = Stacked(alone)
    together = build_optimizer(stack, config)
    optimizers = [build_optimizer(model, config) for model in alone]
    for step in range(4):
        source = torch.Generator().manual_seed(step)
        x, y = torch.randn(3, 12, 5, generator=source), torch.randn(3, 12, 2, generator=source)
        together.zero_grad()
        (stack(x) - y).square().mean((1, 2)).sum().backward()
        together.step()
        for e, (model, optimizer) in enumerate(zip(alone, optimizers, strict=True)):
            optimizer.zero_grad()
            (model(x[e]) - y[e]).square().mean().backward()
            optimizer.step()
    for e, model in enumerate(alone):
        own = dict(stack.member(e).named_parameters())
        for name, parameter in model.named_parameters():
            torch.testing.assert_close(own[name], parameter, rtol=1e-4, atol=1e-6)


def test_zero_weights_move_and_the_state_travels():
    layer = nn.Linear(3, 2, bias=False)
    nn.init.zeros_(layer.weight)
    optimizer = Lamb(layer.parameters(), lr=0.1)
    layer.weight.grad = torch.ones(2, 3)
    optimizer.step()
    torch.testing.assert_close(layer.weight, torch.full((2, 3), -0.1))  # the ratio is 1
    twin = nn.Linear(3, 2, bias=False)
    twin.load_state_dict(layer.state_dict())
    other = Lamb(twin.parameters(), lr=0.7)
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for model, each in ((layer, optimizer), (twin, other)):
        model.weight.grad = torch.arange(6.0).view(2, 3)
        each.step()
    assert torch.equal(layer.weight, twin.weight)


def test_a_closure_is_called():
    layer = nn.Linear(1, 1)
    optimizer = Lamb(layer.parameters())

    def closure():
        loss = layer(torch.ones(1, 1)).sum()
        loss.backward()
        return loss.item()

    assert isinstance(optimizer.step(closure), float)
