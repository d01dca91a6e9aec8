"""Initialisation: the formulas, and that a network which starts at the identity can leave it."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import nn

from core import nd
from core.errors import ConfigError
from core.residual import Residual, create_rule
from core.residual.init import INITS, initialise, weight_layers
from core.residual.topology import Parallel

DEPTH = 9
every_dims = pytest.mark.parametrize("dims", [1, 2, 3])


class Plain(Residual):
    """``layers`` convolutions with ReLU between them, without norms."""

    def __init__(self, dims, layers=2, width=16, rule="add", shortcut=False, act=None):
        projection = nd.conv(dims)(width, width, 1, bias=False) if shortcut else None
        if isinstance(rule, str):
            rule = create_rule(rule, channels=width, index=2, depth=DEPTH, dims=dims)
        super().__init__(None, rule, projection, act)
        self.convs = nn.ModuleList(nd.conv(dims)(width, width, 3, padding=1) for _ in range(layers))
        self.se = nn.Sequential(nd.conv(dims)(width, width, 1), nn.Sigmoid())

    def branch(self, x):
        *inner, last = self.convs
        for conv in inner:
            x = conv(x).relu()
        update = last(x)
        return update * self.se(update)

    def zero_init_last(self):
        nn.init.zeros_(self.convs[-1].weight)
        nn.init.zeros_(self.convs[-1].bias)


class Network(nn.Module):
    def __init__(self, dims=2, blocks=2, classes=10, width=16, **options):
        super().__init__()
        self.stem = nd.conv(dims)(3, width, 3, padding=1)
        self.norm = nd.norm("batch", dims, width)
        self.blocks = nn.Sequential(*(Plain(dims, width=width, **options) for _ in range(blocks)))
        self.fc = nn.Linear(width, classes)

    def forward(self, x):
        return self.fc(self.blocks(self.norm(self.stem(x))).flatten(2).mean(2))


def images(dims):
    return torch.randn(4, 3, *(5,) * dims)


def std_of(layer):
    return layer.weight.detach().std().item()


@every_dims
def test_kaiming_formula(dims):
    torch.manual_seed(0)
    wide = nd.conv(dims)(96, 128, 3)
    grouped = nd.conv(dims)(128, 128, 3, groups=2)
    up = nd.conv_transpose(dims)(96, 128, 3)
    mlp = nn.Linear(300, 200)
    norms = [nd.norm(name, dims, 8) for name in ("batch", "group", "layer", "instance")]
    for norm in norms:
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    initialise(nn.Sequential(wide, grouped, up, mlp, *norms))
    for layer, fan_out in ((wide, 128), (grouped, 64), (up, 128)):
        assert std_of(layer) == pytest.approx(math.sqrt(2 / (fan_out * 3**dims)), rel=0.02)
    assert std_of(mlp) == pytest.approx(math.sqrt(2 / 200), rel=0.02)
    for layer in (wide, grouped, up, mlp, *norms):
        assert (layer.bias == 0).all()
    for norm in norms:
        assert (norm.weight == 1).all()


def test_the_default_is_that_of_timm():
    """timm's ResNet, initialised anew, has the same spreads as before, and the same zeros and ones."""
    import timm

    torch.manual_seed(0)
    ours = timm.create_model("resnet18", num_classes=10)
    theirs = [parameter.detach().clone() for parameter in ours.parameters()]
    for parameter in ours.parameters():
        nn.init.constant_(parameter, 5)
    initialise(ours)
    for (name, mine), other in zip(ours.named_parameters(), theirs, strict=True):
        if mine.ndim > 1:
            assert mine.std().item() == pytest.approx(other.std().item(), rel=0.1), name
            assert abs(mine.mean().item()) < 0.01, name
        elif name != "fc.bias":
            assert torch.equal(mine, other), name
    assert ours.fc.weight.abs().max() <= 512**-0.5 and ours.fc.bias.abs().max() <= 512**-0.5


