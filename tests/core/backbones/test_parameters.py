"""Counts of parameters: the papers', and timm 1.0.31's where both are known."""

from __future__ import annotations

import pytest
import torch

from core.backbones import create_backbone

IMAGENET = {
    "resnet18": 11_689_512,
    "resnet34": 21_797_672,
    "resnet50": 25_557_032,
    "resnet101": 44_549_160,
    "resnet152": 60_192_808,
    "resnet200": 64_673_832,
    "resnet50d": 25_576_264,
    "wide_resnet50_2": 68_883_240,
    "wide_resnet101_2": 126_886_696,
    "resnext50_32x4d": 25_028_904,
    "resnext101_32x8d": 88_791_336,
    "resnext101_64x4d": 83_455_272,
    "seresnet18": 11_779_624,
    "seresnet50": 28_088_024,
    "resnetrs50": 35_691_912,
    "resnetrs101": 63_618_696,
    "resnetrs152": 86_621_576,
    "resnetrs200": 93_209_992,
    "resnetrs270": 129_861_448,
    "resnetrs350": 163_956_168,
    "resnetrs420": 191_891_656,
    # ResNet-50 without its 53,120 norm weights, with 7 scalars in each of 16 blocks and 2 outside of them.
    "fixup_resnet50": 25_557_032 - 53_120 + 7 * 16 + 2,
    "mobilenetv2_050": 1_968_680,
    "mobilenetv2_100": 3_504_872,
    "mobilenetv2_140": 6_108_776,
}
CIFAR = {
    "resnet20_cifar": 269_722,
    "resnet32_cifar": 464_154,
    "resnet44_cifar": 658_586,
    "resnet56_cifar": 853_018,
    "resnet110_cifar": 1_727_962,
    "resnet1202_cifar": 19_421_274,
    "fixup_resnet20_cifar": 268_393,
    "fixup_resnet32_cifar": 461_959,
    "fixup_resnet44_cifar": 655_525,
    "fixup_resnet56_cifar": 849_091,
    "fixup_resnet110_cifar": 1_720_138,
    "fixup_resnet1202_cifar": 19_334_644,
    "preact_resnet164": 1_703_258,
    "preact_resnet1001": 10_327_706,
    "wrn16_8": 10_961_370,
    "wrn22_8": 17_158_106,
    "wrn28_10": 36_479_194,
    "wrn28_12": 52_517_850,
    "wrn40_1": 563_930,
    "wrn40_2": 2_243_546,
    "wrn40_4": 8_949_210,
    "wrn40_8": 35_748_314,
    "pyramidnet110_a48": 1_739_730,
    "pyramidnet110_a84": 3_855_054,
    "pyramidnet110_a270": 28_485_477,
    "pyramidnet272_a200": 26_049_562,
    "resnext29_8x64d": 34_426_698,
    "resnext29_16x64d": 68_155_210,
}


def count(name, **options):
    with torch.device("meta"):
        return sum(p.numel() for p in create_backbone(name, **options).parameters())


@pytest.mark.parametrize(("name", "expected"), IMAGENET.items())
def test_imagenet_models(name, expected):
    assert count(name, num_classes=1000) == expected


@pytest.mark.parametrize(("name", "expected"), CIFAR.items())
def test_cifar_models(name, expected):
    assert count(name, num_classes=10) == expected


def test_projections_in_place_of_zero_channels_cost_what_the_paper_says():
    """Option B has two 1x1 convolutions more, 16 x 32 and 32 x 64, with their norms."""
    assert count("resnet20_cifar", num_classes=10, shortcut="conv") == CIFAR["resnet20_cifar"] + 2752


@pytest.mark.parametrize(
    ("name", "width"), [("110_a48", 64), ("110_a84", 100), ("110_a270", 286), ("272_a200", 864)]
)
def test_pyramidnets_end_at_the_width_of_the_paper(name, width):
    with torch.device("meta"):
        assert create_backbone(f"pyramidnet{name}").num_features == width


def test_wrn_on_a_hundred_classes():
    assert count("wrn28_10", num_classes=100) == 36_536_884
