from __future__ import annotations

import pytest
import torch
from torch import nn

from core import nd
from core.errors import ConfigError

SPATIAL = {1: (6,), 2: (6, 4), 3: (6, 4, 2)}


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_layers_keep_their_number_of_axes(dims):
    x = torch.randn(2, 4, *SPATIAL[dims])
    assert nd.conv(dims)(4, 5, 3, padding=1)(x).shape == (2, 5, *SPATIAL[dims])
    assert nd.conv_transpose(dims)(4, 5, 2, stride=2)(x).shape == (2, 5, *(2 * n for n in SPATIAL[dims]))
    half = tuple(n // 2 for n in SPATIAL[dims])
    for name in ("max", "avg"):
        assert nd.pool(name, dims)(2)(x).shape == (2, 4, *half)
    for name in ("adaptive_max", "adaptive_avg"):
        assert nd.pool(name, dims)(1)(x).shape == (2, 4, *(1,) * dims)
    doubled = nn.functional.interpolate(x, scale_factor=2, mode=nd.interpolation(dims))
    assert doubled.shape == (2, 4, *(2 * n for n in SPATIAL[dims]))


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("name", list(nd.NORMS))
def test_norms_keep_the_shape_and_learn_scale_and_shift(name, dims):
    norm = nd.norm(name, dims, 6)
    x = 3 * torch.randn(4, 6, *SPATIAL[dims]) + 5
    assert norm(x).shape == x.shape
    assert sum(p.numel() for p in norm.parameters()) == {"none": 0, "bias": 1}.get(name, 12)


@pytest.mark.parametrize(
    ("name", "channels", "axes"),
    [
        ("batch", 8, (0, 2, 3)),
        ("instance", 8, (2, 3)),
        ("layer", 8, (1,)),
        ("group", 5, (1, 2, 3)),  # one group: 32 and 5 have no common divisor
    ],
)
def test_norms_standardise_over_their_own_axes(name, channels, axes):
    generator = torch.Generator().manual_seed(0)
    x = 3 * torch.randn(4, channels, 8, 8, generator=generator, dtype=torch.float64) + 5
    y = nd.norm(name, 2, channels).double()(x)
    variance = x.var(axes, unbiased=False, keepdim=True)
    torch.testing.assert_close(y, (x - x.mean(axes, keepdim=True)) / (variance + 1e-5).sqrt())


@pytest.mark.parametrize(("channels", "groups"), [(64, 32), (48, 16), (6, 2), (7, 1)])
def test_group_norm_takes_a_number_of_groups_that_divides_the_channels(channels, groups):
    norm = nd.norm("group", 2, channels)
    assert isinstance(norm, nn.GroupNorm)
    assert norm.num_groups == groups


def test_layer_norm_is_pytorchs_on_channels_last():
    x = torch.randn(2, 5, 3, 4)
    norm = nd.norm("layer", 2, 5)
    with torch.no_grad():
        norm.weight.normal_()
        norm.bias.normal_()
    expected = nn.functional.layer_norm(x.permute(0, 2, 3, 1), (5,), norm.weight, norm.bias)
    torch.testing.assert_close(norm(x), expected.permute(0, 3, 1, 2))


@pytest.mark.parametrize("dims", [0, 1, 2, 3])
def test_pointwise_is_a_matrix_on_channels(dims):
    x = torch.randn(2, 4, *SPATIAL.get(dims, ()))
    layer = nd.pointwise(dims, 4, 3)
    expected = torch.einsum("rc,bc...->br...", layer.weight.reshape(3, 4), x)
    torch.testing.assert_close(layer(x), expected)
    assert layer.bias is None
    assert nd.pointwise(dims, 4, 3, bias=True).bias.shape == (3,)


def test_memory_format_exists_for_every_number_of_axes():
    for ndim, expected in {
        1: torch.contiguous_format,
        2: torch.contiguous_format,
        3: torch.contiguous_format,
        4: torch.channels_last,
        5: torch.channels_last_3d,
        6: torch.contiguous_format,
    }.items():
        x = torch.randn(*range(2, 2 + ndim))
        assert nd.memory_format(ndim) is expected
        assert x.contiguous(memory_format=nd.memory_format(ndim)).is_contiguous(memory_format=expected)


@pytest.mark.parametrize("dims", [0, 4, -1, "2", None])
def test_wrong_dims_are_one_line(dims):
    for call in (
        nd.conv,
        nd.conv_transpose,
        nd.interpolation,
        lambda d: nd.norm("batch", d, 4),
        lambda d: nd.pool("max", d),
    ):
        with pytest.raises(ConfigError, match=r"^dims must be 1 \(signals\), 2 \(images\) or 3 \(volumes\)"):
            call(dims)


def test_unknown_names_are_corrected():
    with pytest.raises(ConfigError, match=r"unknown normalisation 'bacth'\. Did you mean 'batch'\?"):
        nd.norm("bacth", 2, 4)
    with pytest.raises(ConfigError, match="unknown pooling 'average'"):
        nd.pool("average", 2)


def test_a_scalar_bias_adds_one_number():
    layer = nd.norm("bias", 2, 4)
    layer.bias.data.fill_(1.5)
    assert torch.equal(layer(torch.zeros(1, 4, 2, 2)), torch.full((1, 4, 2, 2), 1.5))


@pytest.mark.parametrize("name", list(nd.ACTS))
@pytest.mark.parametrize("inplace", [False, True])
def test_activations_keep_the_shape(name, inplace):
    x = torch.linspace(-3, 3, 13).reshape(1, 1, 13)
    y = nd.act(name, inplace)(x.clone())
    assert y.shape == x.shape and torch.equal(y, x) == (name == "none")


def test_a_wrong_epsilon_is_one_line():
    with pytest.raises(ConfigError, match="eps of a normalisation must be above 0, not -1"):
        nd.norm("batch", 2, 4, eps=-1)
