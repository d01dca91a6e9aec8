"""Deployed models give the output of the model they come from, whatever the backbone, the dims and the rule."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from core import nd
from core.backbones import BACKBONES, backbone_options, create_backbone, list_backbones
from core.compress.folding import Deployed, deploy, deployed
from core.residual import list_rules
from core.residual.blocks import BLOCKS, BlockSpec, create_block, list_blocks
from core.residual.reparam import DilatedConv, LargeKernelConv, can_fold

NORMS = nn.modules.batchnorm._BatchNorm


def short(name, **options):
    """A backbone of two blocks and then one a stage, if it has ``layers``, and RepLKNet with kernels of 7."""
    torch.manual_seed(0)
    known = backbone_options(name)
    few = {"layers": (2, *(1 for _ in known["layers"][1:]))} if "layers" in known else {}
    if "small_kernel" in known:
        few |= {"kernels": (7,) * 4, "widths": (32, 64, 128, 256)}
    return create_backbone(name, num_classes=5, **{**few, **options})


def plan(name):
    """What tells one backbone from another when depth and widths are left out."""
    spec = BACKBONES[name].spec
    varying = (
        "layers",
        "widths",
        "growth",
        "growths",
        "widen",
        "deepen",
        "kernels",
        "stem_width",
        "stem_out",
        "small_kernel",
        "dw_ratio",
    )
    options = {key: value for key, value in vars(spec).items() if key not in varying}
    options["block_options"] = sorted(options.get("block_options", ()))
    return type(spec).__name__, repr(options)


def kind(name):
    """The family and its block."""
    spec = BACKBONES[name].spec
    return type(spec).__name__, getattr(spec, "block", None)


ORDER = list_backbones()[::-1]  # so that the first of each kind, its smallest, is the one that stays
PLANS = list({plan(name): name for name in ORDER}.values())
"""One backbone of each plan; the others have more of the same blocks."""
KINDS = list({kind(name): name for name in ORDER}.values())
EVERY = [
    (name, dims)
    for name in PLANS
    for dims in BACKBONES[name].spec.allowed_dims
    if dims == BACKBONES[name].spec.allowed_dims[0] or name in KINDS
]


def trained(model):
    """The model in evaluation mode, as training could have left it: statistics, and no weight at zero."""
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "rule" in name or not parameter.any():
                parameter.uniform_(0.2, 0.5, generator=generator)
        for layer in model.modules():
            if isinstance(layer, NORMS):
                layer.running_mean.normal_(0, 0.3, generator=generator)
                layer.running_var.uniform_(0.5, 2, generator=generator)
                layer.weight.uniform_(0.5, 1.5, generator=generator)
                layer.bias.normal_(0, 0.3, generator=generator)
    return model.eval()


def inputs(dims, size=64, batch=2):
    return torch.randn(batch, 3, *(size,) * dims, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def check(model, x, tolerance=1e-5):
    """Compares the deployed model with the model; returns both the deployed one and the report."""
    before = {key: value.clone() for key, value in model.state_dict().items()}
    expected = model(x)
    result, report = deployed(model)
    assert expected.isfinite().all() and expected.any()
    assert (result(x) - expected).abs().max() <= tolerance * expected.abs().max()
    assert not result.training
    assert before.keys() == model.state_dict().keys()
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    return result, report


@torch.no_grad()
def foldable(model, x):
    """Names the norms that read exactly what a convolution gave, found by watching them run."""
    given, found, handles = {}, [], []

    def remember(layer, _, output):
        given[id(output)] = output, output._version  # held, so that no other tensor gets its address

    def look(name, x):
        output, version = given.get(id(x), (None, None))
        if output is not None and version == x._version:  # no activation has overwritten it
            found.append(name)

    for name, layer in model.named_modules():
        if type(layer) in {make(dims) for make in (nd.conv, nd.conv_transpose) for dims in (1, 2, 3)}:
            handles.append(layer.register_forward_hook(remember))
        elif can_fold(layer):
            handles.append(layer.register_forward_pre_hook(lambda _, args, name=name: look(name, args[0])))
    model(x)
    for handle in handles:
        handle.remove()
    return found


@pytest.mark.parametrize(("name", "dims"), EVERY)
def test_every_backbone(name, dims):
    model = trained(short(name, dims=dims))
    # PyTorch's average pooling of volumes refuses one that is smaller than its window, padded or not, and its instance
    # norm refuses a single position.
    larger = dims < 3 or kind(name)[1] in ("res2net", "resnest") or model.spec.norm == "instance"
    x = inputs(dims, max(model.feature_info[-1].reduction, 8) * (2 if larger else 1))
    result, report = check(model, x)
    # Where a stem is one convolution, the first norm of a pre-activation block reads it, and so does the shortcut.
    assert set(foldable(result, x)) <= {"layer1.0.bn1"}
    norms = [sum(can_fold(m) for m in net.modules()) for net in (model, result)]
    inside = sum(len(m.branches()) for m in model.modules() if isinstance(m, LargeKernelConv | DilatedConv))
    assert report.folded + inside == norms[0] - norms[1]


@pytest.mark.parametrize("rule", list_rules())
@pytest.mark.parametrize("name", ["resnet18d", "replknet_31b"])
def test_every_rule(name, rule):
    x = inputs(1)
    # One width: so that a chain of several blocks without a shortcut carries the rule's stream.
    model = trained(short(name, dims=1, rule=rule, widths=(16,) * 4))
    _, report = check(model, x)
    assert report == check(trained(short(name, dims=1, widths=(16,) * 4)), x)[1]
    assert report.folded > 0


@pytest.mark.parametrize("name", [name for name in list_blocks() if not name.startswith("fixup")])
@pytest.mark.parametrize("dims", [1, 2, 3])
def test_every_block(name, dims):
    if dims not in getattr(BLOCKS[name], "allowed_dims", (1, 2, 3)):
        pytest.skip("there is no such block")
    torch.manual_seed(0)
    x = torch.randn(3, 16, *(8,) * dims)
    model = trained(create_block(name, BlockSpec(16, 32, 2, dims=dims)))
    result, _ = check(model, x)
    assert foldable(result, x) == []


def test_parameters_of_resnet18():
    """20 norms of 4,800 channels: their 9,600 values go, 4,800 biases come."""
    with torch.device("meta"):
        model = create_backbone("resnet18", num_classes=1000)
    result, report = deployed(model)
    assert sum(p.numel() for p in result.parameters()) == 11_689_512 - 9_600 + 4_800
    assert report == Deployed(merged=0, folded=20)
    assert not any(isinstance(m, NORMS) for m in result.modules())


def test_a_deep_stem_ends_in_a_convolution():
    result, _ = deployed(create_backbone("resnet18d"))
    assert isinstance(result.bn1, nn.Identity) and result.conv1[-1].bias is not None


@pytest.mark.parametrize("norm", ["group", "instance", "layer", "none"])
def test_other_norms_are_left_alone(norm):
    for name in ("resnet18", "replknet_31b"):
        model = short(name, dims=1, norm=norm).eval()
        result, report = check(model, inputs(1), tolerance=1e-6)
        assert report.folded == 0 and (report.merged > 0) == (norm == "none" and name == "replknet_31b")
        kept = [type(m) for m in result.modules() if "Norm" in type(m).__name__]
        assert kept == [type(m) for m in model.modules() if "Norm" in type(m).__name__]


def row(*layers):
    return trained(nn.Sequential(*layers))


def test_rows_of_layers():
    x = torch.randn(2, 3, 9, 9)
    result, report = check(
        row(
            nn.Conv2d(3, 4, 3),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.ConvTranspose2d(4, 6, 2, groups=2),
            nn.BatchNorm2d(6),
        ),
        x,
    )
    assert report == Deployed(0, 2)
    assert [type(m).__name__ for m in result] == ["Conv2d", "Identity", "ReLU", "ConvTranspose2d", "Identity"]
    # A norm before the convolution, behind an activation, or behind another norm reads no convolution.
    assert check(row(nn.BatchNorm2d(3), nn.Conv2d(3, 3, 1), nn.ReLU(), nn.BatchNorm2d(3)), x)[1].folded == 0
    assert check(row(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.BatchNorm2d(3)), x)[1].folded == 1


class Shared(nn.Module):
    """One convolution before two norms, as in the heads of RTMDet, or two convolutions before one norm."""

    folds = (("conv1", "norm1"), ("conv2", "norm2"))

    def __init__(self, one):
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)
        self.conv2 = self.conv1 if one == "conv" else nn.Conv2d(3, 3, 1)
        self.norm2 = self.norm1 if one == "norm" else nn.BatchNorm2d(3)

    def forward(self, x):
        return self.norm1(self.conv1(x)) + 2 * self.norm2(self.conv2(x))


class Named(nn.Module):
    """Two pairs that name one convolution, which the second norm does not read alone."""

    folds = (("conv", "norm1"), ("conv", "norm2"))

    def __init__(self):
        super().__init__()
        self.conv, self.norm1, self.norm2 = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.BatchNorm2d(3)

    def forward(self, x):
        x = self.conv(x)
        return self.norm1(x) + 2 * self.norm2(x)


@pytest.mark.parametrize("build", [lambda: Shared("conv"), lambda: Shared("norm"), Named])
def test_shared_layers_are_left_alone(build):
    x = torch.randn(4, 3, 5, 5)
    _, report = check(trained(build()), x, tolerance=1e-6)
    assert report.folded == 0
    assert check(trained(Shared("none")), x)[1].folded == 2


class Heads(nn.Module):
    """Two rows that share their convolution and not their norm."""

    def __init__(self):
        super().__init__()
        conv = nn.Conv2d(3, 3, 1)
        self.rows = nn.ModuleList(nn.Sequential(conv, nn.BatchNorm2d(3)) for _ in range(2))

    def forward(self, x):
        return self.rows[0](x) + 2 * self.rows[1](x)


class Twice(nn.Module):
    """A row, and a merged convolution, that are used twice as a whole."""

    def __init__(self):
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), DilatedConv(3, 5))
        self.second = self.first

    def forward(self, x):
        return self.second(self.first(x))


def test_rows_that_share_a_layer_and_rows_that_are_shared():
    x = torch.randn(4, 3, 5, 5)
    assert check(trained(Heads()), x, tolerance=1e-6)[1] == Deployed(0, 0)
    result, report = check(trained(Twice()), x)
    assert report == Deployed(merged=1, folded=1)
    assert result.first is result.second


def test_merged_first_and_then_folded():
    x = torch.randn(2, 3, 9, 9)
    result, report = check(row(DilatedConv(3, 7), nn.BatchNorm2d(3)), x)
    assert report == Deployed(merged=1, folded=1) and type(result[0]) is nn.Conv2d
    alone = trained(DilatedConv(3, 7))
    result, report = check(alone, x)
    assert report == Deployed(merged=1, folded=0) and type(result) is nn.Conv2d


class Doubled(nn.Conv2d):
    """Does more with its weight than its class's name says."""

    def forward(self, x):
        return 2 * super().forward(x)


