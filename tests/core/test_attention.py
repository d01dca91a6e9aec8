"""Every registered attention slot is tested by being registered."""

from __future__ import annotations

import copy
import io
import pickle

import pytest
import torch
from timm.layers import EcaModule, EffectiveSEModule, SEModule, SplitAttn, make_divisible
from timm.layers.cbam import CbamModule
from timm.layers.coord_attn import CoordAttn
from torch import nn

from core.errors import ConfigError
from core.residual.attention import (
    ATTENTION,
    SplitAttention,
    attention_options,
    create_attention,
    list_attention,
)
from core.residual.attention.width import divisible

CHANNELS = 12
SPATIAL = {1: (7,), 2: (5, 4), 3: (3, 5, 2)}
SCALES = ["none", "se", "ese", "eca", "channel", "cbam", "coord", "balanced"]  # y / x within [0, 1]
NORMED = [name for name in list_attention() if "norm" in attention_options(name)]
every_slot = pytest.mark.parametrize("name", list_attention())
every_dims = pytest.mark.parametrize("dims", [1, 2, 3])


def randomise(module, seed=1):
    """Random parameters and statistics, so that nothing hides behind an initial 0 or 1; evaluation mode."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point():
            tensor.normal_(generator=generator)
            if name.endswith("running_var"):
                tensor.abs_().add_(0.5)
    return module.eval()


def build(name, dims, seed=1, channels=CHANNELS, **options):
    return randomise(create_attention(name, channels, dims, **options), seed)


def features(dims, seed=0, batch=3, channels=CHANNELS, space=None):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn((batch, channels, *(space or SPATIAL[dims])), generator=generator)


# --- every slot ---


@every_slot
@every_dims
def test_shape_is_kept_at_every_size(name, dims):
    slot = build(name, dims)
    for size in (1, 2, 3, 8):
        x = features(dims, space=(size,) * (dims - 1) + (max(size - 1, 1),))
        y = slot(x)
        assert y.shape == x.shape
        assert torch.isfinite(y).all()
    single = features(dims, batch=1)
    assert slot(single).shape == single.shape
    assert slot.train()(features(dims)).shape == features(dims).shape


@every_slot
@every_dims
def test_gradient_reaches_input_and_parameters(name, dims):
    slot = build(name, dims)
    x = features(dims, batch=8).requires_grad_()
    (slot(x) * features(dims, batch=8, seed=5)).sum().backward()
    for tensor in (x, *slot.parameters()):
        assert torch.isfinite(tensor.grad).all()
        assert (tensor.grad != 0).any()
    assert x._version == 0


@every_slot
@every_dims
def test_samples_are_independent_in_evaluation(name, dims):
    # In float64: a batch of another size may be convolved by another algorithm, which rounds differently.
    slot, x = build(name, dims).double(), features(dims).double()
    alone = torch.cat([slot(x[i : i + 1]) for i in range(len(x))])
    torch.testing.assert_close(slot(x), alone)


@every_slot
@every_dims
def test_copies_and_state_dict_give_the_same_output(name, dims):
    slot, x = build(name, dims), features(dims)
    expected = slot(x)
    assert torch.equal(pickle.loads(pickle.dumps(slot))(x), expected)
    assert torch.equal(copy.deepcopy(slot)(x), expected)
    file = io.BytesIO()
    torch.save(slot.state_dict(), file)
    file.seek(0)
    fresh = build(name, dims, seed=2)
    fresh.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(fresh(x), expected)
    assert name == "none" or not torch.equal(build(name, dims, seed=2)(x), expected)


@every_slot
@every_dims
def test_export(name, dims):
    slot, x = build(name, dims), features(dims)
    program = torch.export.export(slot, (x,), strict=False).module()
    torch.testing.assert_close(program(x), slot(x))


@every_slot
def test_dtypes(name):
    x = features(2)
    assert build(name, 2).double()(x.double()).dtype == torch.float64
    assert build(name, 2).bfloat16()(x.bfloat16()).dtype == torch.bfloat16
    with torch.autocast("cpu", torch.bfloat16):
        mixed = build(name, 2)(x)
    torch.testing.assert_close(mixed.float(), build(name, 2)(x), rtol=0.1, atol=0.5)


@every_dims
@pytest.mark.parametrize("name", SCALES)
def test_scales_shrink(name, dims):
    x = features(dims)
    y = build(name, dims)(x)
    assert (y.abs() <= x.abs()).all()
    assert (y * x >= 0).all()


@every_dims
@pytest.mark.parametrize("norm", ["batch", "instance", "group", "layer", "none", "bias"])
@pytest.mark.parametrize("name", NORMED)
def test_norms_reach_the_slot_and_leave_it_alive(name, norm, dims):
    torch.manual_seed(0)
    slot = create_attention(name, 64, dims, norm=norm).double()
    has_batch_norm = any(isinstance(layer, nn.modules.batchnorm._BatchNorm) for layer in slot.modules())
    assert has_batch_norm == (norm == "batch")
    space = (8, 9, 7)[:dims]
    x = features(dims, channels=64, space=space).double()
    (slot(x) * features(dims, channels=64, space=space, seed=5)).sum().backward()
    # A norm over a single value returns 0, whatever the convolution before it computes.
    weights = [parameter for parameter in slot.parameters() if parameter.ndim > 1]
    assert all(weight.grad.abs().max() > 1e-6 for weight in weights)


# --- counts ---


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


@every_dims
@pytest.mark.parametrize("channels", [48, 64, 256])
def test_number_of_parameters(channels, dims):
    c = channels
    # C / 16 and C / 24 rounded to multiples of 8, and C / 16 alone.
    se, coord, plain = {48: (8, 8, 3), 64: (8, 8, 4), 256: (16, 8, 16)}[c]
    hidden = max(32, c // 2)
    unit = 2 * c + c * (c // 4) + 2 * (c // 4) + (c // 4) ** 2 * 3**dims + 2 * (c // 4) + c * (c // 4)
    by_hand = {
        "none": 0,
        "se": 2 * c * se + c + se,
        "ese": c * c + c,
        "eca": 5 if c == 256 else 3,
        "channel": 2 * c * plain + c + plain,
        "cbam": 2 * c * plain + 2 * 7**dims + 2,
        "coord": c * coord + 2 * coord + dims * c * coord,
        "balanced": 2 * c * se + c + se + c * coord + 2 * coord + dims * c * coord + 1,
        "residual": 2 * unit + 2 * c + c * c + 2 * c + c * c + c,
        "split": c * c * 3**dims + 4 * c + c * hidden + 3 * hidden + 2 * c * hidden + 2 * c,
    }
    assert set(by_hand) == set(ATTENTION)
    for name, number in by_hand.items():
        assert count(create_attention(name, c, dims)) == number, name


def test_published_widths():
    # RCAN squeezes 64 channels to 4 (arXiv:1807.02758, section 4.1).
    assert create_attention("channel", 64, 2).fc1.weight.shape == (4, 64, 1, 1)
    # The last stage of ResNet-RS has 2048 channels and a ratio of 1/4.
    assert create_attention("se", 2048, 2, ratio=0.25).fc1.weight.shape == (512, 2048, 1, 1)


@pytest.mark.parametrize(("minimum", "keep"), [(0, 0.9), (0, 0.0), (32, 0.9)])
@pytest.mark.parametrize("divisor", [1, 8])
def test_widths_are_those_of_timm(divisor, minimum, keep):
    for width in (0.3, 1, 3.5, 7.99, 8, 11.9, 12, 13, 31, 33, 68, 85.33, 1000):
        assert divisible(width, divisor, minimum, keep) == make_divisible(width, divisor, minimum, keep)


@pytest.mark.parametrize("channels", range(8, 1025, 40))
def test_squeezes_are_those_of_timm(channels):
    for name, reference in (("se", SEModule), ("coord", CoordAttn), ("cbam", CbamModule), ("eca", EcaModule)):
        ours, theirs = create_attention(name, channels, 2), reference(channels)
        shapes = [[(key, value.shape) for key, value in m.state_dict().items()] for m in (ours, theirs)]
        assert shapes[0] == shapes[1]


# --- equality with timm ---


def assert_same(ours, theirs, x):
    """Equal output in evaluation and training after the weights went either way."""
    for source, target in ((ours, theirs), (theirs, ours)):
        randomise(source, seed=3)
        randomise(target, seed=4)
        target.load_state_dict(source.state_dict())
        torch.testing.assert_close(ours(x), theirs(x), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(ours.train()(x), theirs.train()(x), rtol=1e-5, atol=1e-5)
        # Training has moved the statistics of both.
        torch.testing.assert_close(ours.eval()(x), theirs.eval()(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "options", "reference"),
    [
        ("se", {}, lambda: SEModule(48)),
        ("se", {"ratio": 0.25}, lambda: SEModule(48, rd_ratio=0.25)),
        ("ese", {}, lambda: EffectiveSEModule(48)),
        ("eca", {}, lambda: EcaModule(48)),
        ("channel", {}, lambda: SEModule(48, rd_divisor=1)),
        ("cbam", {}, lambda: CbamModule(48)),
        ("cbam", {"kernel": 3}, lambda: CbamModule(48, spatial_kernel_size=3)),
        ("coord", {}, lambda: CoordAttn(48)),
        ("coord", {"ratio": 0.5}, lambda: CoordAttn(48, rd_ratio=0.5)),
        ("split", {}, lambda: SplitAttn(48, norm_layer=nn.BatchNorm2d)),
        ("split", {"radix": 3}, lambda: SplitAttn(48, radix=3, norm_layer=nn.BatchNorm2d)),
    ],
)
def test_slot_equals_timm(name, options, reference):
    assert_same(create_attention(name, 48, 2, **options), reference(), features(2, channels=48))


@pytest.mark.parametrize("radix", [1, 2, 4])
@pytest.mark.parametrize("cardinality", [1, 2])
@pytest.mark.parametrize(("stride", "dilation"), [(1, 1), (2, 1), (1, 2)])
def test_split_convolution_equals_timm(radix, cardinality, stride, dilation):
    ours = SplitAttention(16, 24, 2, radix=radix, cardinality=cardinality, stride=stride, dilation=dilation)
    theirs = SplitAttn(
        16,
        24,
        stride=stride,
        dilation=dilation,
        padding=dilation,
        groups=cardinality,
        radix=radix,
        norm_layer=nn.BatchNorm2d,
    )
    assert_same(ours, theirs, features(2, channels=16, space=(9, 8)))


# --- what the papers say ---


@every_dims
def test_squeeze_excitation_by_hand(dims):
    slot, x = build("se", dims), features(dims)
    mean = x.flatten(2).mean(2)
    hidden = (mean @ slot.fc1.weight.flatten(1).T + slot.fc1.bias).relu()
    gate = torch.sigmoid(hidden @ slot.fc2.weight.flatten(1).T + slot.fc2.bias)
    torch.testing.assert_close(slot(x), (x.flatten(2) * gate[..., None]).reshape(x.shape))


@every_dims
def test_coordinate_gates_vary_along_their_own_axis(dims):
    slot, x = build("coord", dims), features(dims, batch=1)
    # The gate is a product of one factor an axis: its logarithm has no mixed differences.
    log = (slot(x) / x).double().log()
    for first in range(2, 2 + dims):
        assert (log.diff(dim=first).abs() > 1e-6).any()
        for second in range(first + 1, 2 + dims):
            mixed = log.diff(dim=first).diff(dim=second)
            torch.testing.assert_close(mixed, torch.zeros_like(mixed), rtol=0, atol=1e-4)


def test_coordinate_attention_of_a_volume_contains_that_of_an_image():
    volume, image = build("coord", 3), build("coord", 2)
    weights = volume.state_dict()
    for key, value in image.state_dict().items():
        weights[key] = value[..., None] if value.ndim == 4 else value
    weights["conv_d.weight"] = torch.zeros_like(weights["conv_d.weight"])
    volume.load_state_dict(weights)
    x = features(2)
    # An axis of length 1 whose gate is sigmoid(0) = 0.5.
    torch.testing.assert_close(volume(x[:, :, None])[:, :, 0], image(x) / 2)


@every_dims
def test_balance_of_coordinates_and_squeeze(dims):
    slot, x = build("balanced", dims), features(dims)
    assert slot.logit.shape == (1,)
    for logit, expected in (
        (200.0, slot.coord(x)),
        (-200.0, slot.se(x)),
        (0.0, (slot.coord(x) + slot.se(x)) / 2),
    ):
        nn.init.constant_(slot.logit, logit)
        torch.testing.assert_close(slot(x), expected)
    assert create_attention("balanced", CHANNELS, dims).alpha == 0.5


@every_dims
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_residual_mask(dims, depth):
    slot, x = build("residual", dims, depth=depth), features(dims, space=(13, 9, 5)[:dims])
    y = slot(x)
    assert (y.abs() >= x.abs()).all()
    assert (y.abs() <= 2 * x.abs()).all()
    default = create_attention("residual", CHANNELS, dims, depth=depth).eval()
    assert default.mask(x).shape == x.shape
    assert ((default.mask(x) > 0) & (default.mask(x) < 1)).all()
    for bias, expected in ((-1e4, x), (1e4, 2 * x)):
        nn.init.zeros_(slot.head[-1].weight)
        nn.init.constant_(slot.head[-1].bias, bias)
        assert torch.equal(slot(x), expected)


@pytest.mark.parametrize("depth", [1, 2])
def test_residual_mask_sees_further_with_depth(depth):
    x = torch.zeros(1, CHANNELS, 64, requires_grad=True)
    slot = build("residual", 1, depth=depth)
    slot.mask(x + features(1, batch=1, space=(64,)))[0, :, 32].sum().backward()
    reach = (x.grad[0].abs().sum(0) > 0).nonzero()
    # Two convolutions of 3 at half resolution reach about 4 + 4 + 1 positions to a side.
    assert (reach.max() - reach.min() > 22) == (depth == 2)


def test_residual_mask_reads_nothing_but_pooled_features():
    slot, x = build("residual", 1), features(1, space=(9,)).abs()
    changed = x.clone()
    changed[..., 4] = -1.0  # only in the window of positions 3 to 5, whose maximum is elsewhere
    x[..., 4] = -2.0
    assert torch.equal(slot.mask(x), slot.mask(changed))


@every_dims
def test_weights_of_the_split_sum_to_one(dims):
    score = features(dims, channels=24, space=(1,) * dims)
    slot = SplitAttention(CHANNELS, 6, dims, radix=4)
    weights = slot.weights(score)
    assert weights.shape == (3, 4, 6)
    torch.testing.assert_close(weights.sum(1), torch.ones(3, 6))
    single = SplitAttention(CHANNELS, 24, dims, radix=1)
    assert torch.equal(single.weights(score)[:, 0], score.flatten(1).sigmoid())


@every_dims
def test_equal_candidates_of_the_split_are_averaged(dims):
    slot = build("split", dims)
    nn.init.zeros_(slot.fc2.weight)
    nn.init.zeros_(slot.fc2.bias)
    x = features(dims)
    candidates = slot.bn0(slot.conv(x)).relu()
    torch.testing.assert_close(slot(x), (candidates[:, :CHANNELS] + candidates[:, CHANNELS:]) / 2)


@every_dims
def test_split_convolution_changes_width_and_resolution(dims):
    layer = SplitAttention(8, 12, dims, stride=2, act="gelu", norm="group")
    assert layer(features(dims, channels=8, space=(7,) * dims)).shape == (3, 12, *(4,) * dims)
    assert isinstance(layer.act0, nn.GELU)


# --- construction ---


def test_options_are_listed_with_their_defaults():
    assert attention_options("none") == {}
    assert attention_options("cbam") == {"ratio": 1 / 16, "kernel": 7, "norm": "batch"}
    assert {"none", "se", "coord", "split"} <= set(list_attention())


def test_activation_reaches_the_slots_that_have_one():
    assert isinstance(create_attention("split", 8, 2, act="silu").act1, nn.SiLU)
    assert isinstance(create_attention("none", 8, 2, act="silu", norm="batch"), nn.Identity)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("sse", {}, r"unknown attention 'sse'\. Did you mean"),
        (
            "se",
            {"ration": 0.5},
            r"'se' has no option 'ration'\. Did you mean 'ratio'\? Options: ratio, divisor",
        ),
        ("none", {"ratio": 0.5}, r"'none' has no option 'ratio'\. It has no options"),
        ("se", {"ratio": "half"}, "attention 'se': ratio takes float, not 'half'"),
        ("se", {"ratio": 0.0}, "attention 'se': ratio must be above 0, not 0.0"),
        ("se", {"divisor": 0}, "attention 'se': divisor must be 1 or more, not 0"),
        ("cbam", {"kernel": 4}, "attention 'cbam': kernel must be an odd number, not 4"),
        ("coord", {"norm": "bach"}, r"unknown normalisation 'bach'\. Did you mean 'batch'\?"),
        ("residual", {"depth": 0}, "attention 'residual': depth must be 1 or more, not 0"),
        ("split", {"radix": 0}, "radix 0 and cardinality 1 must be 1 or more"),
        ("split", {"radix": 5}, "radix \\* cardinality = 5 must divide 12 input channels"),
    ],
)
def test_wrong_options_are_one_line(name, options, message):
    with pytest.raises(ConfigError, match=message) as caught:
        create_attention(name, CHANNELS, 2, **options)
    assert "\n" not in str(caught.value)


@every_slot
def test_wrong_geometry_is_one_line(name):
    with pytest.raises(ConfigError, match="must be 1 or more, not 0"):
        create_attention(name, 0, 2)
    with pytest.raises(ConfigError, match="dims must be 1"):
        create_attention(name, CHANNELS, 4)
