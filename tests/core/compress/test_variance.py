"""Hidden units replaced by their mean: exactness, sizes, what is refused, and a comparison with magnitudes."""

from __future__ import annotations

import pytest
import torch
from pruned_nets import Net
from torch import nn
from torch.nn import functional

from core import nd
from core.compress import prune_variance
from core.errors import ConfigError, DataError
from core.residual import Residual

DEAD = [1, 4, 6]


def constant(producer, units):
    """Makes units constant, and not zero: they give their bias whatever they read."""
    with torch.no_grad():
        producer.weight[units] = 0
        producer.bias[units] = torch.tensor([0.7, -0.4, 1.3])[: len(units)]


def mlp(bias=True, act="gelu"):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 8), nd.act(act), nn.Linear(8, 3, bias=bias))


def conv(dims, kernel=1, padding=0, norm="batch"):
    torch.manual_seed(0)
    net = nn.Sequential(
        nd.conv(dims)(3, 8, 3, padding=1),
        nd.norm(norm, dims, 8),
        nd.act("silu"),
        nd.conv(dims)(8, 4, kernel, padding=padding, bias=False),
    )
    for name, buffer in net.named_buffers():
        if buffer.is_floating_point():
            buffer.copy_(torch.rand(buffer.shape) + 0.5 * ("var" in name))
    return net.eval()


