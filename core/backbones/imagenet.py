"""Named backbones of the ResNet family for inputs of about 224 positions an axis.

Counts of parameters for 1000 classes are tested against the papers' and timm's in
``tests/core/backbones/test_parameters.py``.
"""

from __future__ import annotations

from dataclasses import replace

from core.backbones.registry import register_backbones
from core.backbones.resnet import ResNet, ResNetSpec
from core.backbones.spec import Spec

LAYERS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3), 200: (3, 24, 36, 3)}
DEEPER = LAYERS | {270: (4, 29, 53, 4), 350: (4, 36, 72, 4), 420: (4, 44, 87, 4)}
WIDE = (256, 512, 1024, 2048)

# He et al., arXiv:1512.03385, table 1.
RESNET = {
    "resnet18": ResNetSpec(layers=(2, 2, 2, 2)),
    "resnet34": ResNetSpec(layers=(3, 4, 6, 3)),
} | {
    f"resnet{depth}": ResNetSpec(block="bottleneck", layers=layers, widths=WIDE)
    for depth, layers in LAYERS.items()
}
# ResNet-D: deep stem and average-pooled shortcuts; He et al., arXiv:1812.01187, section 4.
RESNET_D = {
    f"{name}d": replace(spec, stem="deep", stem_width=32, shortcut="avg_conv")
    for name, spec in RESNET.items()
}
# Zagoruyko and Komodakis, arXiv:1605.07146, table 7.
WIDE_RESNET = {
    f"wide_resnet{depth}_2": replace(RESNET[f"resnet{depth}"], block_options={"base_width": 128})
    for depth in (50, 101)
}
# Xie et al., arXiv:1611.05431, tables 1 and 5.
RESNEXT = {
    f"resnext{depth}_{cardinality}x{width}d": replace(
        RESNET[f"resnet{depth}"], block_options={"cardinality": cardinality, "base_width": width}
    )
    for depth, cardinality, width in ((50, 32, 4), (101, 32, 8), (101, 64, 4))
}
# Hu et al., arXiv:1709.01507, section 6.1: reduction 16.
SE_RESNET = {
    f"se{name}": replace(RESNET[name], attention="se")
    for name in ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
}
# Bello et al., arXiv:2103.07579, tables 1 and 9: ResNet-D, SE of ratio 1/4, the stem's pooling replaced.
RESNET_RS = {
    f"resnetrs{depth}": ResNetSpec(
        block="bottleneck",
        layers=layers,
        widths=WIDE,
        stem="deep_conv",
        stem_width=32,
        shortcut="avg_conv",
        attention="se",
        attention_options={"ratio": 0.25},
    )
    for depth, layers in DEEPER.items()
}
# Zhang et al., arXiv:1901.09321: no norm anywhere.
FIXUP = {
    f"fixup_resnet{depth}": ResNetSpec(
        block="fixup_bottleneck",
        layers=LAYERS[depth],
        widths=WIDE,
        norm="bias",
        rule="fixup",
        init="fixup",
        shortcut="plain_conv",
        final_norm=True,
        final_act=False,
    )
    for depth in (50, 101)
}

IMAGENET: dict[str, Spec] = {
    **RESNET,
    **RESNET_D,
    **WIDE_RESNET,
    **RESNEXT,
    **SE_RESNET,
    **RESNET_RS,
    **FIXUP,
}
register_backbones(ResNet, IMAGENET)
