"""CARN and CARN-M: size, reach, cascades, scales, and every residual rule in them."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from core.errors import ConfigError
from core.residual import list_rules
from core.residual.rules import RULES
from tasks.super_resolution.models.carn import CARN

MOBILE = {"groups": 4, "recursive": True}
MEAN = torch.tensor([0.4488, 0.4371, 0.4040])[:, None, None]


def small(**options):
    torch.manual_seed(0)
    return CARN(**{"width": 8, **options})


@pytest.mark.parametrize(
    ("scales", "carn", "mobile"),
    [
        ((2, 3, 4), 1_591_963, 414_811),
        ((2,), 964_187, 257_051),
        ((3,), 1_148_827, 303_451),
        ((4,), 1_111_899, 294_171),
    ],
)
def test_number_of_parameters_is_the_released_networks(scales, carn, mobile):
    with torch.device("meta"):
        assert sum(p.numel() for p in CARN(scales).parameters()) == carn
        assert sum(p.numel() for p in CARN(scales, **MOBILE).parameters()) == mobile


@pytest.mark.parametrize("options", [{}, MOBILE])
@pytest.mark.parametrize("scale", [2, 3, 4, 8])
def test_halo_is_what_a_pixel_depends_on(options, scale):
    model = small(scales=(scale,), channels=1, width=4, **options).double()
    for weight in model.parameters():
        weight.data.abs_()  # nothing cancels and no ReLU is closed
    x = torch.rand(1, 1, 47, 47, dtype=torch.float64, requires_grad=True)
    rows = slice(23 * scale, 24 * scale)
    model(x)[0, 0, rows, rows].sum().backward()
    seen = x.grad[0, 0].nonzero()
    assert model.halo == 21
    assert seen.min() == 23 - 21
    assert seen.max() == 23 + 21


@pytest.mark.parametrize("options", [{}, MOBILE])
def test_matches_the_formulas_of_the_paper(options):
    model = small(**options)
    x = torch.rand(2, 3, 6, 5)

    def local(block, inner):
        seen = [inner]
        for i in range(3):
            (unit,) = block.steps[0 if options else i]
            seen.append(torch.relu(inner + unit.branch(inner)))
            inner = torch.relu(block.fuse[i](torch.cat(seen, 1)))
        return inner

    y = model.entry(x - MEAN)
    seen = [y]
    for i in range(3):
        seen.append(local(model.body.steps[i], y))
        y = torch.relu(model.body.fuse[i](torch.cat(seen, 1)))
    first, _, _, second, _, _ = model.upsample["4"]
    y = F.pixel_shuffle(torch.relu(first(y)), 2)
    y = F.pixel_shuffle(torch.relu(second(y)), 2)
    torch.testing.assert_close(model(x, 4), model.exit(y) + MEAN)


def test_groups_and_recursion_shape_the_units():
    def layers(**options):
        block = small(**options).body.steps[0]
        return len(block.steps), [
            layer.groups for layer in block.steps[0][0].branch if hasattr(layer, "groups")
        ]

    assert layers() == (3, [1, 1])
    assert layers(groups=4) == (3, [4, 4, 1])
    assert layers(recursive=True) == (1, [1, 1, 1])


def test_scale_is_the_first_unless_given():
    model = small(scales=(3, 2))
    x = torch.rand(1, 3, 4, 5)
    assert model(x).shape == (1, 3, 12, 15)
    assert model(x, 2).shape == (1, 3, 8, 10)
    with pytest.raises(ConfigError, match="enlarges by 3, 2, not by 4"):
        model(x, 4)


def test_mean_colour_is_fixed():
    frozen = [name for name, weight in small().named_parameters() if not weight.requires_grad]
    assert frozen == ["sub_mean.weight", "sub_mean.bias", "add_mean.weight", "add_mean.bias"]


@pytest.mark.parametrize("options", [{}, MOBILE])
@pytest.mark.parametrize("rule", list_rules())
def test_every_rule_trains(rule, options):
    plain, model = small(scales=(2,), **options), small(scales=(2,), rule=rule, **options)
    x = torch.rand(2, 3, 8, 8)
    y = model(x)
    y.square().mean().backward()
    assert y.shape == (2, 3, 16, 16)
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert all(gradient.isfinite().all() for gradient in gradients)
    assert sum(gradient.abs().sum() for gradient in gradients) > 0
    if RULES[rule].plain_at_init:
        model.load_state_dict(plain.state_dict(), strict=False)
        torch.testing.assert_close(model.eval()(x), plain.eval()(x))


def test_wrong_options_are_named():
    with pytest.raises(ConfigError, match="groups must divide width"):
        CARN(width=6, groups=4)
    with pytest.raises(ConfigError, match="scales is empty"):
        CARN(scales=())
    with pytest.raises(ConfigError, match="scale must be one of"):
        CARN(scales=(2, 6))
