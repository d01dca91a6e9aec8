"""CSI-4CAST: parameter counts, an independent form of the released code, and what the options do."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import released_csi4cast as released
import torch
from torch.nn import functional as F

from core.compress.folding import deployed
from core.errors import DataError
from core.residual import list_rules
from core.residual.rules import RULES
from tasks.csi.config import Csi4CastFddConfig, Csi4CastSmallConfig, Csi4CastTddConfig
from tasks.csi.layout import from_planes, to_complex, to_planes, to_real
from tasks.csi.models.build import build_network
from tasks.csi.models.csi4cast import _make_rule
from tasks.csi.models.denoiser import inverse_fourier
from tasks.csi.models.encoder import Encoder, positions
from tasks.csi.models.reference import load_released

K, T, H = 6, 5, 3
SIZES = {"time_hidden": 7, "channels": 8, "groups": 2, "width": 8, "heads": 2, "feedforward": 12, "layers": 2}
SMALL = Csi4CastSmallConfig(**SIZES, time_layers=3, blocks=2)


def network(config=SMALL, seed=0, subcarriers=K):
    torch.manual_seed(seed)
    return build_network(config, subcarriers, T, H)


def lively(model):
    """Norms that are not the identity, as after some training."""
    torch.manual_seed(5)
    for layer in model.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(layer.running_mean, -0.3, 0.3)
            torch.nn.init.uniform_(layer.running_var, 0.5, 2)
            torch.nn.init.uniform_(layer.weight, 0.5, 2)
    return model.eval()


@pytest.mark.parametrize(
    ("config", "count"), [(Csi4CastTddConfig(), 21_913_750), (Csi4CastFddConfig(), 38_636_286)]
)
def test_tuned_models_have_the_published_numbers_of_parameters(config, count):
    with torch.device("meta"):
        model = build_network(config, 300, 16, 4)
        assert model(torch.empty(2, 16, 600)).shape == (2, 4, 600)
        used = build_network(replace(config, temporal=False), 300, 16, 4)
    assert sum(p.numel() for p in model.parameters()) == count
    assert sum(p.numel() for p in used.parameters()) == count - 4 * 768


@pytest.mark.parametrize("base", [Csi4CastTddConfig, Csi4CastFddConfig])
def test_it_computes_what_the_released_code_computes_with_its_weights(base):
    bands = {"band_hidden": 9, "delay_residual": "multiply"} if base is Csi4CastFddConfig else {}
    config = base(**SIZES, **bands, standardise="batch")
    torch.manual_seed(1)
    state = released.random_state(config, K, T, H)
    model = load_released(network(config), {f"model.{key}": value for key, value in state.items()})
    x = 2 * torch.randn(3, T, 2 * K) + 0.3
    expected = released.predict(state, config, x)
    torch.testing.assert_close(model(x), expected, rtol=1e-4, atol=1e-5)
    if bands:  # the slip of the released code is told from what it means
        meant = load_released(network(replace(config, delay_residual="add")), state)
        assert (meant(x) - expected).abs().max() > 1e-2


def test_weights_of_another_size_are_refused():
    config = Csi4CastTddConfig(**SIZES)
    state = released.random_state(config, K, T, H)
    with pytest.raises(DataError, match="of another shape"):
        load_released(network(config, subcarriers=K + 1), state)
    state["arl.more.weight"] = torch.zeros(1)
    with pytest.raises(DataError, match=r"arl\.more\.weight"):
        load_released(network(config), state)


@pytest.mark.parametrize("n", [1, 5, 8, 300])
def test_matrix_is_the_inverse_fourier_transform(n):
    torch.manual_seed(0)
    x = torch.randn(2, 3, n, dtype=torch.complex64)
    torch.testing.assert_close(to_real(x) @ inverse_fourier(n), to_real(torch.fft.ifft(x)), rtol=0, atol=2e-6)


def test_layouts():
    x = torch.tensor([[1 + 2j, 3 + 4j]])
    assert to_real(x).tolist() == [[1, 2, 3, 4]]
    assert to_real(x.numpy()[:, ::-1]).tolist() == [[3, 4, 1, 2]]
    assert to_real(x.numpy()).dtype == np.float32
    for values in (x, x.numpy()):
        back = to_complex(to_real(values))
        assert back.dtype == values.dtype and back.tolist() == x.tolist()
    assert to_complex(np.ones((1, 2))).dtype == np.complex128
    reports = torch.arange(24.0).reshape(1, 3, 8)
    planes = to_planes(reports)
    assert planes.shape == (1, 2, 3, 4) and planes[0, 1, 2].tolist() == [17, 19, 21, 23]
    assert torch.equal(from_planes(planes), reports)


def test_sample_standardisation_keeps_rows_apart_and_scales_with_them():
    model = lively(network())
    x = torch.randn(3, T, 2 * K)
    whole = model(x)
    torch.testing.assert_close(model(x[1:2]), whole[1:2])
    torch.testing.assert_close(model(1e-4 * x), 1e-4 * whole, rtol=1e-4, atol=1e-8)


def test_batch_standardisation_depends_on_the_rest_of_the_batch():
    model = lively(network(replace(SMALL, standardise="batch")))
    x = torch.randn(3, T, 2 * K) * torch.tensor([1.0, 5, 9])[:, None, None]
    assert (model(x[:1]) - model(x)[:1]).abs().max() > 1e-3
    # Without any, rows are apart but large histories are not small ones enlarged.
    plain = lively(network(replace(SMALL, standardise="none")))
    torch.testing.assert_close(plain(x[:1]), plain(x)[:1])
    assert (plain(9 * x) - 9 * plain(x)).abs().max() > 1e-3


def test_a_flat_history_gives_finite_predictions():
    assert network().eval()(torch.zeros(1, T, 2 * K)).isfinite().all()


@pytest.mark.parametrize("rule", list_rules())
def test_every_rule_trains_and_those_that_begin_as_a_sum_do(rule):
    model = network(replace(SMALL, rule=rule))
    x = torch.randn(3, T, 2 * K)
    model(x).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    places = [m.spec.index for m in model.modules() if type(m) is RULES[rule]]
    assert places == [
        1,
        2,
        3,
        2,
        3,
        4,
        5,
        6,
        7,
    ]  # denoiser, two branches of two blocks, two layers of two sums
    if RULES[rule].plain_at_init:
        plain = network()
        model.load_state_dict(plain.state_dict(), strict=False)
        torch.testing.assert_close(model.eval()(x), plain.eval()(x), rtol=1e-4, atol=1e-5)


def test_rule_options_reach_the_sums():
    doubled = network(replace(SMALL, rule="scaled", rule_options={"scale": 0.0})).eval()
    plain = network().eval()
    x = torch.randn(2, T, 2 * K)
    assert (doubled(x) - plain(x)).abs().max() > 1e-3


@pytest.mark.parametrize(
    "change",
    [
        {"denoiser": 1},
        {"denoiser": 4},
        {"time_layers": 1},
        {"time_residual": "add"},
        {"time_residual": "multiply"},
        {"band_layers": 2, "band_hidden": 8},
        {"band_layers": 1, "band_residual": "none", "delay_residual": "none"},
        {"band_layers": 1, "band_residual": "multiply"},
        {"blocks": 0},
        {"attention": "avg_max"},
        {"reduction": 8},
        {"layers": 1},
    ],
)
def test_options_build_networks_that_differ(change):
    model, x = network(replace(SMALL, **change)).eval(), torch.randn(2, T, 2 * K)
    assert model(x).shape == (2, H, 2 * K)
    assert (model(x) - network().eval()(x)).abs().max() > 1e-5


def test_dropouts_act_where_they_are_said_to():
    x = torch.randn(2, T, 2 * K)
    for option in ("dropout", "input_dropout"):
        model = network(replace(SMALL, **{option: 0.5}))
        for norm in model.modules():
            if isinstance(norm, torch.nn.BatchNorm2d):
                norm.eval()
        assert not torch.equal(model(x), model(x))
        model.eval()
        assert torch.equal(model(x), model(x))


def test_encoder_is_pytorchs():
    config = replace(SMALL, dropout=0.0)
    theirs = released.encoder(config)
    make_rule = partial(_make_rule, config, 4, 8, dims=1)
    ours = Encoder(8, 2, 2, 12, 0.0, make_rule).eval()
    state = {}
    for i, layer in enumerate(theirs.layers):
        for half, name, part in (
            (0, "branch.in_proj.weight", layer.self_attn.in_proj_weight),
            (0, "branch.in_proj.bias", layer.self_attn.in_proj_bias),
            (0, "branch.out_proj.weight", layer.self_attn.out_proj.weight),
            (0, "branch.out_proj.bias", layer.self_attn.out_proj.bias),
            (0, "act.weight", layer.norm1.weight),
            (0, "act.bias", layer.norm1.bias),
            (1, "branch.0.weight", layer.linear1.weight),
            (1, "branch.0.bias", layer.linear1.bias),
            (1, "branch.3.weight", layer.linear2.weight),
            (1, "branch.3.bias", layer.linear2.bias),
            (1, "act.weight", layer.norm2.weight),
            (1, "act.bias", layer.norm2.bias),
        ):
            state[f"{2 * i + half}.{name}"] = part
    ours.load_state_dict(state)
    x = torch.randn(2, T, 8)
    torch.testing.assert_close(ours(x.mT).mT, theirs(x), rtol=1e-4, atol=1e-5)


def test_positions_are_sines_and_cosines():
    table = positions(3, 4)
    angle = torch.tensor([[0, 0], [1, 0.01], [2, 0.02]])
    torch.testing.assert_close(table[:, ::2], angle.sin())
    torch.testing.assert_close(table[:, 1::2], angle.cos())


def test_norms_fold_into_the_convolutions():
    model = lively(network())
    folded, how = deployed(model)
    assert how.folded == 4 + 2 * 2 * 3  # of the denoiser, and three in each block
    x = torch.randn(2, T, 2 * K)
    torch.testing.assert_close(folded(x), model(x), rtol=1e-4, atol=1e-5)


def test_it_learns_a_turning_channel():
    # Two taps that turn at constant rates: the last report repeated is far off, and an exact rule exists.
    torch.manual_seed(0)
    model = network(Csi4CastSmallConfig(**SIZES | {"width": 32, "feedforward": 32}), subcarriers=4)
    optimiser = torch.optim.Adam(model.parameters(), 3e-3)

    def draw(n):
        phase, rate = 6.28 * torch.rand(n, 2, 1, 1), torch.rand(n, 2, 1, 1) * 0.5
        steps, tone = torch.arange(T + H)[:, None], torch.arange(4.0)
        delay = torch.tensor([0.0, 1.5])[:, None, None]
        x = to_real(torch.polar(torch.ones(()), phase + rate * steps - delay * tone).sum(1))
        return x[:, :T], x[:, T:]

    for _ in range(150):
        history, target = draw(32)
        loss = F.mse_loss(model(history), target)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    history, target = draw(64)
    error = F.mse_loss(model.eval()(history), target)
    assert error < 0.3 * F.mse_loss(history[:, -1:].expand_as(target), target)
