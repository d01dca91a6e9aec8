"""BC-ResNet: size, formula, norm, every residual rule, the form for inference, and what it refuses."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from core.compress.folding import deployed
from core.errors import ConfigError
from core.residual import list_rules
from core.residual.rules import RULES
from tasks.speech.models.bcresnet import BCResNet, Broadcast, FrequencyMap, SubSpectralNorm


def network(*, rule="add", **options):
    torch.manual_seed(0)
    return BCResNet(**{"classes": 3, "features": 40, "rule": rule, **options})


def trained(model, features=40):
    """Gives norms random scales and the statistics of noise, and returns the model for evaluation."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
            nn.init.uniform_(module.weight, 0.5, 2)
            nn.init.normal_(module.bias, 0, 0.3)
    model(torch.randn(8, 20, features))
    return model.eval()


def ours(state):
    """The layers of a ``state_dict`` in the order of computation, each as its tensors by name."""
    layers = {}
    for key, tensor in state.items():
        layer, _, leaf = key.rpartition(".")
        layers.setdefault(layer, {})[leaf] = tensor
    return iter(layers.values())


def formula(state, features, bands, c):
    """Equation 2 of the paper and its table 1, on the tensors alone."""
    layers = ours(state)

    def norm(x):
        p = next(layers)
        return F.batch_norm(x, p["running_mean"], p["running_var"], p["weight"], p["bias"])

    def conv(x, **how):
        return F.conv2d(x, next(layers)["weight"], **how)

    def f2(x, width, stride, change):
        if change:
            x = F.relu(norm(conv(x)))
        x = conv(x, stride=(stride, 1), padding=(1, 0), groups=width)
        parts = x.reshape(len(x), width * bands, x.shape[2] // bands, x.shape[3])
        return norm(parts).reshape(x.shape)

    def f1(x, width, dilation):
        x = x.mean(2, keepdim=True)
        return conv(F.silu(norm(conv(x, padding=(0, dilation), dilation=(1, dilation), groups=width))))

    x = F.relu(norm(conv(features.transpose(1, 2)[:, None], stride=(2, 1), padding=2)))
    for width, blocks, stride, dilation in (
        (c, 2, 1, 1),
        (3 * c // 2, 2, 2, 2),
        (2 * c, 4, 2, 4),
        (5 * c // 2, 4, 1, 8),
    ):
        for block in range(blocks):
            y = f2(x, width, 1 if block else stride, block == 0)
            y = y + f1(y, width, dilation)
            x = F.relu(x + y if block else y)
    x = conv(x, padding=(0, 2), groups=5 * c // 2)
    x = F.relu(norm(conv(x))).mean((2, 3))
    p = next(layers)
    assert next(layers, None) is None
    return x @ p["weight"].T + p["bias"]


@pytest.mark.parametrize(
    ("tau", "count"), [(1, 9_232), (1.5, 17_154), (2, 27_284), (3, 54_168), (6, 187_812), (8, 321_068)]
)
def test_parameters_are_the_papers(tau, count):
    with torch.device("meta"):
        model = BCResNet(12, 40, tau)
    assert sum(p.numel() for p in model.parameters()) == count
    assert model.output.in_features == 32 * tau


@pytest.mark.parametrize(("tau", "features", "bands"), [(1, 40, 5), (1.5, 80, 5), (1, 16, 2)])
def test_plain_rule_is_the_papers_formula(tau, features, bands):
    model = trained(network(tau=tau, features=features, sub_bands=bands), features)
    x = torch.randn(2, 23, features)
    with torch.no_grad():
        y = model(x)
        torch.testing.assert_close(y, formula(model.state_dict(), x, bands, int(8 * tau)))
        torch.testing.assert_close(y, model.output(model.embed(x)))
    assert y.std(0).min() > 1e-3  # the clips differ, and so do their logits


def test_sub_spectral_norm_takes_each_band_of_each_channel_apart():
    norm = SubSpectralNorm(3, 2)
    nn.init.normal_(norm.norm.weight)
    x = torch.randn(4, 3, 6, 5) * torch.rand(3, 6, 1) + torch.randn(3, 6, 1)
    y = norm(x)
    for channel in range(3):
        for band in range(2):
            part = x[:, channel, 3 * band : 3 * band + 3]
            expected = (part - part.mean()) / (part.var(correction=0) + 1e-5).sqrt()
            weight = norm.norm.weight[2 * channel + band]
            torch.testing.assert_close(y[:, channel, 3 * band : 3 * band + 3], weight * expected)


def test_every_frequency_gets_the_same_and_whole_channels_are_dropped():
    block = next(m for m in network(dropout=0.5).modules() if isinstance(m, Broadcast))
    x = torch.randn(2, 8, 20, 9)
    update = block.branch(x)
    assert update.shape == x.shape
    assert torch.equal(update, update[:, :, :1].expand_as(update))
    zero = (update == 0).flatten(2)
    assert zero.any()
    assert not zero.all()
    assert torch.equal(zero.any(2), zero.all(2))


@pytest.mark.parametrize("rule", list_rules())
def test_every_rule_trains(rule):
    plain, model = network(features=8, sub_bands=1), network(features=8, sub_bands=1, rule=rule)
    x = torch.randn(2, 9, 8)
    model(x).square().sum().backward()
    gradients = {name: p.grad for name, p in model.named_parameters()}
    assert not [name for name, gradient in gradients.items() if gradient is None]
    assert all(gradient.isfinite().all() for gradient in gradients.values())
    assert gradients["stem.0.weight"].any()
    if RULES[rule].plain_at_init:
        model.load_state_dict(plain.state_dict(), strict=False)
        torch.testing.assert_close(model.eval()(x), plain.eval()(x))


def test_rules_count_the_sums_in_the_order_of_their_shortcuts():
    rules = [m.spec for m in network(rule="layer_scale").modules() if type(m).__name__ == "LayerScale"]
    assert sorted(spec.index for spec in rules) == list(range(1, 21))  # 12 inner sums, 8 outer ones
    assert {spec.depth for spec in rules} == {20}
    outer, inner = (m.rule.spec for m in network().stages[0][1].modules() if hasattr(m, "rule"))
    assert (outer.index, inner.index) == (2, 3)


@pytest.mark.parametrize("features", [40, 80])
def test_form_for_inference_is_equal(features):
    model = trained(network(features=features), features)
    fast, done = deployed(model)
    x = torch.randn(2, 31, features)
    with torch.no_grad():
        torch.testing.assert_close(fast(x), model(x), atol=1e-5, rtol=0)
    assert (done.merged, done.folded) == (12, 1 + 4 + 12 + 1)
    assert not [m for m in fast.modules() if isinstance(m, nn.BatchNorm2d)]
    assert sum(isinstance(m, FrequencyMap) for m in fast.modules()) == 12


def test_program_takes_any_number_of_clips():
    model, _ = deployed(trained(network()))
    batch = torch.export.Dim("batch")
    program = torch.export.export(model, (torch.randn(2, 11, 40),), dynamic_shapes=({0: batch},)).module()
    x = torch.randn(5, 11, 40)
    torch.testing.assert_close(program(x), model(x))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"features": 30}, r"sub_bands 5 .* 15, 8, 4, 4 for 30 features; give a multiple of 40"),
        ({"sub_bands": 0}, "sub_bands 0"),
        ({"tau": 1.1}, "tau 1.1"),
        ({"tau": 0}, "tau 0"),
        ({"dropout": 1.0}, "dropout 1.0"),
        ({"rule": "nonsense"}, "nonsense"),
        ({"rule": "scaled", "rule_options": {"speed": 1}}, "speed"),
    ],
)
def test_what_cannot_be_built_is_named(options, message):
    with pytest.raises(ConfigError, match=message):
        network(**options)
