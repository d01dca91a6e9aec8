"""Named backbones of the ResNet family for inputs of about 32 positions an axis: three stages, no pooling.

Counts of parameters for 10 classes are tested in ``tests/core/backbones/test_parameters.py``.
"""

from __future__ import annotations

from core.backbones.registry import register_backbones
from core.backbones.resnet import ResNet, ResNetSpec
from core.backbones.spec import Spec

STRIDES = (1, 2, 2)


def _stages(depth: int, layers: int) -> tuple[int, int, int]:
    """Blocks a stage in a network of ``depth`` weight layers with ``layers`` of them in a block."""
    count, rest = divmod(depth - 2, 3 * layers)
    assert rest == 0, f"no network has {depth} layers"
    return (count, count, count)


# He et al., arXiv:1512.03385, section 4.2, with the parameter-free shortcuts of option A.
RESNET = {
    f"resnet{depth}_cifar": ResNetSpec(
        block="basic",
        layers=_stages(depth, 2),
        widths=(16, 32, 64),
        strides=STRIDES,
        shortcut="pad",
        stem="cifar",
        stem_width=16,
    )
    for depth in (20, 32, 44, 56, 110, 1202)
}
# He et al., arXiv:1603.05027, table 4.
PREACT = {
    f"preact_resnet{depth}": ResNetSpec(
        block="preact_bottleneck",
        layers=_stages(depth, 3),
        widths=(64, 128, 256),
        strides=STRIDES,
        shortcut="plain_conv",
        stem="cifar_conv",
        stem_width=16,
        final_norm=True,
    )
    for depth in (164, 1001)
}
# Zagoruyko and Komodakis, arXiv:1605.07146, table 1; depth - 4 counts the layers of the blocks.
WRN = {
    f"wrn{depth}_{factor}": ResNetSpec(
        block="preact",
        layers=_stages(depth - 2, 2),
        widths=(16 * factor, 32 * factor, 64 * factor),
        strides=STRIDES,
        shortcut="plain_conv",
        stem="cifar_conv",
        stem_width=16,
        final_norm=True,
    )
    for depth, factor in ((16, 8), (22, 8), (28, 10), (28, 12), (40, 1), (40, 2), (40, 4), (40, 8))
}
# Xie et al., arXiv:1611.05431, section 5.2.
RESNEXT = {
    f"resnext29_{cardinality}x64d": ResNetSpec(
        block="bottleneck",
        block_options={"cardinality": cardinality, "base_width": 64},
        layers=_stages(29, 3),
        widths=(256, 512, 1024),
        strides=STRIDES,
        stem="cifar",
    )
    for cardinality in (8, 16)
}
# Han et al., arXiv:1610.02915, table 1: widths grow by alpha over all blocks.
PYRAMIDNET = {
    f"pyramidnet{depth}_a{alpha}": ResNetSpec(
        block="pyramid_bottleneck" if bottleneck else "pyramid",
        layers=_stages(depth, 3 if bottleneck else 2),
        growth=alpha,
        expansion=4 if bottleneck else 1,
        strides=STRIDES,
        shortcut="avg_pad",
        stem="cifar_norm",
        stem_width=16,
        final_norm=True,
    )
    for depth, alpha, bottleneck in ((110, 48, False), (110, 84, False), (110, 270, False), (272, 200, True))
}
# Zhang et al., arXiv:1901.09321: no norm anywhere, option A shortcuts.
FIXUP = {
    f"fixup_resnet{depth}_cifar": ResNetSpec(
        block="fixup",
        layers=_stages(depth, 2),
        widths=(16, 32, 64),
        strides=STRIDES,
        norm="bias",
        rule="fixup",
        init="fixup",
        shortcut="pad",
        stem="cifar",
        stem_width=16,
        final_norm=True,
        final_act=False,
    )
    for depth in (20, 32, 44, 56, 110, 1202)
}

CIFAR: dict[str, Spec] = {**RESNET, **PREACT, **WRN, **RESNEXT, **PYRAMIDNET, **FIXUP}
register_backbones(ResNet, CIFAR)
