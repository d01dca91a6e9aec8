"""DnCNN: size, what it computes, its reach, its initialisation, and every residual rule in it."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from core.compress.folding import deploy
from core.errors import ConfigError
from core.residual import list_rules
from core.residual.rules import RULES
from tasks.denoising.models.dncnn import DnCNN


def small(**options):
    torch.manual_seed(0)
    return DnCNN(**{"layers": 4, "width": 8, **options})


def count(model):
    return sum(p.numel() for p in model.parameters())


# Counts of the released networks: channels, layers, variant.
PUBLISHED = [
    (1, 17, "matconvnet", 556_097),
    (1, 17, "kair", 557_057),
    (1, 20, "kair", 668_225),
    (3, 20, "kair", 670_531),
    (3, 17, "kair", 559_363),
    (1, 17, "folded", 555_137),
    (1, 20, "folded", 665_921),
    (3, 20, "folded", 668_227),
    (1, 17, "plain", 556_032),
    (1, 20, "plain", 667_008),
    (1, 17, "pytorch", 556_096),
]


@pytest.mark.parametrize(("channels", "layers", "variant", "expected"), PUBLISHED)
def test_number_of_parameters_is_the_released_networks(channels, layers, variant, expected):
    with torch.device("meta"):
        assert count(DnCNN(channels, layers, variant=variant)) == expected


@pytest.mark.parametrize("variant", ["matconvnet", "kair"])
def test_folded_for_inference_it_has_the_size_of_the_folded_release(variant):
    assert count(deploy(DnCNN(variant=variant))) == 555_137


def test_it_returns_the_image_minus_what_its_layers_predict():
    """Against the layers of the paper's figure 1, written out."""
    model = small(channels=3).eval()
    for norm in (m for m in model.modules() if isinstance(m, nn.BatchNorm2d)):
        norm.running_mean.uniform_(-0.1, 0.1)
        norm.running_var.uniform_(0.5, 2)
    y = torch.rand(2, 3, 11, 9)
    first, _, *body, last = model.layers
    z = first(y).relu()
    for conv, norm in zip(body[0::3], body[1::3], strict=True):
        assert conv.bias is None and norm.eps == 1e-4
        variance = norm.running_var[:, None, None] + 1e-4
        z = (conv(z) - norm.running_mean[:, None, None]) / variance.sqrt()
        z = (z * norm.weight[:, None, None] + norm.bias[:, None, None]).relu()
    torch.testing.assert_close(model(y), y - last(z))
    assert (model(y) - y).abs().max() > 1e-3


def test_the_output_is_not_clipped():
    model = small().eval()
    with torch.no_grad():
        model.layers[-1].weight.zero_()
        model.layers[-1].bias.fill_(0.75)
    torch.testing.assert_close(model(torch.full((1, 1, 5, 5), 0.5)), torch.full((1, 1, 5, 5), -0.25))


@pytest.mark.parametrize("layers", [3, 5])
def test_halo_is_what_a_pixel_depends_on(layers):
    model = small(layers=layers).double().eval()
    for weight in model.parameters():
        weight.data.abs_()  # nothing cancels and no ReLU is closed
    x = torch.rand(1, 1, 25, 25, dtype=torch.float64, requires_grad=True)
    model(x)[0, 0, 12, 12].backward()
    seen = x.grad[0, 0].nonzero()
    assert model.halo == layers
    assert (seen.min(), seen.max()) == (12 - layers, 12 + layers)


def test_new_weights_have_the_authors_distribution():
    torch.manual_seed(0)
    model = DnCNN(1, 7, 64)
    deviation = math.sqrt(2 / (9 * 64))
    convs = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    assert (len(convs), len(norms)) == (7, 5)
    for conv in convs:
        # Five standard errors of mean and deviation.
        n = conv.weight.numel()
        assert abs(conv.weight.mean()) < 5 * deviation / math.sqrt(n)
        assert conv.weight.std().item() == pytest.approx(deviation, rel=5 / math.sqrt(2 * n))
        assert conv.bias is None or not conv.bias.any()
    scales = torch.cat([norm.weight.detach() for norm in norms])
    assert scales.abs().min().item() == pytest.approx(0.025)
    assert 0.4 < (scales < 0).float().mean() < 0.6
    # Of N(0, 0.0589), a share of 0.329 lies within 0.025 and is pushed to it.
    pushed = (scales.abs() < 0.025 + 1e-6).float().mean().item()
    inside = math.erf(0.025 / deviation / math.sqrt(2))
    assert pushed == pytest.approx(inside, abs=4 * math.sqrt(inside * (1 - inside) / len(scales)))
    assert all(not norm.bias.any() for norm in norms)


def test_momentum_is_the_norms():
    norms = [m for m in small(momentum=0.3).modules() if isinstance(m, nn.BatchNorm2d)]
    assert [norm.momentum for norm in norms] == [0.3, 0.3]


@pytest.mark.parametrize("rule", list_rules())
def test_every_rule_trains(rule):
    plain, model = small(channels=3), small(channels=3, rule=rule)
    x = torch.rand(2, 3, 12, 10)
    y = model(x)
    (y - x.roll(1, 3)).square().mean().backward()
    assert y.shape == x.shape
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert all(gradient.isfinite().all() for gradient in gradients)
    assert sum(gradient.abs().sum() for gradient in gradients) > 0
    if RULES[rule].plain_at_init:
        model.load_state_dict(plain.state_dict(), strict=False)
        torch.testing.assert_close(model.eval()(x), plain.eval()(x))


def test_options_of_a_rule_reach_it():
    plain, scaled = small().eval(), small(rule="scaled", rule_options={"scale": 0.5}).eval()
    x = torch.rand(1, 1, 8, 8)
    torch.testing.assert_close(scaled(x) - x, 0.5 * (plain(x) - x))


def test_unknown_names_are_told():
    with pytest.raises(ConfigError, match=r"unknown variant of DnCNN 'matconv'. Did you mean 'matconvnet'"):
        DnCNN(variant="matconv")
    with pytest.raises(ConfigError, match="nonsense"):
        DnCNN(rule="nonsense")
    with pytest.raises(ConfigError, match="speed"):
        DnCNN(rule="scaled", rule_options={"speed": 1})


def test_too_few_layers_are_told():
    with pytest.raises(ConfigError, match=r"--model.layers 2 is too few for DnCNN: .* use 3 or more$"):
        DnCNN(layers=2)
    assert DnCNN(layers=3, width=4).halo == 3
