"""Channels that residual sums tie together: shapes, exactness on dead channels, what stays."""

from __future__ import annotations

import pytest
import torch
from pruned_nets import Net, deafen, scramble, silence
from torch import nn

from core.backbones import create_backbone
from core.compress import prune_channels
from core.errors import ConfigError
from core.residual import Residual, RuleSpec, list_rules
from core.residual.rule import PointwiseRule
from core.residual.rules import RULES

SHAPES = {1: (2, 3, 11), 2: (2, 3, 8, 9), 3: (2, 3, 5, 6, 4)}
POINTWISE = [name for name in list_rules() if issubclass(RULES[name], PointwiseRule)]
TIED = {"gated"}
"""Rules with one factor a sample: their graph ties the stream to one channel, so only hidden channels go."""


def example(dims=2, seed=0):
    return torch.randn(SHAPES[dims], generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", POINTWISE)
@pytest.mark.parametrize("dims", [1, 2, 3])
def test_shapes_close_with_every_pointwise_rule(name, dims):
    model = scramble(Net(name, dims))
    before = {key: value.clone() for key, value in model.state_dict().items()}
    pruned = prune_channels(model, example(dims), 0.5)
    small = pruned.model
    assert small(example(dims)).shape == (2, 5)
    assert small.stem.in_channels == 3
    assert [block.branch[0].out_channels for block in small.chain] == [8, 8, 8]
    if name not in TIED:
        assert (small.stem.out_channels, small.fc.in_features) == (4, 6)
        assert [block.rule.spec.channels for block in small.chain] == [4, 6, 6]
    for block in small.chain:
        rule = block.rule
        assert sum(p.numel() for p in rule.parameters()) == rule.parameter_formula()
    assert all(torch.equal(model.state_dict()[key], value) for key, value in before.items()), (
        "the model stays"
    )
    assert pruned.parameters[1] == sum(p.numel() for p in small.parameters()) < pruned.parameters[0]
    assert "fc" in pruned.skipped


@pytest.mark.parametrize("name", POINTWISE)
def test_dead_channels_leave_the_output_as_it_is(name):
    """Half of the channels carry nothing: exactly these go, and the small model computes the same."""
    model = scramble(Net(name))
    first, second, third = model.chain
    for block in model.chain:
        silence(block.branch[:2], [1, 3, 5, 7, 8, 10, 12, 15])
        deafen([block.branch[3]], [1, 3, 5, 7, 8, 10, 12, 15])
    if name not in TIED:
        narrow, wide = [0, 2, 5, 6], [1, 4, 5, 7, 9, 10]
        silence([model.stem, *first.branch[3:]], narrow)
        deafen([first.branch[0], second.branch[0], second.downsample], narrow)
        silence([second.downsample, *second.branch[3:], *third.branch[3:]], wide)
        deafen([third.branch[0], model.fc], wide)
        with torch.no_grad():
            for block, dead in ((first, narrow), (second, wide), (third, wide)):
                for parameter in block.rule.parameters():
                    if parameter.ndim == 1 and len(parameter) > 1:
                        parameter[dead] = 0
                if name == "laurel_lr":
                    silence([block.rule.up], dead)
                    deafen([block.rule.down], dead)
    x = example(seed=3)
    pruned = prune_channels(model, example(), 0.5)
    assert pruned.parameters[1] < 0.6 * pruned.parameters[0]
    expected = model(x)
    assert expected.abs().max() > 0.01
    torch.testing.assert_close(pruned.model(x), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", [name for name in list_rules() if name not in POINTWISE])
def test_rules_with_a_wider_stream_are_refused(name):
    with pytest.raises(
        ConfigError, match=r"chain\.0\.rule: the residual rule \w+ keeps more in its stream"
    ) as caught:
        prune_channels(Net(name).eval(), example(), 0.5)
    assert "\n" not in str(caught.value)


def test_a_rule_whose_tensors_are_unknown_is_refused():
    class Odd(PointwiseRule):
        def __init__(self, spec):
            super().__init__(spec)
            self.table = nn.Parameter(torch.ones(2, spec.width))

        def forward(self, x, update):
            return x + self.table[0][:, None, None] * update

    net = Net()
    net.chain[0].rule = Odd(RuleSpec(channels=8))
    with pytest.raises(ConfigError, match=r"holds a tensor of shape \(2, 8\)"):
        prune_channels(net, example(), 0.5)


def test_flags_of_the_original_are_kept():
    model = Net("layer_scale").train()
    model.chain[0].eval()
    model.stem.weight.requires_grad_(False)
    model.chain[1].rule.gamma.requires_grad_(False)
    small = prune_channels(model, example(), 0.5).model
    assert small.training and not small.chain[0].training and small.chain[1].training
    frozen = {name for name, parameter in small.named_parameters() if not parameter.requires_grad}
    assert frozen == {"stem.weight", "chain.1.rule.gamma"}
    assert all(parameter.grad is None for parameter in small.parameters())


def test_options():
    model = scramble(Net())
    small = prune_channels(model, example(), 0.5, ignored=["stem", "chain.1.branch.0"]).model
    assert small.stem.out_channels == 8, "and with it all of its stream"
    assert [block.branch[0].out_channels for block in small.chain] == [8, 16, 8]
    assert prune_channels(model, example(), 0.3, round_to=4).model.fc.in_features == 8
    ranked = prune_channels(model, example(), 0.5, global_ranking=True)
    assert ranked.model(example()).shape == (2, 5)
    for wrong in ({"ratio": 0.0}, {"ratio": 1.0}, {"ratio": 0.5, "round_to": 0}):
        with pytest.raises(ConfigError, match="must be"):
            prune_channels(model, example(), **wrong)
    with pytest.raises(ConfigError, match=r"no convolution or linear layer 'stm'\. Did you mean 'stem'\?"):
        prune_channels(model, example(), 0.5, ignored=["stm"])
    with pytest.raises(ConfigError, match="no channel can be pruned"):
        prune_channels(nn.Sequential(nn.Linear(4, 3)), torch.ones(2, 4), 0.5)


def test_features_that_are_returned_are_not_narrowed_in_silence():
    class Both(Net):
        def forward(self, x):
            features = self.stem(x)
            return features, self.chain(features)

    with pytest.raises(ConfigError, match=r"would change the model's output from .* wrap it"):
        prune_channels(Both(), example(), 0.5)


def test_a_model_without_a_head_keeps_the_channels_of_its_features():
    net = Net()
    net.fc = nn.Identity()
    small = prune_channels(net, example(), 0.5).model
    assert small(example()).shape == (2, 12)
    assert small.stem.out_channels == 4


@pytest.mark.parametrize(
    "name", ["resnet18", "seresnet18", "resnet18d", "resnet20_cifar", "preact_resnet164"]
)
def test_backbones(name):
    model = create_backbone(name, num_classes=7).eval()
    x = torch.randn(1, 3, 32, 32)
    pruned = prune_channels(model, x, 0.5)
    assert pruned.model(x).shape == (1, 7)
    features = pruned.model.forward_features(x)
    assert [info.channels for info in pruned.model.feature_info] == [f.shape[1] for f in features]
    if name == "resnet18":
        assert pruned.parameters == (11_180_103, 2_800_679)  # 512 x 7 + 7 of the head and the halved layers
    if name == "resnet20_cifar":  # zero-padded shortcuts hold the stream; the hidden half goes
        assert "a shortcut pads its channels with zeros" in pruned.skipped.values()
        assert [info.channels for info in pruned.model.feature_info] == [16, 32, 64]
        assert all(".conv1" in layer for layer in pruned.removed)
    assert any(isinstance(module, Residual) for module in pruned.model.modules())
