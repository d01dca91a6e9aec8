"""Named backbones of the ResNet family with multi-scale and with split-attention blocks.

Counts of parameters for 1000 classes are tested in ``tests/core/backbones/test_timm_families.py``.
"""

from __future__ import annotations

from core.backbones.imagenet import LAYERS, WIDE
from core.backbones.registry import register_backbones
from core.backbones.resnet import ResNet, ResNetSpec
from core.backbones.spec import Spec

# Gao et al., arXiv:1904.01169: channels of a part (of 256 outputs) and number of parts.
RES2NET = {
    f"res2net{depth}_{width}w_{scale}s": ResNetSpec(
        block="res2net",
        block_options={"base_width": width, "scale": scale},
        layers=LAYERS[depth],
        widths=WIDE,
    )
    for depth, width, scale in ((50, 26, 4), (50, 26, 6), (50, 26, 8), (50, 48, 2), (50, 14, 8), (101, 26, 4))
}
# Zhang et al., arXiv:2004.08955; the letters are timm's: deep stems of 32 (d) and 64 (e) channels.
RESNEST = {
    name: ResNetSpec(
        block="resnest",
        layers=layers,
        widths=WIDE,
        shortcut="avg_conv",
        stem="deep",
        stem_width=width,
        stem_out=2 * width,
    )
    for name, layers, width in (
        ("resnest14d", (1, 1, 1, 1), 32),
        ("resnest26d", (2, 2, 2, 2), 32),
        ("resnest50d", LAYERS[50], 32),
        ("resnest101e", LAYERS[101], 64),
    )
}

RES2NETS: dict[str, Spec] = {**RES2NET, **RESNEST}
register_backbones(ResNet, RES2NETS)