@every_dims
def test_orthonormal_rows(dims):
    torch.manual_seed(0)
    flat, grouped, tall = (
        nd.conv(dims)(8, 6, 3),
        nd.conv(dims)(8, 8, 3, groups=8),
        nd.conv(dims)(2, 64, 1),
    )
    initialise(nn.Sequential(flat, grouped, tall, nn.Linear(7, 5)), "orthonormal")
    rows = flat.weight.flatten(1)
    torch.testing.assert_close(rows @ rows.T, torch.eye(6), rtol=0, atol=1e-5)
    torch.testing.assert_close(grouped.weight.flatten(1).norm(dim=1), torch.ones(8), rtol=0, atol=1e-5)
    columns = tall.weight.flatten(1)
    torch.testing.assert_close(columns.T @ columns, torch.eye(2), rtol=0, atol=1e-5)
    assert (flat.bias == 0).all()


@every_dims
@pytest.mark.parametrize(("layers", "power"), [(2, -1 / 2), (3, -1 / 4), (4, -1 / 6)])
def test_fixup_formula(dims, layers, power):
    torch.manual_seed(0)
    block = Plain(dims, layers, width=64 if dims < 3 else 32, shortcut=True)
    width = len(block.convs[0].weight)
    initialise(block, "fixup")
    he = math.sqrt(2 / (width * 3**dims))
    for conv in block.convs[:-1]:
        assert std_of(conv) == pytest.approx(he * DEPTH**power, rel=0.03)
    assert (block.convs[-1].weight == 0).all()
    for beside in (block.downsample, block.se[0]):
        assert std_of(beside) == pytest.approx(math.sqrt(2 / width), rel=0.06)


@every_dims
@pytest.mark.parametrize("shortcut", [False, True])
def test_fixup_starts_as_its_shortcut_and_says_nothing(dims, shortcut):
    network = Network(dims, shortcut=shortcut, act=nn.ReLU())
    initialise(network, "fixup")
    x = torch.randn(2, 16, *(5,) * dims)
    block = network.blocks[0]
    expected = (block.downsample(x) if shortcut else x).relu()
    assert torch.equal(block(x), expected)
    assert (network(images(dims)) == 0).all()


def test_fixup_of_parallel_branches_and_of_blocks_inside():
    torch.manual_seed(0)
    rows = [nn.Sequential(nn.Linear(200, 200), nn.ReLU(), nn.Linear(200, 200)) for _ in range(3)]
    rows[1].append(nn.Linear(200, 200))
    inner = Residual(nn.Sequential(nn.Linear(200, 200), nn.Linear(200, 200)), index=1, depth=4)
    rows[2].insert(1, inner)
    block = Parallel(rows, index=1, depth=16)
    initialise(block, "fixup")
    he = math.sqrt(2 / 200)
    for row, power in zip(rows, (-1 / 2, -1 / 4, -1 / 2), strict=True):
        assert std_of(row[0]) == pytest.approx(he * 16**power, rel=0.03)
        assert (row[-1].weight == 0).all()
    assert std_of(rows[1][2]) == pytest.approx(he * 16 ** (-1 / 4), rel=0.03)
    assert std_of(inner.branch[0]) == pytest.approx(he * 4 ** (-1 / 2), rel=0.03)
    assert (inner.branch[1].weight == 0).all()
    x = torch.randn(2, 200)
    assert torch.equal(block(x), x)


def test_weight_layers_of_a_branch():
    block = Plain(2, 3, shortcut=True, rule="laurel_lr")
    assert weight_layers(block) == list(block.convs)


@pytest.mark.parametrize("scheme", INITS)
def test_training_reaches_every_block(scheme):
    """The trap: two zeros in a product. Within some steps every parameter of a block gets a gradient."""
    for rule in ("add", "skipinit", "layer_scale", "laurel_rw", "laurel_lr", "orthogonal"):
        torch.manual_seed(0)
        network = Network(1, width=8, rule=rule)
        initialise(network, scheme)
        optimiser = torch.optim.SGD(network.parameters(), lr=0.1)
        x, target = images(1), torch.tensor([1, 2, 3, 4])
        still = dict(network.blocks.named_parameters())
        for _ in range(5):
            optimiser.zero_grad()
            nn.functional.cross_entropy(network(x), target).backward()
            still = {name: p for name, p in still.items() if p.grad is None or (p.grad == 0).all()}
            optimiser.step()
        assert not still, f"{scheme}, {rule}"


