"""SLL layers never stretch a distance; their bound and the radius that follows from it are certificates."""

from __future__ import annotations

import copy
import io
import math
import pickle

import pytest
import torch
from torch import nn
from torch.func import jacrev, vmap
from torch.nn.utils.parametrizations import orthogonal

from core import nd
from core.errors import ConfigError
from core.residual import Residual, ResidualChain
from core.residual.lipschitz import SLLConv, SLLLinear, certified_radius, lipschitz_bound

SHAPES = {0: (6,), 1: (3, 7), 2: (2, 4, 4), 3: (2, 3, 2, 3)}
every_dims = pytest.mark.parametrize("dims", [0, 1, 2, 3])


def build(dims, seed=0, spread=0.0):
    """A layer in float64; with a spread its weights, biases and q are random and far from the start."""
    torch.manual_seed(seed)
    layer = SLLConv(SHAPES[dims][0], 5, 3, dims) if dims else SLLLinear(6, 9)
    if spread:
        with torch.no_grad():
            for parameter in layer.parameters():
                parameter.normal_(std=spread)
    return layer.double()


def trained(dims):
    """A layer after some steps towards doubling its input, which no 1-Lipschitz map can do."""
    layer = build(dims)
    x = torch.randn(32, *SHAPES[dims], dtype=torch.float64)
    optimiser = torch.optim.SGD(layer.parameters(), lr=0.5)
    for _ in range(10):
        optimiser.zero_grad()
        (layer(x) - 2 * x).square().mean().backward()
        optimiser.step()
    return layer


def jacobian_norms(function, dims, points=256):
    x = torch.randn(points, *SHAPES[dims], dtype=torch.float64)
    jacobian = vmap(jacrev(lambda sample: function(sample[None])[0]))(x)
    size = math.prod(SHAPES[dims])
    return torch.linalg.matrix_norm(jacobian.detach().reshape(points, size, size), 2)


def aligned(dims):
    """The hardest case: all units active and alike, so that rows of W^T W sum without cancelling."""
    layer = build(dims)
    with torch.no_grad():
        layer.weight.abs_()
        layer.bias.fill_(100)
    return layer


@every_dims
@pytest.mark.parametrize("make", [build, lambda dims: build(dims, 1, 1.0), trained, aligned])
def test_jacobian_norm_is_at_most_one(dims, make):
    norms = jacobian_norms(make(dims), dims)
    assert norms.max() <= 1 + 1e-12
    assert norms.max() > 0.9


@every_dims
def test_a_smaller_t_would_not_do(dims, monkeypatch):
    """The bound is no accident: the test above can fail. In 3-D most of a 3 x 2 x 3 volume is border."""
    layer = aligned(dims)
    small = layer.diagonal().detach() / (2.5 if dims < 3 else 6)
    monkeypatch.setattr(layer, "diagonal", lambda: small)
    assert jacobian_norms(layer, dims, 64).max() > 1.1


def test_dense_formula():
    layer = build(0, 2, 0.7)
    weight, bias, q = layer.weight.detach().T, layer.bias.detach(), layer.log_q.detach().exp()
    gram = weight.T @ weight
    diagonal = torch.stack([sum(gram[i, j].abs() * q[j] / q[i] for j in range(9)) for i in range(9)])
    x = torch.randn(4, 6, dtype=torch.float64)
    expected = [s - 2 * weight @ torch.diag(1 / diagonal) @ torch.relu(weight.T @ s + bias) for s in x]
    torch.testing.assert_close(layer(x), torch.stack(expected))


