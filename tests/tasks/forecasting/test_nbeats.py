"""N-BEATS against numbers of its authors' implementation, the paper's formulas and its parameter counts."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from core.residual import list_rules
from tasks.forecasting.config import GenericConfig, InterpretableConfig
from tasks.forecasting.losses import LOSSES
from tasks.forecasting.models.nbeats import SeasonalityBasis, TrendBasis, build_nbeats

FIXTURES = Path(__file__).parent / "fixtures"


def small_generic(**options):
    torch.manual_seed(0)
    return build_nbeats(GenericConfig(blocks=3, width=8, layers=2, **options), 12, 4)


def small_interpretable(**options):
    torch.manual_seed(0)
    config = InterpretableConfig(trend_width=8, seasonality_width=8, layers=2, **options)
    return build_nbeats(config, 12, 4)


def inputs(batch=5, padded=3):
    """Windows of which the second starts with padding."""
    x = 10 + torch.randn(batch, 12, generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(x)
    mask[1, :padded] = 0
    return x * mask, mask


# ---------------------------------------------------------------- the authors' numbers


def test_forecasts_of_the_authors_implementation():
    """Weights, inputs and outputs of an interpretable network, L = 18, H = 6, two windows padded."""
    numbers = load_file(FIXTURES / "nbeats_interpretable.safetensors")
    x, mask, expected = (numbers.pop(name) for name in ("input", "mask", "output"))
    model = build_nbeats(InterpretableConfig(trend_width=16, seasonality_width=32), 18, 6)
    missing, unexpected = model.load_state_dict(numbers, strict=False)
    assert not unexpected
    assert all(name.split(".")[1] in "1245" for name in missing), "the other blocks share these weights"
    assert (mask.sum(1) < 18).sum() == 2
    assert (model(x, mask) - expected).abs().max() < 1e-5


@pytest.mark.parametrize(
    ("name", "kind", "seasonality"),
    [
        ("smape_1", "smape", 1),
        ("smape_2", "smape", 4),
        ("mape", "mape", 1),
        ("mase_freq1", "mase", 1),
        ("mase_freq4", "mase", 4),
    ],
)
def test_losses_of_the_authors_implementation(name, kind, seasonality):
    numbers = json.loads((FIXTURES / "nbeats_losses.json").read_text())
    tensors = [torch.tensor(numbers[part]) for part in ("forecast", "target", "mask", "insample")]
    value = LOSSES[kind](*tensors, seasonality)
    assert value.item() == pytest.approx(numbers["losses"][name], rel=1e-5)


@pytest.mark.parametrize(
    ("lookback", "horizon", "layers", "count"),
    [
        (12, 6, 4, 24_115_740),
        (42, 6, 4, 25_038_240),
        (126, 18, 4, 27_805_920),
        (336, 48, 4, 34_725_120),
        (48, 24, 2, 9_740_400),
    ],
)
def test_parameter_counts_of_the_generic_network(lookback, horizon, layers, count):
    with torch.device("meta"):
        model = build_nbeats(GenericConfig(layers=layers), lookback, horizon)
    assert sum(p.numel() for p in model.parameters()) == count


@pytest.mark.parametrize(("lookback", "horizon", "count"), [(36, 18, 12_946_986), (42, 6, 12_911_634)])
def test_parameter_counts_of_the_interpretable_network(lookback, horizon, count):
    with torch.device("meta"):
        model = build_nbeats(InterpretableConfig(), lookback, horizon)
    assert sum(p.numel() for p in model.parameters()) == count


# ---------------------------------------------------------------- the paper's formulas


def test_doubly_residual_stacking_by_hand():
    """Section 3.2: each block reads what the ones before have not explained; the forecasts add up."""
    model = small_generic()
    x, mask = inputs()
    left, forecast = x.flip(1), x[:, -1:].expand(-1, 4)
    for block in model.blocks:
        hidden = left
        for layer in block.branch.layers:
            hidden = (layer.weight @ hidden.T + layer.bias[:, None]).T.clamp_min(0)
        theta = block.branch.theta(hidden)
        left = (left - theta[:, :12]) * mask.flip(1)
        forecast = forecast + theta[:, 12:]
    torch.testing.assert_close(model(x, mask), forecast)


def test_the_trend_basis_spans_the_polynomials_of_its_degree():
    basis = TrendBasis(lookback=20, horizon=8, degree=2)
    assert basis.num_coefficients == 6
    rng = np.random.default_rng(0)
    for side, length in (("forecast", 8), ("backcast", 20)):
        rows = getattr(basis, side).numpy()
        assert rows.shape == (3, length)
        for degree in range(4):
            target = np.polyval(rng.normal(size=degree + 1), np.arange(length))
            residual = np.linalg.lstsq(rows.T, target, rcond=None)[1]
            assert (residual[0] < 1e-4) == (degree <= 2), (side, degree)
    backcast, forecast = basis(torch.tensor([[1.0, 2.0, 4.0, 0.0, 0.0, 0.0]]))
    assert not backcast.any()
    time = torch.arange(8) / 8
    torch.testing.assert_close(forecast[0], 1 + 2 * time + 4 * time**2)


def test_the_seasonality_basis_has_the_period_of_the_horizon():
    basis = SeasonalityBasis(lookback=18, horizon=6, harmonics=1)
    assert basis.num_coefficients == 4 * 3, "frequencies 0, 1 and 2: below half the horizon"
    torch.testing.assert_close(basis.backcast[:, :12], basis.backcast[:, 6:], atol=1e-5, rtol=0)
    time = torch.arange(6) / 6
    waves = [f(2 * torch.pi * k * time) for f in (torch.cos, torch.sin) for k in range(3)]
    torch.testing.assert_close(basis.forecast, torch.stack(waves))
    # The backcast is read newest first: cosines are the same, sines change their sign.
    torch.testing.assert_close(basis.backcast[:3, :6], basis.forecast[:3], atol=1e-6, rtol=0)
    torch.testing.assert_close(basis.backcast[3:, :6], -basis.forecast[3:], atol=1e-6, rtol=0)


def test_more_harmonics_and_the_shortest_horizon():
    assert SeasonalityBasis(6, 6, harmonics=2).num_coefficients == 4 * 5, "0, 1, 1.5, 2, 2.5"
    assert SeasonalityBasis(2, 1, harmonics=1).num_coefficients == 4, "a constant alone"


def test_blocks_of_a_stack_share_their_weights():
    model = small_interpretable()
    branches = [block.branch for block in model.blocks]
    assert branches[0] is branches[1] is branches[2]
    assert branches[3] is branches[4] is branches[5]
    assert branches[0] is not branches[3]


# ---------------------------------------------------------------- behaviour


@pytest.mark.parametrize("build", [small_generic, small_interpretable])
@pytest.mark.parametrize("scale", ["none", "window_max"])
def test_components_add_up(build, scale):
    model, (x, mask) = build(scale=scale), inputs()
    parts = model.components(x, mask)
    assert len(parts) == 1 + len(model.blocks)
    torch.testing.assert_close(torch.stack(parts).sum(0), model(x, mask))
    torch.testing.assert_close(parts[0], x[:, -1:].expand(-1, 4))


@pytest.mark.parametrize("scale", ["none", "window_max"])
@pytest.mark.parametrize("rule", ["add", "skipinit", "orthogonal"])
def test_values_under_the_mask_never_matter(rule, scale):
    model, (x, mask) = small_generic(rule=rule, scale=scale), inputs()
    rubbish = torch.where(mask.bool(), x, torch.tensor(1e4))
    assert not torch.equal(rubbish, x)
    assert torch.equal(model(rubbish, mask), model(x, mask))


def test_the_mask_matters():
    model, (x, mask) = small_generic(), inputs()
    assert not torch.allclose(model(x, torch.ones_like(mask))[1], model(x, mask)[1])


def test_window_max_is_scale_equivariant():
    (x, mask), factor = inputs(), torch.tensor([[1e-6], [0.1], [3.0], [1e5], [7e8]])
    scaled = small_generic(scale="window_max")
    torch.testing.assert_close(scaled(x * factor, mask), scaled(x, mask) * factor, rtol=1e-4, atol=0)
    plain = small_generic()
    assert not torch.allclose(plain(x * factor, mask), plain(x, mask) * factor, rtol=1e-2)
    zeros = torch.zeros_like(x)
    assert torch.isfinite(scaled(zeros, mask)).all()


@pytest.mark.parametrize("rule", list_rules())
def test_every_residual_rule_runs_and_learns(rule):
    model, (x, mask) = small_generic(rule=rule), inputs()
    model.eval()  # stochastic depth drops blocks in training
    torch.testing.assert_close(torch.stack(model.components(x, mask)).sum(0), model(x, mask))
    out = model.train()(x, mask)
    out.square().mean().backward()
    assert torch.isfinite(out).all()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, name
    # The last rule has no reader: it is not trained, so that nothing waits for its gradient.
    assert not any(p.requires_grad for p in model.blocks[-1].rule.parameters())


def test_rules_differ():
    x, mask = inputs()
    out = {rule: small_generic(rule=rule)(x, mask) for rule in ("add", "skipinit", "orthogonal")}
    assert not torch.allclose(out["add"], out["orthogonal"])
    # A block scaled to zero explains nothing, so that every block reads the whole input.
    model = small_generic(rule="skipinit")
    stream = x.flip(1)
    expected = x[:, -1:] + sum(block.branch(stream)[1] for block in model.blocks)
    torch.testing.assert_close(out["skipinit"], expected)


# ---------------------------------------------------------------- losses


def test_losses_by_hand():
    forecast, target = torch.tensor([[2.0, 6.0, 5.0]]), torch.tensor([[4.0, 4.0, 0.0]])
    mask, window = torch.tensor([[1.0, 1.0, 0.0]]), torch.tensor([[1.0, 3.0, 4.0, 4.0]])
    # The third step is masked and counts as no error, in a mean over three.
    assert LOSSES["smape"](forecast, target, mask, window, 1).item() == pytest.approx(
        200 * (2 / 6 + 2 / 10) / 3
    )
    assert LOSSES["mape"](forecast, target, mask, window, 1).item() == pytest.approx((2 / 4 + 2 / 4) / 3)
    # Naive errors 2, 1, 0 at lag 1; 3, 1 at lag 2; a season of 9 does not fit and falls back to lag 1.
    for seasonality, naive in ((1, 1.0), (2, 2.0), (9, 1.0)):
        value = LOSSES["mase"](forecast, target, mask, window, seasonality)
        assert value.item() == pytest.approx((2 + 2) / naive / 3)


@pytest.mark.parametrize("kind", list(LOSSES))
def test_losses_have_finite_gradients_at_zeros(kind):
    forecast = torch.tensor([[0.0, 1.0], [0.0, 1.0]], requires_grad=True)
    target, mask = torch.zeros(2, 2), torch.ones(2, 2)
    window = torch.tensor([[5.0, 5.0, 5.0], [1.0, 2.0, 4.0]])  # the first has no naive error
    value = LOSSES[kind](forecast, target, mask, window, 1)
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(forecast.grad).all()


@pytest.mark.parametrize("kind", list(LOSSES))
def test_losses_keep_the_member_axis(kind):
    source = torch.Generator().manual_seed(0)
    forecast, target, window = (1 + torch.rand(3, 5, n, generator=source) for n in (4, 4, 8))
    mask = torch.ones_like(target)
    together = LOSSES[kind](forecast, target, mask, window, 2)
    alone = [LOSSES[kind](*parts, 2) for parts in zip(forecast, target, mask, window, strict=True)]
    torch.testing.assert_close(together, torch.stack(alone))
