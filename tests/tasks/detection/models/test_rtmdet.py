"""RTMDet and RTMDet-Ins: sizes, names, places, boxes and masks."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

from core.compress.folding import deploy
from core.residual import Residual
from tasks.detection.models.head import decode_boxes, join_levels, make_priors
from tasks.detection.models.rtmdet import SIZES, Outputs, RTMDet
from tasks.detection.models.rtmdet_ins import RTMDetIns

# Parameters with 80 classes, counted in mmdetection: all, and of backbone, neck and head; all of RTMDet-Ins.
COUNTS = {
    "tiny": (4_896_168, (2_348_700, 2_188_944, 358_524), 5_638_187),
    "s": (8_886_924, (4_378_320, 3_883_200, 625_404), 10_183_311),
    "m": (24_709_188, (12_279_432, 11_049_408, 1_380_348), 27_575_111),
    "l": (52_315_804, (26_138_912, 23_746_688, 2_430_204), 57_365_663),
    "x": (94_855_572, (47_569_560, 43_511_040, 3_774_972), 102_703_767),
}


def parameters(module):
    return sum(weight.numel() for weight in module.parameters())


def on_meta(kind, *args, **options):
    with torch.device("meta"):
        return kind(*args, **options)


def shaken(network, seed=0):
    """The network in evaluation mode with norms and heads that are not as at the start."""
    generator = torch.Generator().manual_seed(seed)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.normal_(0, 0.1, generator=generator)
            layer.running_var.uniform_(0.5, 1.5, generator=generator)
            nn.init.uniform_(layer.weight, 0.5, 1.5, generator=generator)
    for layer in network.bbox_head.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.normal_(layer.weight, std=0.1, generator=generator)
    for layer in network.bbox_head.rtm_cls:
        nn.init.normal_(layer.weight, std=1.0, generator=generator)
    return network.eval()


def images(height=64, width=96, count=2):
    return torch.randn(count, 3, height, width, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("size", COUNTS)
def test_parameters_are_those_of_mmdetection(size):
    total, parts, masks = COUNTS[size]
    network = on_meta(RTMDet, size, 80)
    assert parameters(network) == total
    assert tuple(parameters(p) for p in (network.backbone, network.neck, network.bbox_head)) == parts
    assert parameters(on_meta(RTMDetIns, size, 80)) == masks


def test_nano_is_half_as_wide_as_s_and_as_deep_as_tiny():
    network = on_meta(RTMDet, "nano", 3)
    assert [info.channels for info in network.backbone.feature_info] == [32, 64, 128, 256]
    assert network.channels == 64 and network.bbox_head.exp
    assert len(network.neck.top_down_blocks[0].blocks) == 1
    assert 2_000_000 < parameters(network) < 2_300_000


def test_names_are_those_of_mmdetection():
    names = on_meta(RTMDet, "tiny", 80).state_dict()
    assert len(names) == 476
    shapes = {
        "backbone.stem.0.conv.weight": (12, 3, 3, 3),
        "backbone.stage4.1.conv2.conv.weight": (384, 768, 1, 1),
        "backbone.stage4.2.attention.fc.bias": (384,),
        "neck.reduce_layers.0.conv.weight": (192, 384, 1, 1),
        "neck.top_down_blocks.0.main_conv.conv.weight": (96, 384, 1, 1),
        "neck.top_down_blocks.1.blocks.0.conv2.depthwise_conv.conv.weight": (48, 1, 5, 5),
        "neck.top_down_blocks.1.blocks.0.conv2.pointwise_conv.bn.running_var": (48,),
        "neck.downsamples.1.conv.weight": (192, 192, 3, 3),
        "neck.bottom_up_blocks.0.short_conv.conv.weight": (96, 192, 1, 1),
        "neck.bottom_up_blocks.1.final_conv.bn.weight": (384,),
        "neck.out_convs.2.conv.weight": (96, 384, 3, 3),
        "bbox_head.rtm_cls.2.bias": (80,),
        "bbox_head.rtm_reg.0.weight": (4, 96, 1, 1),
    }
    shapes |= {
        f"bbox_head.{tower}_convs.{level}.{layer}.{leaf}": shape
        for tower in ("cls", "reg")
        for level in range(3)
        for layer in range(2)
        for leaf, shape in (("conv.weight", (96, 96, 3, 3)), ("bn.running_mean", (96,)))
    }
    assert {name: tuple(names[name].shape) for name in shapes} == shapes
    assert not [name for name in names if "adapters" in name or ".act" in name]


def test_names_of_the_masks_are_those_of_mmdetection():
    names = on_meta(RTMDetIns, "tiny", 80).state_dict()
    shapes = {
        "bbox_head.kernel_convs.2.1.conv.weight": (96, 96, 3, 3),
        "bbox_head.reg_convs.1.0.bn.weight": (96,),
        "bbox_head.rtm_kernel.0.weight": (169, 96, 1, 1),
        "bbox_head.mask_head.fusion_conv.weight": (96, 288, 1, 1),
        "bbox_head.mask_head.fusion_conv.bias": (96,),
        "bbox_head.mask_head.stacked_convs.3.bn.bias": (96,),
        "bbox_head.mask_head.projection.weight": (8, 96, 1, 1),
    }
    assert {name: tuple(names[name].shape) for name in shapes} == shapes


def test_norms_are_those_of_the_published_weights():
    norms = [layer for layer in on_meta(RTMDet, "tiny", 3).modules() if isinstance(layer, nn.BatchNorm2d)]
    assert {(norm.eps, norm.momentum) for norm in norms} == {(1e-5, 0.1)}


def test_levels_share_convolutions_and_not_norms():
    head = RTMDet("nano", 3).bbox_head
    for towers in (head.cls_convs, head.reg_convs):
        for first, other in itertools.product(towers[:1], towers[1:]):
            assert all(a.conv is b.conv and a.bn is not b.bn for a, b in zip(first, other, strict=True))
    assert head.cls_convs[0][0].conv is not head.reg_convs[0][0].conv


def test_kernels_share_nothing_and_boxes_have_the_tower_of_classes():
    head = RTMDetIns("nano", 3).bbox_head
    assert head.reg_convs[2] is head.cls_convs[2]
    assert len({id(layer.conv) for tower in head.kernel_convs for layer in tower}) == 6


@torch.inference_mode()
def test_first_scores_are_one_in_a_hundred_and_first_masks_have_boxes():
    torch.manual_seed(0)
    network = RTMDet("tiny", 5).eval()
    boxes, scores = network.decode(network(images()))
    assert float(scores.mean()) == pytest.approx(0.01, rel=0.05)
    assert (boxes[..., 2:] - boxes[..., :2]).abs().max() < 8  # linear distances begin at zero
    masks = RTMDetIns("tiny", 5).eval()
    distances = join_levels(masks(images()).reg)
    torch.testing.assert_close(
        distances, make_priors(masks(images()).reg, (8, 16, 32))[:, 2:].expand(2, -1, 4), rtol=0.2, atol=0
    )


@pytest.mark.parametrize(("size", "exp"), [("tiny", False), ("s", False), ("m", True), ("x", True)])
def test_published_sizes_give_distances_as_published(size, exp):
    assert on_meta(RTMDet, size, 3).bbox_head.exp is exp
    assert on_meta(RTMDet, size, 3, exp_on_reg=not exp).bbox_head.exp is not exp


def test_distances_are_in_strides_and_exponential_where_asked():
    torch.manual_seed(0)
    linear = shaken(RTMDet("nano", 2, exp_on_reg=False))
    curved = RTMDet("nano", 2, exp_on_reg=True).eval()
    curved.load_state_dict(linear.state_dict())
    for stride, a, b in zip((8, 16, 32), linear(images()).reg, curved(images()).reg, strict=True):
        torch.testing.assert_close((a / stride).exp() * stride, b)
        assert a.min() < 0  # nothing keeps linear ones above 0


def test_places_are_corners_level_by_level_and_row_by_row():
    maps = [torch.empty(1, 4, 64 // s, 96 // s) for s in (8, 16, 32)]
    priors = make_priors(maps, (8, 16, 32))
    by_hand = [(x, y, s) for s in (8, 16, 32) for y in range(0, 64, s) for x in range(0, 96, s)]
    assert priors.dtype == torch.float32
    assert priors.tolist() == [list(map(float, place)) for place in by_hand]


def test_decoding_undoes_encoding():
    maps = [torch.empty(1, 4, 64 // s, 96 // s) for s in (8, 16, 32)]
    priors = make_priors(maps, (8, 16, 32))
    boxes = torch.rand(2, len(priors), 4, generator=torch.Generator().manual_seed(0)) * 96
    distances = torch.cat([priors[:, :2] - boxes[..., :2], boxes[..., 2:] - priors[:, :2]], -1)
    torch.testing.assert_close(decode_boxes(priors, distances), boxes)


def test_an_output_lands_at_its_own_place():
    maps = [(64 // s, 96 // s) for s in (8, 16, 32)]
    outputs = Outputs([torch.zeros(1, 2, *m) for m in maps], [torch.zeros(1, 4, *m) for m in maps])
    outputs.cls[1][0, 1, 3, 4] = 50.0
    outputs.reg[1][0, :, 3, 4] = torch.tensor([1.0, 2.0, 3.0, 4.0])
    logits, boxes, priors = on_meta(RTMDet, "nano", 2).flatten(outputs)
    place = int(logits[0, :, 1].argmax())
    assert place == 8 * 12 + 3 * 6 + 4 and priors[place].tolist() == [64, 48, 16]
    assert boxes[0, place].tolist() == [63, 46, 67, 52]


def test_half_precision_becomes_single_before_boxes_are_formed():
    outputs = Outputs(
        [torch.zeros(1, 2, s, s).bfloat16() for s in (8, 4, 2)],
        [torch.ones(1, 4, s, s).bfloat16() for s in (8, 4, 2)],
    )
    assert {tensor.dtype for tensor in on_meta(RTMDet, "nano", 2).flatten(outputs)} == {torch.float32}


@pytest.mark.parametrize("kind", [RTMDet, RTMDetIns])
def test_the_form_for_inference_gives_the_same(kind):
    torch.manual_seed(0)
    network = shaken(kind("nano", 3))
    folded = deploy(network)
    with torch.inference_mode():
        before, after = network.flatten(network(images())), folded.flatten(folded(images()))
    assert before[0].std() > 0.1
    for a, b in zip(before, after, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3)
    left = [layer for layer in folded.modules() if isinstance(layer, nn.BatchNorm2d)]
    shared = 12 if kind is RTMDet else 6  # norms behind the convolutions that the levels share
    assert len(left) == shared


def test_the_neck_reads_upsampled_before_lateral_features():
    torch.manual_seed(0)
    neck = RTMDet("nano", 1).neck.eval()
    features = [torch.randn(1, c, s, s) for c, s in ((64, 8), (128, 4), (256, 2))]
    up = nn.Upsample(scale_factor=2)
    p5 = neck.reduce_layers[0](features[2])
    t4 = neck.top_down_blocks[0](torch.cat([up(p5), features[1]], 1))
    p4 = neck.reduce_layers[1](t4)
    n3 = neck.top_down_blocks[1](torch.cat([up(p4), features[0]], 1))
    n4 = neck.bottom_up_blocks[0](torch.cat([neck.downsamples[0](n3), p4], 1))
    n5 = neck.bottom_up_blocks[1](torch.cat([neck.downsamples[1](n4), p5], 1))
    expected = [conv(x) for conv, x in zip(neck.out_convs, (n3, n4, n5), strict=True)]
    for a, b in zip(neck(features), expected, strict=True):
        torch.testing.assert_close(a, b)


def test_colours_and_their_statistics_turn_around_together():
    bgr, rgb = on_meta(RTMDet, "nano", 1), on_meta(RTMDet, "nano", 1, pixels="rgb")
    assert (bgr.pixels, rgb.pixels) == ("bgr", "rgb")
    assert bgr.mean == (103.53, 116.28, 123.675) and bgr.std == (57.375, 57.12, 58.395)
    assert rgb.mean == bgr.mean[::-1] and rgb.std == bgr.std[::-1]
    assert bgr.size_multiple == 32 and bgr.strides == (8, 16, 32)


def test_masks_are_drawn_as_by_a_network_for_each_place():
    generator = torch.Generator().manual_seed(0)
    prototypes = torch.randn(8, 5, 7, generator=generator)
    kernels = torch.randn(3, 169, generator=generator)
    priors = torch.tensor([[16.0, 8.0, 8.0], [32.0, 16.0, 16.0], [0.0, 32.0, 32.0]])
    drawn = on_meta(RTMDetIns, "nano", 1).mask_logits(prototypes, kernels, priors)
    assert drawn.shape == (3, 5, 7)
    for n, row, column in itertools.product(range(3), range(5), range(7)):
        x0, y0, stride = priors[n].tolist()
        x = torch.cat(
            [
                torch.tensor([(x0 - 8 * column) / (8 * stride), (y0 - 8 * row) / (8 * stride)]),
                prototypes[:, row, column],
            ]
        )
        k = kernels[n]
        x = (k[:80].reshape(8, 10) @ x + k[152:160]).relu()
        x = (k[80:144].reshape(8, 8) @ x + k[160:168]).relu()
        x = k[144:152] @ x + k[168]
        assert float(drawn[n, row, column]) == pytest.approx(float(x), rel=1e-4, abs=1e-4)


def test_a_rule_reaches_every_block_of_the_backbone():
    torch.manual_seed(0)
    network = RTMDet("nano", 2, rule="scaled", rule_options={"scale": 0.5})
    blocks = [module for module in network.backbone.modules() if isinstance(module, Residual)]
    assert len(blocks) == 3 and {type(block.rule).__name__ for block in blocks} == {
        type(RTMDet("nano", 2, rule="scaled").backbone.stage1[1].blocks[0].rule).__name__
    }
    assert {block.rule.scale for block in blocks} == {0.5}


def test_resnet18_has_the_widths_of_s_and_needs_no_adapters():
    network = on_meta(RTMDet, "s", 80, backbone="resnet18")
    assert parameters(network.adapters) == 0
    assert parameters(network.neck) == COUNTS["s"][1][1]


@pytest.mark.parametrize("backbone", ["resnet18", "mobilenetv2_100"])
def test_any_backbone_gives_features_through_adapters(backbone):
    torch.manual_seed(0)
    network = RTMDet("nano", 2, backbone=backbone)
    outputs = network(images())
    assert [tuple(level.shape) for level in outputs.cls] == [(2, 2, 8, 12), (2, 2, 4, 6), (2, 2, 2, 3)]
    loss = sum(level.sum() for level in (*outputs.cls, *outputs.reg))
    loss.backward()
    assert not [name for name, weight in network.named_parameters() if weight.grad is None]


@pytest.mark.parametrize("kind", [RTMDet, RTMDetIns])
def test_every_weight_learns(kind):
    torch.manual_seed(0)
    network = kind("nano", 2)
    tensors = network.flatten(network(images()))
    loss = sum(tensor.sum() for tensor in tensors if tensor.requires_grad)
    if kind is RTMDetIns:
        loss = loss + network(images()).prototypes.sum()
    loss.backward()
    assert not [name for name, weight in network.named_parameters() if weight.grad is None]


def test_a_program_with_free_sizes_gives_the_same():
    class AfterBackbone(nn.Module):
        def __init__(self, network):
            super().__init__()
            self.neck, self.head, self.decode = network.neck, network.bbox_head, network.decode

        def forward(self, features):
            return self.decode(Outputs(*self.head(self.neck(features))))

    def features(height, width, count=2):
        generator = torch.Generator().manual_seed(1)
        sizes = ((32, 4), (64, 2), (128, 1))
        return [torch.randn(count, 2 * c, f * height, f * width, generator=generator) for c, f in sizes]

    torch.manual_seed(0)
    program = AfterBackbone(shaken(RTMDet("nano", 2))).eval()
    batch = torch.export.Dim("batch", max=64)
    rows, columns = (torch.export.Dim(name, min=1, max=40) for name in ("rows", "columns"))
    shapes = ([{0: batch, 2: f * rows, 3: f * columns} for f in (4, 2)] + [{0: batch, 2: rows, 3: columns}],)
    exported = torch.export.export(program, (features(2, 3),), dynamic_shapes=shapes).module()
    other = features(3, 5, count=3)
    for a, b in zip(exported(other), program(other), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-3)


def test_sizes_are_the_table_of_the_paper():
    assert {name: size.widths[0] for name, size in SIZES.items()} == {
        "nano": 64,
        "tiny": 96,
        "s": 128,
        "m": 192,
        "l": 256,
        "x": 320,
    }
    assert [size.blocks for size in SIZES.values()] == [1, 1, 1, 2, 3, 4]