@pytest.mark.parametrize("dims", [1, 2])
def test_convolution_is_the_dense_layer_of_its_matrix(dims):
    """T is the row sum of the matrix W^T W at a position that no border reaches."""
    layer = build(dims, 3, 0.7)
    shape = (SHAPES[dims][0], *(7,) * dims)
    inputs, positions = math.prod(shape), 7**dims
    basis = torch.eye(inputs, dtype=torch.float64).reshape(inputs, *shape)
    bias = layer.bias.detach().reshape(1, -1, *(1,) * dims)
    matrix = (layer.analysis(basis) - bias).detach().reshape(inputs, -1)  # W, one row an input
    torch.testing.assert_close(layer.analysis(basis[:1] * 0), bias.expand(1, -1, *shape[1:]))
    q = layer.log_q.detach().exp().repeat_interleave(positions)
    rows = ((matrix.T @ matrix).abs() @ q / q).reshape(5, positions)
    torch.testing.assert_close(rows[:, positions // 2], layer.diagonal().detach())
    assert (rows[:, 0] < rows[:, positions // 2]).any()
    hidden = torch.randn(1, 5, *shape[1:], dtype=torch.float64)
    transposed = layer.synthesis(hidden, layer.weight).reshape(-1)
    torch.testing.assert_close(transposed, matrix @ hidden.reshape(-1))


def test_orthogonal_units_are_reflected():
    """With orthonormal W, T is the identity and an active layer is -1 on the span of W: the bound is tight."""
    layer = SLLLinear(6, 6).double()
    with torch.no_grad():
        nn.init.orthogonal_(layer.weight)
        layer.bias.fill_(100)
    x = torch.randn(2, 6, dtype=torch.float64)
    step = layer(x[:1]) - layer(x[1:])
    torch.testing.assert_close(step, x[1:] - x[:1])


@every_dims
def test_parameters_gradient_and_shapes(dims):
    layer = build(dims, 1, 0.5)
    kernel = 3**dims if dims else 1
    channels, hidden = layer.weight.shape[1], layer.weight.shape[0]
    assert sum(p.numel() for p in layer.parameters()) == channels * hidden * kernel + 2 * hidden
    x = torch.randn(8, *SHAPES[dims], dtype=torch.float64, requires_grad=True)
    y = layer(x)
    assert y.shape == x.shape and x._version == 0
    (y * torch.randn_like(y)).sum().backward()
    for tensor in (x, *layer.parameters()):
        assert torch.isfinite(tensor.grad).all() and (tensor.grad != 0).all()


@every_dims
def test_units_without_weight_do_nothing(dims):
    layer = build(dims)
    with torch.no_grad():
        layer.weight.zero_()
    x = torch.randn(2, *SHAPES[dims], dtype=torch.float64)
    assert torch.equal(layer(x), x)


@every_dims
def test_copies_and_export(dims):
    layer = build(dims, 1, 0.5).float()
    x = torch.randn(2, *SHAPES[dims])
    expected = layer(x)
    assert torch.equal(pickle.loads(pickle.dumps(layer))(x), expected)
    assert torch.equal(copy.deepcopy(layer)(x), expected)
    file = io.BytesIO()
    torch.save(layer.state_dict(), file)
    file.seek(0)
    fresh = build(dims).float()
    fresh.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(fresh(x), expected)
    assert set(layer.state_dict()) == {"weight", "bias", "log_q"}
    program = torch.export.export(layer, (x,), strict=False).module()
    torch.testing.assert_close(program(x), expected)


def test_bound_of_a_network():
    torch.manual_seed(0)
    first, last = nn.Linear(6, 6, dtype=torch.float64), nn.Linear(6, 3, dtype=torch.float64)
    chain = ResidualChain([build(0, 1, 1.0), build(0, 2, 1.0)])
    network = nn.Sequential(first, chain, nn.ReLU(), last)
    bound = lipschitz_bound(network)
    by_hand = math.prod(torch.linalg.svdvals(layer.weight.detach())[0].item() for layer in (first, last))
    assert bound == pytest.approx(by_hand)
    x, y = torch.randn(2, 1000, 6, dtype=torch.float64)
    assert ((network(x) - network(y)).norm(dim=1) <= bound * (x - y).norm(dim=1)).all()
    alone = nn.Sequential(first, SLLLinear(6, 2).double())
    direction = torch.linalg.svd(first.weight.detach()).Vh[0]
    far = 1e4 * torch.stack([-direction, direction])  # stretched most by the first layer
    stretch = (alone(far)[0] - alone(far)[1]).norm() / (far[0] - far[1]).norm()
    assert 0.5 * lipschitz_bound(alone) < stretch <= lipschitz_bound(alone)
    wide = orthogonal(nn.Linear(3, 8, dtype=torch.float64))
    assert lipschitz_bound(nn.Sequential(wide, nn.Flatten())) == pytest.approx(1)


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize(
    "options", [{}, {"stride": 2}, {"dilation": 2, "padding": 2}, {"groups": 2}, {"padding": 0}], ids=str
)
def test_bound_of_convolutions(dims, options):
    torch.manual_seed(0)
    options = {"padding": 1, "bias": False, "dtype": torch.float64} | options
    conv = nd.conv(dims)(2, 4, 3, **options)
    shape = (2, *(5 if dims < 3 else 4,) * dims)
    inputs = math.prod(shape)
    if options["padding"] == 0 and dims == 3:
        shape, inputs = (2, 3, 3, 3), 54
    basis = torch.eye(inputs, dtype=torch.float64).reshape(inputs, *shape)
    exact = torch.linalg.matrix_norm(conv(basis).reshape(inputs, -1), 2).item()
    assert exact <= lipschitz_bound(conv) < 6 * exact


def test_bound_of_a_convolution_is_tight_where_no_weight_is_negative():
    conv = nd.conv(1)(2, 2, 3, padding=1, bias=False, dtype=torch.float64)
    with torch.no_grad():
        conv.weight.copy_(torch.tensor([[[1.0, 2, 1], [0, 1, 0]], [[0, 3, 0], [1, 1, 1]]]))
    basis = torch.eye(400, dtype=torch.float64).reshape(400, 2, 200)
    exact = torch.linalg.matrix_norm(conv(basis).reshape(400, -1), 2).item()
    summed = torch.linalg.matrix_norm(conv.weight.detach().sum(2), 2).item()  # what long waves see
    assert lipschitz_bound(conv) == pytest.approx(summed, rel=1e-6)
    assert 0.99 * lipschitz_bound(conv) < exact <= lipschitz_bound(conv)


class _Doubled(nn.Linear):
    def forward(self, x):
        return 2 * super().forward(x)


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (
            nn.Sequential(nn.Linear(2, 2), _Doubled(2, 2)),
            "no certified Lipschitz bound for _Doubled. Known: Conv1d,",
        ),
        (Residual(nn.Linear(2, 2)), "no certified Lipschitz bound for Residual"),
        (nd.conv(2)(1, 1, 3, padding=1, padding_mode="circular"), "for padding 'circular'; pad with zeros"),
    ],
)
def test_unknown_bounds_are_refused(module, message):
    with pytest.raises(ConfigError, match=message):
        lipschitz_bound(module)


def test_certified_radius():
    """For a linear classifier with orthonormal rows the radius is the exact distance to the border."""
    torch.manual_seed(0)
    weight = nn.init.orthogonal_(torch.empty(3, 5, dtype=torch.float64))
    x = torch.randn(50, 5, dtype=torch.float64)
    logits = x @ weight.T
    radius = certified_radius(logits, 1.0)
    assert radius.shape == (50,)
    order = logits.argsort(1, descending=True)
    towards = weight[order[:, 1]] - weight[order[:, 0]]
    border = x + radius[:, None] * towards / towards.norm(dim=1, keepdim=True)
    best = (border @ weight.T).topk(2, dim=1).values
    torch.testing.assert_close(best[:, 0], best[:, 1])
    torch.testing.assert_close(
        certified_radius(torch.tensor([[3.0, 1.0, -5.0]]), 2.0), torch.tensor([0.5**0.5])
    )


def test_values_are_checked():
    with pytest.raises(ConfigError, match="1 or more, not \\(0, 4\\)"):
        SLLLinear(4, 0)
    with pytest.raises(ConfigError, match=r"the kernel must be odd.* not 4"):
        SLLConv(2, 2, 4)
    with pytest.raises(ConfigError, match="dims must be 1"):
        SLLConv(2, 2, 3, 4)
    with pytest.raises(ConfigError, match="2 or more classes"):
        certified_radius(torch.zeros(3, 1), 1.0)
    with pytest.raises(ConfigError, match="a positive Lipschitz bound, not 0"):
        certified_radius(torch.zeros(3, 2), 0.0)
