"""What gates do, save and cost, on models whose gates and multiply-accumulates are known by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from core.errors import ConfigError
from core.residual import Residual, ResidualChain, create_rule
from core.residual.gating import gate_cost, gate_usage, saved_macs


class Method(Residual):
    """A block whose branch is a method and no module, with a batch norm."""

    def __init__(self, rule, channels, out_channels):
        shortcut = None if channels == out_channels else nn.Conv2d(channels, out_channels, 1, bias=False)
        super().__init__(None, rule, shortcut)
        self.conv = nn.Conv2d(channels, out_channels, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(out_channels)

    def branch(self, x):
        return self.bn(self.conv(x))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        rules = [create_rule("gated", channels=c, index=i, depth=3) for i, c in ((1, 4), (2, 4), (3, 6))]
        self.stem = nn.Conv2d(2, 4, 1, bias=False)
        self.blocks = ResidualChain(
            [
                Residual(nn.Conv2d(4, 4, 3, padding=1, bias=False), rules[0]),
                Residual(nn.Conv2d(4, 4, 1, bias=False), "add"),
                Method(rules[1], 4, 4),
                Method(rules[2], 4, 6),
            ]
        )

    def forward(self, x):
        return self.blocks(self.stem(x))


# Per sample, at 5 x 7 positions.
SPACE = 35
BRANCHES = {"blocks.0": SPACE * 4 * 4 * 9, "blocks.2": SPACE * 4 * 4 * 9, "blocks.3": SPACE * 4 * 6 * 9}
REST = SPACE * (2 * 4 + 4 * 4 + 4 * 6)  # stem, ungated block, shortcut
GATES = 2 * (4 * 10 + 10) + (6 * 10 + 10)


@pytest.fixture
def net():
    torch.manual_seed(0)
    return Net()


def images(batch=8):
    return torch.randn(batch, 2, 5, 7, generator=torch.Generator().manual_seed(1))


def set_gate(block, bias, weight=0.0):
    """With a weight, the gate opens for some of the samples."""
    gate = block.rule.gate
    nn.init.constant_(gate.logit.bias, bias)
    nn.init.constant_(gate.logit.weight, weight)


def test_new_gates_are_open_and_save_nothing(net):
    assert gate_usage(net, images()) == {"blocks.0": 1, "blocks.2": 1, "blocks.3": 1}
    macs = saved_macs(net, images())
    assert macs.by_block == {"blocks.0": 0, "blocks.2": 0, "blocks.3": 0}
    assert macs.total == 8 * (sum(BRANCHES.values()) + REST + GATES)
    assert macs.share == 0


def test_closed_gates_save_their_branch_and_nothing_else(net):
    set_gate(net.blocks[0], -1)
    set_gate(net.blocks[3], -1)
    assert gate_usage(net, images()) == {"blocks.0": 0, "blocks.2": 1, "blocks.3": 0}
    macs = saved_macs(net, images())
    assert macs.by_block == {
        "blocks.0": 8 * BRANCHES["blocks.0"],
        "blocks.2": 0,
        "blocks.3": 8 * BRANCHES["blocks.3"],
    }
    assert macs.saved == 8 * (BRANCHES["blocks.0"] + BRANCHES["blocks.3"])
    assert macs.share == pytest.approx(macs.saved / macs.total)
    # A network without these branches computes the same and costs that much less.
    x = images()
    expected = net.eval().stem(x)
    for block in net.blocks[1:3]:
        expected = block(expected)
    torch.testing.assert_close(net(x), net.blocks[3].downsample(expected))


def test_gates_decide_sample_by_sample(net):
    x, block = images(32), net.blocks[0]
    nn.init.normal_(block.rule.gate.logit.weight)
    hidden = torch.relu(block.rule.gate.hidden(net.stem(x).mean((2, 3))))
    scores = (hidden @ block.rule.gate.logit.weight[0]).sort().values
    nn.init.constant_(block.rule.gate.logit.bias, -(scores[11] + scores[12]).item() / 2)  # 12 closed, 20 open
    assert gate_usage(net, x)["blocks.0"] == 20 / 32
    assert saved_macs(net, x).by_block["blocks.0"] == 12 * BRANCHES["blocks.0"]
    assert saved_macs(block, net.stem(x)).by_block == {"": 12 * BRANCHES["blocks.0"]}  # a block on its own


def test_measuring_leaves_the_model_alone(net):
    net.train()
    net.blocks[2].eval()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    saved_macs(net, images())
    with pytest.raises(RuntimeError), gate_cost(net):
        net(torch.zeros(1, 3, 5, 7))
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert net.training and not net.blocks[2].training and net.blocks[3].training
    assert not any(module._forward_hooks for module in net.modules())


def test_cost_is_the_mean_probability_with_its_gradient(net):
    for index, bias in ((0, 2.0), (2, 0.5), (3, -1.0)):
        set_gate(net.blocks[index], bias)
    with gate_cost(net) as cost:
        net(images())
    probabilities = [1 / (1 + math.exp(-bias)) for bias in (2.0, 0.5, -1.0)]
    assert cost.mean().item() == pytest.approx(sum(probabilities) / 3, rel=1e-6)
    cost.mean().backward()
    for index, p in zip((0, 2, 3), probabilities, strict=True):
        assert net.blocks[index].rule.gate.logit.bias.grad.item() == pytest.approx(p * (1 - p) / 3, rel=1e-5)


def test_cost_alone_closes_the_gates(net):
    optimiser = torch.optim.SGD([p for name, p in net.named_parameters() if "gate" in name], lr=5.0)
    for _ in range(100):
        optimiser.zero_grad()
        with gate_cost(net) as cost:
            net(images())
        cost.mean().backward()
        optimiser.step()
    assert set(gate_usage(net, images()).values()) == {0.0}


def test_models_without_gates_are_named():
    plain = ResidualChain([Residual(nn.Linear(3, 3), dims=0)])
    for measure in (gate_usage, saved_macs):
        with pytest.raises(
            ConfigError, match="the model has no gates: build it with the residual rule 'gated'"
        ):
            measure(plain, torch.zeros(1, 3))
    with pytest.raises(ConfigError, match="no gates"), gate_cost(plain):
        pass
    gated = ResidualChain([Residual(nn.Linear(3, 3), "gated", channels=3, dims=0)])
    with gate_cost(gated) as cost, pytest.raises(ConfigError, match="no gate has decided yet"):
        cost.mean()
