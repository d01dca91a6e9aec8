"""Pseudo-3D networks: two factors in place of a 3x3x3 convolution, in three wirings that take turns."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn
from torch.nn import functional

from core.backbones import create_backbone
from core.compress.folding import deployed
from core.errors import ConfigError
from core.residual import Residual, list_rules
from core.residual.attention import list_attention
from core.residual.blocks import Block, BlockSpec, create_block

TINY = {"layers": (2, 2), "widths": (16, 32), "strides": (1, 2), "stem_width": 8}
every_wiring = pytest.mark.parametrize("wiring", ["A", "B", "C", "S"])


def small(wiring="ABCS", **options):
    torch.manual_seed(0)
    block = {"block_options": {"wiring": wiring}}
    return create_backbone("p3d63", **{"dims": 3, **TINY, **block, **options})


def one_block(wiring, in_channels=16, out_channels=16, stride=1, **fields):
    torch.manual_seed(0)
    spec = BlockSpec(in_channels, out_channels, stride, dims=3, **fields)
    return create_block("p3d", spec, wiring=wiring)


def identity_in_time(conv):
    nn.init.zeros_(conv.weight)
    with torch.no_grad():
        conv.weight[:, :, 1, 0, 0] = torch.eye(len(conv.weight))
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)


def test_serial_blocks_without_time_are_a_network_on_frames():
    """With temporal kernels of (0, 1, 0) wiring A is the 2-D bottleneck, frame by frame."""
    options = {**TINY, "norm": "none", "stem": "cifar", "zero_init_last": False, "num_classes": 5}
    volumes = create_backbone("p3d63", dims=3, block_options={"wiring": "A"}, **options)
    frames = create_backbone("resnet50", **options)
    state = {}
    for key, value in volumes.state_dict().items():
        module = key.rpartition(".")[0]
        if module.endswith("conv3"):
            identity_in_time(volumes.get_submodule(module))
        elif value.ndim < 5:
            state[key.replace("conv4", "conv3")] = value
        else:
            if module == "conv1":
                with torch.no_grad():
                    value[:, :, [0, 2]] = 0  # the stem's kernel reads three frames
            state[key.replace("conv4", "conv3")] = value[:, :, value.shape[2] // 2]
    frames.load_state_dict(state)
    x = torch.randn(2, 3, 5, 12, 10)
    with torch.no_grad():
        for stride, feature in zip((1, 2), volumes.forward_features(x), strict=True):
            kept = range(0, 5, stride)
            level = [f.shape[1] for f in frames.forward_features(x[:, :, 0])].index(feature.shape[1])
            for t, frame in enumerate(kept):
                expected = frames.forward_features(x[:, :, frame])[level]
                torch.testing.assert_close(feature[:, :, t], expected, rtol=1e-5, atol=1e-5)


def _space(x, block):
    frames = x.movedim(2, 1).flatten(0, 1)
    y = functional.conv2d(
        frames, block.conv2.weight[:, :, 0], block.conv2.bias, stride=block.spec.stride, padding=1
    )
    y = y.unflatten(0, (len(x), x.shape[2])).movedim(1, 2)
    return y[:, :, :: block.spec.stride].relu()


def _time(x, block, stride):
    x = x[..., ::stride, ::stride]
    series = x.movedim(2, -1).movedim(1, 3).flatten(0, 2)
    y = functional.conv1d(series, block.conv3.weight[..., 0, 0], block.conv3.bias, stride=stride, padding=1)
    return y.unflatten(0, (len(x), *x.shape[3:])).movedim(3, 1).movedim(-1, 2).relu()


@pytest.mark.parametrize("stride", [1, 2])
@every_wiring
def test_wirings(wiring, stride):
    """The branch, computed by 2-D convolutions of frames and 1-D convolutions along time."""
    block = one_block(wiring, out_channels=24, stride=stride, norm="none")
    x = torch.randn(2, 16, 5, 6, 7)
    wide = functional.conv3d(x, block.conv1.weight, block.conv1.bias).relu()
    s = _space(wide, block)
    middle = {
        "A": lambda: _time(s, block, 1),
        "B": lambda: s + _time(wide, block, stride),
        "C": lambda: s + _time(s, block, 1),
        "S": lambda: s,
    }[wiring]()
    expected = functional.conv3d(middle, block.conv4.weight, block.conv4.bias)
    torch.testing.assert_close(block.branch(x), expected, rtol=1e-4, atol=1e-5)


def test_wirings_take_turns_until_the_last_stage():
    with torch.device("meta"):
        model = create_backbone("p3d63", dims=3)
    wirings = "".join(m.wiring for m in model.modules() if isinstance(m, Residual))
    assert wirings == "ABC" + "ABCA" + "BCABCA" + "SSS"
    assert [m.wiring for m in small("ABC").modules() if isinstance(m, Residual)] == ["A", "B", "C", "A"]


@pytest.mark.parametrize("depth", [63, 131, 199])
def test_the_name_is_the_number_of_weight_layers(depth):
    with torch.device("meta"):
        model = create_backbone(f"p3d{depth}", dims=3, num_classes=10)
    layers = [m for m in model.modules() if isinstance(m, (nn.Conv3d, nn.Linear))]
    assert len(layers) - len(TINY["layers"]) - 2 == depth, "four shortcuts do not count"


@every_wiring
@pytest.mark.parametrize("stride", [1, 2])
def test_parameters_of_a_block(wiring, stride):
    """in q + 9 q^2 + 3 q^2 + 4 q^2 with q = C / 4, two numbers a channel for each norm, and the shortcut."""
    width, inner = 64 * stride, 16 * stride
    block = one_block(wiring, 64, width, stride)
    temporal = 3 * inner**2 + 2 * inner if wiring != "S" else 0
    expected = 64 * inner + 2 * inner + 9 * inner**2 + 2 * inner + temporal + inner * width + 2 * width
    if stride == 2:
        expected += 64 * width + 2 * width
    assert sum(p.numel() for p in block.parameters()) == expected


def test_parameters_of_a_network():
    """A ResNet-152 with 3 of 9 kernel positions more, 47 times, and 3-D in the stem alone."""
    with torch.device("meta"):
        ours = create_backbone("p3d199", dims=3, num_classes=1000)
    inner = [64] * 3 + [128] * 8 + [256] * 36
    expected = 60_192_808 + 64 * 3 * 49 * 6 + sum(3 * width**2 + 2 * width for width in inner)
    assert sum(p.numel() for p in ours.parameters()) == expected


@every_wiring
def test_blocks_begin_as_their_shortcut(wiring):
    block, x = one_block(wiring).eval(), torch.randn(2, 16, 4, 5, 6)
    assert not torch.allclose(block(x), x.relu(), atol=1e-3)
    block.zero_init_last()
    assert torch.equal(block(x), x.relu())
    assert torch.equal(small(wiring).eval().layer1[1](x), x.relu())


@every_wiring
def test_every_norm_folds(wiring):
    x = torch.randn(2, 3, 8, 16, 16)
    model = small(wiring, zero_init_last=False, num_classes=3)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.2 * torch.randn_like(parameter))
        model(x)
    folded, done = deployed(model.eval())
    assert done.folded == sum(isinstance(m, nn.BatchNorm3d) for m in model.modules())
    torch.testing.assert_close(folded(x), model(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("rule", list_rules())
def test_every_rule_trains(rule):
    model = small(num_classes=3, rule=rule)
    x, target = torch.randn(3, 3, 8, 16, 16), torch.tensor([0, 1, 2])
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-2)
    touched = set()
    for _ in range(
        8
    ):  # a scale that starts at 0 holds the branch's gradients back, a dropped update does too
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), target).backward()
        optimizer.step()
        touched |= {key for key, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    assert not {key for key, _ in model.named_parameters() if "rule" not in key} - touched


@pytest.mark.parametrize("norm", ["instance", "group", "layer", "none"])
def test_options_reach_every_block(norm):
    model = small(norm=norm, act="prelu", num_classes=3)
    assert not any(isinstance(m, (nn.modules.batchnorm.BatchNorm3d, nn.ReLU)) for m in model.modules())
    convs = [m for m in model.modules() if isinstance(m, nn.Conv3d)]
    assert all((conv.bias is not None) == (norm == "none") for conv in convs)
    for attention in list_attention():
        slots = [m.se for m in small(attention=attention).modules() if isinstance(m, Block)]
        assert all((type(slot) is nn.Identity) == (attention == "none") for slot in slots)
    assert one_block("B", out_channels=64, dilation=2).conv3.dilation == (2, 2, 2)
    grouped = create_block("p3d", BlockSpec(64, 64, dims=3), cardinality=4, base_width=16)
    assert (grouped.conv2.groups, grouped.conv3.groups, grouped.conv2.in_channels) == (4, 4, 16)


def test_copies():
    model, x = small(num_classes=3).eval(), torch.randn(1, 3, 8, 16, 16)
    expected = model(x)
    assert torch.equal(pickle.loads(pickle.dumps(model))(x), expected)
    assert torch.equal(copy.deepcopy(model)(x), expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dims": 2}, "this backbone exists for dims=3 alone, not 2"),
        ({"wiring": "ABX"}, "unknown P3D wiring 'X'. Known: A, B, C, S"),
        ({"wiring": ""}, "wiring of P3D blocks must name one or more of A, B, C and S"),
        ({"widths": (2, 4)}, "a bottleneck of 2 channels is too narrow"),
    ],
)
def test_a_wrong_option_is_one_line(options, message):
    with pytest.raises(ConfigError, match=message):
        small(**options)
    with pytest.raises(ConfigError, match="P3D blocks exist for dims=3 alone, not 2"):
        create_block("p3d", BlockSpec(16, 16))