def inputs(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("bias", [True, False])
def test_constant_units_of_linear_layers_are_removed_exactly(bias):
    net = mlp(bias)
    constant(net[0], DEAD)
    pruned = prune_variance(net, [inputs(9, 5), inputs(4, 5, seed=1)], 3 / 8)
    x = inputs(50, 5, seed=2)
    torch.testing.assert_close(pruned.model(x), net(x), rtol=0, atol=1e-6)
    assert pruned.removed == {"0": 3}
    # three rows of 5 weights and a bias, three columns of 3; a bias of 3 is made if there was none
    assert pruned.parameters[0] - pruned.parameters[1] == 3 * 6 + 3 * 3 - (0 if bias else 3)
    kept = [unit for unit in range(8) if unit not in DEAD]
    assert torch.equal(pruned.model[0].weight, net[0].weight[kept])


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize(("kernel", "norm"), [(1, "batch"), (1, "none"), (3, "batch"), (1, "instance")])
def test_constant_channels_of_convolutions_are_removed_exactly(dims, kernel, norm):
    """A kernel of 1, or a larger one without padding."""
    net = conv(dims, kernel, norm=norm)
    constant(net[0], DEAD)
    pruned = prune_variance(net, [inputs(2, 3, *(5,) * dims)], 3 / 8)
    x = inputs(2, 3, *(6,) * dims, seed=2)
    torch.testing.assert_close(pruned.model(x), net(x), rtol=0, atol=1e-6)
    assert pruned.removed == {"0": 3}
    assert pruned.model[0].out_channels == pruned.model[3].in_channels == 5
    assert pruned.model[3].bias is not None


def test_a_depthwise_convolution_in_between_is_part_of_the_unit():
    """Its zero padding does no harm: the mean is taken behind it."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nd.pointwise(2, 3, 8, bias=True),
        nd.act("relu6"),
        nd.conv(2)(8, 8, 3, padding=1, groups=8),
        nd.act("relu6"),
        nd.pointwise(2, 8, 4),
    )
    with torch.no_grad():
        net[2].weight[DEAD] = 0
        net[2].bias[DEAD] = 0.5
    pruned = prune_variance(net, [inputs(2, 3, 6, 6)], 3 / 8)
    x = inputs(2, 3, 6, 6, seed=2)
    torch.testing.assert_close(pruned.model(x), net(x), rtol=0, atol=1e-6)
    assert pruned.model[2].groups == 5


def test_channels_that_are_flattened_keep_a_mean_for_each_position():
    torch.manual_seed(0)
    net = nn.Sequential(nd.conv(2)(1, 8, 3, padding=1), nd.act("relu"), nn.Flatten(), nn.Linear(8 * 4 * 4, 3))
    constant(net[0], DEAD)
    pruned = prune_variance(net, [inputs(6, 1, 4, 4)], 3 / 8)
    x = inputs(5, 1, 4, 4, seed=2)
    torch.testing.assert_close(pruned.model(x), net(x), rtol=0, atol=1e-6)
    assert pruned.model[3].in_features == 5 * 16


def test_the_mean_minimises_the_error_on_the_calibration_data():
    """On that data the mean output stays the same, whatever is removed."""
    net = mlp(act="relu")
    data = inputs(200, 5)
    small = prune_variance(net, data.split(30), 0.5).model
    torch.testing.assert_close(small(data).mean(0), net(data).mean(0), rtol=0, atol=1e-5)
    removed = prune_variance(net, data.split(30), 0.5).removed
    hidden = functional.relu(net[0](data))
    order = hidden.var(0).argsort()
    assert removed == {"0": 4}
    assert torch.equal(small[0].weight, net[0].weight[sorted(order[4:].tolist())])


def test_padding_is_refused_with_the_reason():
    with pytest.raises(
        ConfigError, match="layer 0 cannot be pruned: 3, which reads it, pads with zeros"
    ) as caught:
        prune_variance(conv(2, 3, padding=1), [inputs(2, 3, 6, 6)], 0.5, layers=["0"])
    assert "\n" not in str(caught.value)
    with pytest.raises(ConfigError, match=r"no channel can be pruned .*pads with zeros"):
        prune_variance(conv(2, 1, padding=1), [inputs(2, 3, 6, 6)], 0.5)


def test_norms_and_functions_that_mix_channels_are_found_out():
    mixing = "what lies behind it mixes channels"
    middles = {
        nn.Softmax(1): mixing,
        nd.norm("layer", 1, 8): mixing,
        nd.norm("group", 1, 8): "a group norm reads it",
    }
    for middle, reason in middles.items():
        net = nn.Sequential(nd.pointwise(1, 3, 8), middle, nd.pointwise(1, 8, 4))
        with pytest.raises(ConfigError, match=f"0: {reason}"):
            prune_variance(net, [inputs(2, 3, 6)], 0.5)


def test_streams_of_residual_sums_are_left_alone():
    torch.manual_seed(0)

    def block():
        return Residual(nn.Sequential(nd.pointwise(2, 8, 16), nd.act("relu"), nd.pointwise(2, 16, 8)))

    net = nn.Sequential(nd.pointwise(2, 3, 8), block(), block(), nd.pointwise(2, 8, 2))
    pruned = prune_variance(net, [inputs(2, 3, 5, 5)], 0.25)
    assert pruned.removed == {"1.branch.0": 4, "2.branch.0": 4}
    assert pruned.skipped.keys() == {"0", "1.branch.2", "2.branch.2", "3"}
    assert "a sum ties it to" in " ".join(pruned.skipped.values())
    assert pruned.skipped["3"] == "it gives the model's output"
    with pytest.raises(ConfigError, match="pads with zeros"):
        prune_variance(Net(), [inputs(2, 3, 6, 6)], 0.5, layers=["chain.0.branch.0"])


def test_a_layer_that_is_used_twice_is_left_alone():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.up, self.down = nn.Linear(4, 8), nn.Linear(8, 4)

        def forward(self, x):
            return self.down(self.up(self.down(self.up(x))))

    with pytest.raises(ConfigError, match="used more than once"):
        prune_variance(Twice(), [inputs(3, 4)], 0.5)


def test_all_layers_together_lose_the_share_and_keep_a_unit_each():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 2))
    with torch.no_grad():
        net[0].weight.mul_(1e-3)
        net[2].weight.mul_(1e3)
        net[0].bias.zero_()
        net[2].bias.zero_()
    pruned = prune_variance(net, [inputs(20, 4)], 0.5, global_ranking=True)
    assert pruned.removed == {"0": 7, "2": 1}
    assert prune_variance(net, [inputs(20, 4)], 0.99).removed == {"0": 7, "2": 7}
    assert prune_variance(net, [inputs(20, 4)], 0.5, layers=["2"]).removed == {"2": 4}


def test_batches_of_pairs_and_user_errors():
    net = mlp()
    x = inputs(9, 5)
    one = prune_variance(net, [(x, torch.zeros(9))], 0.5).model
    torch.testing.assert_close(one(x), prune_variance(net, [x], 0.5).model(x))
    with pytest.raises(DataError, match="at least one batch"):
        prune_variance(net, [], 0.5)
    with pytest.raises(ConfigError, match="fraction must be between 0 and 1, not 1"):
        prune_variance(net, [x], 1.0)
    with pytest.raises(ConfigError, match="no convolution or linear layer 'x'"):
        prune_variance(net, [x], 0.5, layers=["x"])


def digits(count, seed):
    """Four classes of noisy points around fixed centres in 20 dimensions."""
    centres = inputs(4, 20, seed=99)
    labels = torch.randint(4, (count,), generator=torch.Generator().manual_seed(seed))
    return centres[labels] + 1.5 * inputs(count, 20, seed=seed + 1), labels


def test_it_keeps_more_than_pruning_by_magnitude():
    """A trained classifier loses half of its hidden units, without any training afterwards."""
    import torch_pruning as tp

    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(20, 64), nn.GELU(), nn.Linear(64, 32), nn.GELU(), nn.Linear(32, 4))
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    x, y = digits(1000, 0)
    for _ in range(100):
        optimizer.zero_grad()
        functional.cross_entropy(net(x), y).backward()
        optimizer.step()
    held, truth = digits(2000, 7)

    def score(model):
        with torch.no_grad():
            logits = model(held)
        return functional.cross_entropy(logits, truth).item(), (
            logits.argmax(1) == truth
        ).double().mean().item()

    pruned = prune_variance(net, x.split(250), 0.5)
    assert pruned.removed == {"0": 32, "2": 16}
    import copy

    other = copy.deepcopy(net)
    pruner = tp.pruner.MagnitudePruner(
        other,
        x[:2],
        importance=tp.importance.GroupMagnitudeImportance(),
        pruning_ratio=0.5,
        ignored_layers=[other[4]],
        in_channel_groups={},
        out_channel_groups={},
    )
    pruner.step()
    whole, ours, theirs = score(net), score(pruned.model), score(other)
    assert sum(p.numel() for p in other.parameters()) == pruned.parameters[1]
    print("loss, accuracy:", whole, ours, theirs)
    assert whole[1] > 0.85
    assert ours[0] < theirs[0]
    assert ours[1] > theirs[1]
