"""CSPNeXt, the backbone of RTMDet: cross-stage partial layers of blocks with 5x5 depthwise kernels.

Counts of parameters are tested in ``tests/core/backbones/test_cspnext.py``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import compress

import torch
from torch import Tensor, nn

from core import nd
from core.backbones.backbone import Backbone, FeatureInfo
from core.backbones.registry import register_backbones
from core.backbones.spec import Spec
from core.backbones.stages import level_specs
from core.errors import ConfigError
from core.residual.blocks.conv_norm import conv_norm
from core.residual.blocks.cspnext import CSPNeXtBlock, CSPNeXtPlain
from core.residual.blocks.spec import BlockSpec
from core.residual.residual import ResidualChain


@dataclass(frozen=True)
class CSPNeXtSpec(Spec):
    """Options of CSPNeXt, beyond :class:`core.backbones.spec.Spec`.

    ``attention`` stands where each cross-stage partial layer joins its two halves, not in the blocks.

    Attributes:
        widen: Factor on the widths, rounded down.
        deepen: Factor on the numbers of blocks, rounded, at least 1.
        widths: Channels of the stem and of each stage.
        layers: Blocks of each stage.
        identity: Whether the blocks of each stage are residual.
        kernel: Depthwise kernel of the blocks.
    """

    act: str = "silu"
    attention: str = "ese"
    init: str = "default"
    zero_init_last: bool = False
    widen: float = 1.0
    deepen: float = 1.0
    widths: tuple[int, ...] = (64, 128, 256, 512, 1024)
    layers: tuple[int, ...] = (3, 6, 6, 3)
    identity: tuple[bool, ...] = (True, True, True, False)
    kernel: int = 5

    def __post_init__(self) -> None:
        super().__post_init__()
        if not len(self.layers) == len(self.identity) == len(self.widths) - 1:
            raise ConfigError(
                f"layers {self.layers} and identity {self.identity} need an entry for each stage, "
                f"and widths {self.widths} one more for the stem"
            )
        if not self.widen > 0 or not self.deepen > 0 or self.scaled_widths()[0] < 2:
            raise ConfigError(
                f"widen {self.widen} and deepen {self.deepen} must be above 0 and leave the stem 2 channels"
            )

    def scaled_widths(self) -> list[int]:
        """Returns the channels of the stem and of each stage."""
        return [int(width * self.widen) for width in self.widths]


class SpatialPyramidPooling(nn.Module):
    """``conv([x, max_5(x), max_9(x), max_13(x)])`` of a halved ``x``, the three from one 5x5 pooling in a row.

    "Spatial Pyramid Pooling in Deep Convolutional Networks", He et al., arXiv:1406.4729, in the form of
    YOLOv3-SPP. The maximum of 5x5 maxima is that of 9x9, so that pooling by 5 three times is exact. Layers are
    named as in mmdetection.

    Args:
        make: What the layers are made of.
        channels: C, before and after.
    """

    def __init__(self, make: BlockSpec, channels: int) -> None:
        super().__init__()
        self.conv1 = conv_norm(make, channels, channels // 2)
        self.pool = nd.pool("max", make.dims)(5, stride=1, padding=2)
        self.conv2 = conv_norm(make, channels // 2 * 4, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Maps ``(B, C, *spatial)`` to the same shape."""
        parts = [self.conv1(x)]
        for _ in range(3):
            parts.append(self.pool(parts[-1]))
        return self.conv2(torch.cat(parts, 1))


