"""RepLKNet and UniRepLKNet: parameters counted from the papers' structure, layers named, options handed down."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest
import torch
from torch import nn

from core import nd
from core.backbones import create_backbone, list_backbones
from core.compress.folding import deployed
from core.errors import ConfigError
from core.residual import Residual
from core.residual.blocks.unireplk import GlobalResponseNorm
from core.residual.reparam import DILATED, DilatedConv, LargeKernelConv

# Widths, kernels and parameters in millions: tables of arXiv:2203.06717 and arXiv:2311.15599, and the lists of
# models in the authors' repositories, which give the merged networks.
REPLKNET = {
    "replknet_31b": ((128, 256, 512, 1024), (31, 29, 27, 13), 5, 1, 79),
    "replknet_31l": ((192, 384, 768, 1536), (31, 29, 27, 13), 5, 1, 172),
    "replknet_xl": ((256, 512, 1024, 2048), (27, 27, 27, 13), 0, 1.5, 335),
}
UNIREPLKNET = {
    "unireplknet_a": (40, (2, 2, 6, 2), 1, 4.4),
    "unireplknet_f": (48, (2, 2, 6, 2), 1, 6.2),
    "unireplknet_p": (64, (2, 2, 6, 2), 1, 10.7),
    "unireplknet_n": (80, (2, 2, 8, 2), 1, 18.3),
    "unireplknet_t": (80, (3, 3, 18, 3), 2, 31),
    "unireplknet_s": (96, (3, 3, 27, 3), 3, 56),
    "unireplknet_b": (128, (3, 3, 27, 3), 3, 98),
    "unireplknet_l": (192, (3, 3, 27, 3), 3, 218),
    "unireplknet_xl": (256, (3, 3, 27, 3), 3, 386),
}


def parameters(model):
    return sum(p.numel() for p in model.parameters())


def on_meta(name, **options):
    with torch.device("meta"):
        return create_backbone(name, **options).eval()


def small(name, **options):
    torch.manual_seed(0)
    return create_backbone(name, layers=(1, 2), widths=(8, 16), **options).eval()


def replknet_parameters(widths, kernels, small_kernel, dw_ratio, classes):
    """Counts RepLKNet by its figure 4; a norm has two values a channel."""
    first, last = widths[0], widths[-1]
    stem = 27 * first + first * first + 2 * 9 * first + 4 * 2 * first
    blocks = 0
    for width, kernel, pairs in zip(widths, kernels, (2, 2, 18, 2), strict=True):
        inner = int(width * dw_ratio)
        depthwise = (kernel**2 + 2) * inner + ((small_kernel**2 + 2) * inner if small_kernel else 0)
        large = 2 * width + (width + 2) * inner + depthwise + (inner + 2) * width
        ffn = 2 * width + (width + 2) * 4 * width + (4 * width + 2) * width
        blocks += pairs * (large + ffn)
    between = sum((a + 2) * b + (9 + 2) * b for a, b in pairwise(widths))
    return stem + blocks + between + 2 * last + (last + 1) * classes


def unireplknet_parameters(first, layers, period, classes, merged=False):
    """Counts UniRepLKNet by its figure 2: SE of a quarter, GRN, layer scale, and 13 x 13 kernels but in stage 1."""
    widths = [first * 2**i for i in range(4)]
    total = 3 * 9 * first // 2 + first // 2 + first + (9 * first // 2 + 1) * first + 2 * first
    total += sum((9 * a + 1) * b + 2 * b for a, b in pairwise(widths))
    for stage, (width, count) in enumerate(zip(widths, layers, strict=True)):
        for block in range(count):
            large = stage > 0 and (stage != 2 or block % period == 0)
            branches = sum(k * k + 2 for k, _ in DILATED[13]) + 2 if large and not merged else 0
            depthwise = ((13 if large else 3) ** 2 + branches + (1 if merged else 2)) * width
            gate = (width + 1) * width // 4 + (width // 4 + 1) * width
            ffn = (width + 1) * 4 * width + 2 * 4 * width + (4 * width + (1 if merged else 2)) * width
            total += depthwise + gate + ffn + width
    return total + 2 * widths[-1] + (widths[-1] + 1) * classes


@pytest.mark.parametrize("name", REPLKNET)
def test_parameters_of_replknet(name):
    *structure, published = REPLKNET[name]
    model = on_meta(name, num_classes=1000)
    assert parameters(model) == replknet_parameters(*structure, 1000)
    merged, report = deployed(model)
    assert int(parameters(merged) / 1e6) == published
    assert report.merged == 24
    # Stem 4, transitions 6, two in each large-kernel block, two in each feed-forward network.
    assert report.folded == 4 + 6 + 24 * 2 + 24 * 2


@pytest.mark.parametrize("name", UNIREPLKNET)
def test_parameters_of_unireplknet(name):
    *structure, published = UNIREPLKNET[name]
    model = on_meta(name, num_classes=1000)
    assert parameters(model) == unireplknet_parameters(*structure, 1000)
    merged, report = deployed(model)
    assert parameters(merged) == unireplknet_parameters(*structure, 1000, merged=True)
    # The authors fold the layer scale and the shift of the response norm too: 5 values a channel of each block.
    folded = sum(
        p.numel() for key, p in merged.named_parameters() if key.endswith(("rule.gamma", "grn.beta"))
    )
    unit = 0.1 if isinstance(published, float) else 1
    assert abs((parameters(merged) - folded) / 1e6 - published) < 0.55 * unit
    assert not any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in merged.modules())
    assert report.folded == 2 * sum(structure[1])


def test_every_name_is_counted():
    assert set(list_backbones("*replknet*")) == {*REPLKNET, *UNIREPLKNET}


def test_kernels_alternate():
    kernels = {
        "unireplknet_n": [[3, 3], [13, 13], [13] * 8, [13, 13]],
        "unireplknet_t": [[3] * 3, [13] * 3, [13, 3] * 9, [13] * 3],
        "unireplknet_s": [[3] * 3, [13] * 3, [13, 3, 3] * 9, [13] * 3],
    }
    for name, expected in kernels.items():
        found = []
        for stage in on_meta(name).stages:
            convs = [block.dwconv.conv for block in stage]
            found.append([getattr(conv, "lk_origin", conv).kernel_size[0] for conv in convs])
        assert found == expected


def test_layers_have_the_names_of_the_authors():
    names = on_meta("replknet_31b", num_classes=1000).state_dict().keys()
    expected = [
        "stem.0.conv.weight",
        "stem.3.bn.running_var",
        "stages.0.blocks.0.prelkb_bn.weight",
        "stages.0.blocks.0.pw1.conv.weight",
        "stages.0.blocks.0.large_kernel.lkb_origin.conv.weight",
        "stages.0.blocks.0.large_kernel.small_conv.bn.bias",
        "stages.2.blocks.35.preffn_bn.weight",
        "stages.3.blocks.3.pw2.bn.weight",
        "transitions.2.1.conv.weight",
        "norm.weight",
        "head.bias",
    ]
    assert set(expected) <= names
    assert not any("rule" in name for name in names)


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("norm", ["batch", "group", "layer", "none"])
@pytest.mark.parametrize("act", ["silu", "prelu"])
def test_norm_and_activation_reach_every_layer(dims, norm, act):
    for name in ("replknet_31b", "unireplknet_t"):
        extra = {"ffn_act": act} if name.startswith("rep") else {"stem_norm": norm}
        with torch.device("meta"):
            model = create_backbone(
                name, dims=dims, norm=norm, act=act, layers=(1, 2), widths=(8, 16), **extra
            )
        kinds = Counter(map(type, model.modules()))
        acts = 4 + 2 + 3 * 3 if name.startswith("rep") else 1 + 3
        assert kinds[type(nd.act(act))] == acts
        assert not kinds[nn.ReLU] and not kinds[nn.GELU]
        # RepLKNet: stem 4, transition 2, head 1, and 5 + 3 in each pair. UniRepLKNet: 2 + 1 and the head's, with
        # 2 in a block of a small kernel, 2 + 6 in one of a large kernel (blocks 3, 13 and 13).
        norms = 4 + 2 + 1 + 3 * (5 + 3) if name.startswith("rep") else 3 + 2 + 8 + 8
        if norm == "none":
            assert not any(isinstance(m, nn.GroupNorm | nn.LayerNorm) for m in model.modules())
        else:
            assert kinds[type(nd.norm(norm, dims, 8))] == norms + (norm == "layer" and name.startswith("uni"))
        if norm != "batch":
            assert not any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in model.modules())


def test_eps_of_the_norms():
    norms = {type(m): m.eps for m in on_meta("unireplknet_t").modules() if hasattr(m, "eps")}
    assert norms == {nn.BatchNorm2d: 1e-5, nd.ChannelNorm: 1e-6}
    norms = [m.eps for m in on_meta("replknet_31b", norm_eps=1e-3).modules() if hasattr(m, "eps")]
    assert len(norms) == 4 + 6 + 24 * (5 + 3) + 1 and set(norms) == {1e-3}


def test_drop_path_is_shared_by_a_pair_of_replknet():
    blocks = [m for m in on_meta("replknet_31b", drop_path=0.23).modules() if isinstance(m, Residual)]
    rates = [getattr(block.drop_path, "rate", 0.0) for block in blocks]
    assert rates == pytest.approx([0.01 * (i // 2) for i in range(48)])


def test_layer_scale_is_the_rule():
    model = small("unireplknet_a")
    blocks = [m for m in model.modules() if isinstance(m, Residual)]
    assert [(block.rule.gamma == 1e-6).all().item() for block in blocks] == [True] * 3
    block, x = blocks[1], torch.randn(2, 16, 9, 9)
    torch.testing.assert_close(block(x), x + 1e-6 * block.branch(x))


def test_global_response_norm_by_hand():
    norm = GlobalResponseNorm(2)
    norm.gamma.data.fill_(2.0)
    norm.beta.data.fill_(0.5)
    x = torch.tensor([[[3.0, 4.0], [0.0, 1.0]]])  # norms 5 and 1, mean 3
    expected = torch.tensor([[[3.0, 4.0], [0.0, 1.0]]]) * torch.tensor([[2 * 5 / 3 + 1], [2 / 3 + 1]]) + 0.5
    torch.testing.assert_close(norm(x), expected)


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("name", ["replknet_31b", "replknet_xl", "unireplknet_s"])
def test_merged_features(name, dims):
    kernels = {"kernels": (7, 5)} if name.startswith("rep") else {"kernels": ((7, 3), (5, 9)), "rule": "add"}
    model = small(name, dims=dims, num_classes=3, **kernels).double()
    x = torch.randn(2, 3, *(16,) * dims).double()
    model.train()(x)  # statistics of its own
    model.eval()
    merged, report = deployed(model)
    assert report.merged == {"r": 3, "u": 2}[name[0]]  # the kernel of 5 has no dilated branches
    assert not any(isinstance(m, LargeKernelConv | DilatedConv) for m in merged.modules())
    for expected, feature in zip(model.forward_features(x), merged.forward_features(x), strict=True):
        assert (expected - feature).abs().max() <= 1e-12 * expected.abs().max()


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("replknet_31b", {"kernels": (31,)}, r"kernels \(31,\) has fewer entries than layers"),
        ("replknet_31b", {"widths": (64,)}, "each stage needs a width and a number of blocks"),
        ("replknet_31b", {"layers": (2, 2, 0, 2)}, "layers must be 1 or more blocks for each stage"),
        ("replknet_31b", {"small_kernel": 33}, "the small one not above 31, not 31 and 33"),
        ("replknet_31b", {"dw_ratio": 0.001}, "dw_ratio 0.001 leaves no channel of 128"),
        ("unireplknet_t", {"kernels": ((3,), (), (3,), (3,))}, "must name one or more for each stage"),
        (
            "unireplknet_t",
            {"kernels": ((3,), (19,), (3,), (3,))},
            "kernels of 5, 7, 9, 11, 13, 15, 17, not 19",
        ),
        ("unireplknet_t", {"kernels": ((4,), (3,), (3,), (3,))}, "must be odd, not 4"),
        ("unireplknet_t", {"stem_norm": "bach"}, "Did you mean 'batch'"),
        ("unireplknet_t", {"norm_eps": -1.0}, "eps of a normalisation must be above 0, not -1.0"),
    ],
)
def test_a_wrong_option_is_one_line(name, options, message):
    with pytest.raises(ConfigError, match=message):
        on_meta(name, **options)