def test_layers_that_are_more_than_their_class_are_left_alone():
    x = torch.randn(2, 3, 9, 9)
    assert check(row(Doubled(3, 4, 1), nn.BatchNorm2d(4)), x)[1].folded == 0
    hooked = row(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    hooked[0].register_forward_hook(doubled)
    assert check(hooked, x)[1].folded == 0
    normed = row(parametrizations.weight_norm(nn.Conv2d(3, 4, 1)), nn.BatchNorm2d(4))
    assert check(normed, x)[1].folded == 0


def doubled(module, args, output):
    return 2 * output


def test_a_model_without_norms_is_copied():
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU())
    result = deploy(model.train())
    assert model.training and not result.training
    assert all(
        torch.equal(a, b) and a is not b for a, b in zip(model.parameters(), result.parameters(), strict=True)
    )


def test_dtype_and_copies():
    model = short("cspnext_tiny", dims=1).to(torch.bfloat16)
    result = deploy(model)
    assert {p.dtype for p in result.parameters()} == {torch.bfloat16}
    again = deploy(copy.deepcopy(result))
    x = inputs(1).bfloat16()
    assert torch.equal(again(x), result(x))


def test_a_deployed_model_is_exported():
    x = inputs(1)
    model = trained(short("unireplknet_a", dims=1, rule="add"))
    result = deploy(model)
    program = torch.export.export(result, (x,)).module()
    torch.testing.assert_close(program(x), result(x))