class CSPLayer(nn.Module):
    """Half of the channels through the blocks, the other half past them, then attention and a 1x1 convolution.

    "CSPNet", Wang et al., arXiv:1911.11929, fig. 3b, in the form of RTMDet (arXiv:2212.07784, fig. 3c); layers are
    named as in mmdetection.

    Args:
        make: What the layers are made of; its attention joins the halves.
        in_channels: Channels before.
        out_channels: Channels after.
        blocks: Map ``(B, out_channels / 2, *spatial)`` to the same shape.
    """

    def __init__(self, make: BlockSpec, in_channels: int, out_channels: int, blocks: ResidualChain) -> None:
        super().__init__()
        half = out_channels // 2
        self.main_conv = conv_norm(make, in_channels, half)
        self.short_conv = conv_norm(make, in_channels, half)
        self.blocks = blocks
        self.attention = make.attention_layer(2 * half)
        self.final_conv = conv_norm(make, 2 * half, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Maps ``(B, in_channels, *spatial)`` to ``(B, out_channels, *spatial)``."""
        joined = torch.cat([self.blocks(self.main_conv(x)), self.short_conv(x)], 1)
        return self.final_conv(self.attention(joined))


class CSPNeXt(Backbone):
    """The backbone of "RTMDet: An Empirical Study of Designing Real-Time Object Detectors", Lyu et al.,
    arXiv:2212.07784, section 3.2.

    Layers are named as in mmdetection, so that the backbones of its RTMDet checkpoints load; the classifier is
    ``fc``. Norms are those of the published weights (eps 1e-5, momentum 0.1), not the defaults of mmdetection's
    class.

    Args:
        spec: What distinguishes one from another.

    Raises:
        ConfigError: A value is out of range.
    """  # noqa: D205  # the title is longer than a line

    def __init__(self, spec: CSPNeXtSpec) -> None:
        super().__init__(spec)
        stem, *widths = spec.scaled_widths()
        counts = [max(round(count * spec.deepen), 1) for count in spec.layers]
        make = spec.block_spec(spec.in_channels, stem)
        self.stem = nn.Sequential(
            conv_norm(make, spec.in_channels, stem // 2, 3, stride=2),
            conv_norm(make, stem // 2, stem // 2, 3),
            conv_norm(make, stem // 2, stem, 3),
        )
        self.stem_info = FeatureInfo(stem, 2, "stem")
        self.feature_info = []
        blocks = _blocks(spec, [width // 2 for width in widths], counts)
        before = stem
        for i, (width, chain) in enumerate(zip(widths, blocks, strict=True)):
            layers: list[nn.Module] = [conv_norm(make, before, width, 3, stride=2)]
            if i == len(widths) - 1:
                layers.append(SpatialPyramidPooling(make, width))
            name = f"stage{i + 1}"
            setattr(self, name, nn.Sequential(*layers, CSPLayer(make, width, width, chain)))
            self.feature_info.append(FeatureInfo(width, 4 * 2**i, name))
            before = width
        self.num_features = before
        self.dropout = nn.Dropout(spec.head_dropout) if spec.head_dropout else nn.Identity()
        self.fc = nn.Linear(before, spec.num_classes) if spec.num_classes else nn.Identity()
        self.initialise()

    def forward_features(self, x: Tensor, stem: bool = False) -> list[Tensor]:
        """Returns the features of every stage, after those of the stem if asked; C3 to C5 are the last three."""
        x = self.stem(x)
        features = [x] if stem else []
        for info in self.feature_info:
            x = getattr(self, info.module)(x)
            features.append(x)
        return features

    def forward_head(self, x: Tensor) -> Tensor:
        """Averages the last features over space and classifies them."""
        return self.fc(self.dropout(nd.spatial_mean(x)))


def _blocks(spec: CSPNeXtSpec, widths: list[int], counts: list[int]) -> list[ResidualChain]:
    """Returns the blocks of each stage; only those with a shortcut have a place in the network's depth."""
    plain = replace(spec, attention="none", attention_options={})
    inner, numbers = (list(compress(values, spec.identity)) for values in (widths, counts))
    places = iter(level_specs(plain, inner, numbers) if any(spec.identity) else [])
    chains = []
    for width, count, shortcut in zip(widths, counts, spec.identity, strict=True):
        if shortcut:
            chain: list[nn.Module] = [CSPNeXtBlock(place, kernel=spec.kernel) for place in next(places)]
        else:
            chain = [CSPNeXtPlain(plain.block_spec(width, width), kernel=spec.kernel) for _ in range(count)]
        chains.append(ResidualChain(chain))
    return chains


# Lyu et al., arXiv:2212.07784, table 1 and the authors' configurations.
CSPNEXT: dict[str, Spec] = {
    "cspnext_tiny": CSPNeXtSpec(widen=0.375, deepen=0.167),
    "cspnext_s": CSPNeXtSpec(widen=0.5, deepen=0.33),
    "cspnext_m": CSPNeXtSpec(widen=0.75, deepen=0.67),
    "cspnext_l": CSPNeXtSpec(),
    "cspnext_x": CSPNeXtSpec(widen=1.25, deepen=1.33),
}
register_backbones(CSPNeXt, CSPNEXT)