def test_both_zeros_would_be_a_dead_block():
    """What the test above guards against: here no parameter of the block ever gets a gradient."""
    network = Network(blocks=1, rule="skipinit")
    initialise(network)
    block = network.blocks[0]
    assert block.convs[-1].weight.abs().max() > 0
    block.zero_init_last()
    network(images(2)).square().sum().backward()
    assert all(p.grad is None or (p.grad == 0).all() for p in block.parameters())


@pytest.mark.parametrize("scheme", INITS)
@pytest.mark.parametrize("zero", [False, True])
def test_zeroing_the_last_layer_is_one_choice(scheme, zero):
    network = Network()
    initialise(network, scheme, zero_init_last=zero)
    is_zero = [bool((block.convs[-1].weight == 0).all()) for block in network.blocks]
    assert is_zero == [zero or scheme == "fixup"] * 2


@pytest.mark.parametrize("scheme", INITS)
def test_rules_keep_their_first_values(scheme):
    network = Network(rule="laurel_lr")
    before = {name: p.clone() for name, p in network.named_parameters() if ".rule." in name}
    assert len(before) == 4
    initialise(network, scheme)
    for name, value in before.items():
        assert torch.equal(network.get_parameter(name), value)


def test_default_changes_nothing_but_the_zeros():
    network = Network()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    initialise(network, "default", zero_init_last=False)
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name])


@pytest.mark.parametrize("name", ["fc", "head", "classifier", "get_classifier"])
def test_the_head_is_found(name):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(400, 300))
    head = nn.Sequential(nn.LayerNorm(300), nn.Linear(300, 300))
    model.add_module("last" if name == "get_classifier" else name, head)
    if name == "get_classifier":
        model.get_classifier = lambda: head
    initialise(model)
    assert std_of(head[1]) == pytest.approx(
        1 / math.sqrt(3 * 300), rel=0.03
    )  # uniform, bound 1 / sqrt(fan_in)
    assert std_of(model[0]) == pytest.approx(math.sqrt(2 / 300), rel=0.03)
    initialise(model, "fixup")
    assert (head[1].weight == 0).all() and (head[1].bias == 0).all() and (head[0].weight == 1).all()


def test_unknown_schemes_are_one_line():
    with pytest.raises(ConfigError, match=r"unknown initialisation 'kaming'\. Did you mean 'kaiming'\?"):
        initialise(nn.Linear(2, 2), "kaming")


# --- growth of the variance with depth ---


def test_variance_growth_follows_theory(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[2]))
    from benchmarks.variance_growth import ROWS, expected_growth, measure

    chosen = {name: (name, {}) for name in ("add", "scaled", "depth_scaled", "skipinit")}
    chosen["1/L"] = ("depth_scaled", {"power": 1.0})
    runs = [measure(chosen, depth=8, width=512, samples=128, seed=seed) for seed in range(4)]
    growth = {row: sum(run[row] for run in runs) / len(runs) for row in chosen}
    squares = {"add": 1.0, "scaled": 0.1**2, "depth_scaled": 1 / 8, "1/L": 1 / 8**2, "skipinit": 0.0}
    for row, square in squares.items():
        theory = (1 + square) ** 8
        assert growth[row] == pytest.approx(theory, rel=0.15 if row == "add" else 0.02), row
        assert expected_growth(*chosen[row], depth=8) == pytest.approx(theory, rel=0.02), row
    assert growth["skipinit"] == 1
    assert {"add", "depth_scaled", "decayed", "orthogonal"} <= {name for name, _ in ROWS.values()}
    decayed = math.prod((1 - block * 0.4 / 8) ** 2 + 1 for block in range(1, 9))
    assert expected_growth("decayed", {}, depth=8) == pytest.approx(decayed, rel=0.02)
