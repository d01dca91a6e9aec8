"""Dual path networks: a residual path and a dense path side by side."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from core import nd
from core.backbones.backbone import Backbone, FeatureInfo
from core.backbones.registry import register_backbones
from core.backbones.spec import Spec, check_stages
from core.residual.blocks.dual_path import DualPathBlock
from core.residual.drop import drop_path_rates

WIDE = (256, 512, 1024, 2048)


@dataclass(frozen=True)
class DPNSpec(Spec):
    """Options of the dual path networks, beyond :class:`core.backbones.spec.Spec`.

    Attributes:
        layers: Blocks in each stage.
        widths: Channels of the residual path in each stage.
        growths: Channels by which each block of a stage widens the dense path.
        inner: Channels of the 3x3 convolutions of the first stage; they double from stage to stage.
        cardinality: Groups of the 3x3 convolutions.
        strides: Stride of each stage.
        dilations: Dilation of each stage; with stride 1 it keeps the resolution for dense prediction.
        stem_width: Channels of the stem.
        stem_kernel: Kernel of its convolution.
    """

    norm_eps: float | None = 1e-3  # that of the authors' code in MXNet
    layers: tuple[int, ...] = (3, 4, 20, 3)
    widths: tuple[int, ...] = WIDE
    growths: tuple[int, ...] = (16, 32, 24, 128)
    inner: int = 96
    cardinality: int = 32
    strides: tuple[int, ...] = (1, 2, 2, 2)
    dilations: tuple[int, ...] = (1, 1, 1, 1)
    stem_width: int = 64
    stem_kernel: int = 7

    def __post_init__(self) -> None:
        super().__post_init__()
        check_stages(self, self.layers, "widths", "growths", "strides", "dilations")


class DPN(Backbone):
    """A dual path network; "Dual Path Networks", Chen et al., arXiv:1707.01629, table 1.

    The layers are named as in timm, and the epsilon of the norms is timm's and the authors', 1e-3. Features of a
    stage are both paths, before the last norm. Differences: any rule joins the residual path, drop path and
    attention at the end of the branch are offered, and timm's ``b`` variants, whose last convolution is two,
    are not.

    Args:
        spec: Depths, widths and growths.

    Raises:
        ConfigError: A value is out of range.
    """

    head_modules: ClassVar[tuple[str, ...]] = ("features.conv5_bn_ac", "dropout", "classifier")

    def __init__(self, spec: DPNSpec) -> None:
        super().__init__(spec)
        make = spec.block_spec(spec.in_channels, spec.stem_width)
        stem = {
            "conv": make.conv(spec.in_channels, spec.stem_width, spec.stem_kernel, stride=2),
            "bn": make.norm_layer(spec.stem_width),
            "act": make.act_layer(),
        }
        self.features = nn.ModuleDict({"conv1_1": nn.Sequential(OrderedDict(stem))})
        self.features["conv1_pool"] = nd.pool("max", spec.dims)(3, stride=2, padding=1)
        self.stem_info = FeatureInfo(spec.stem_width, 2, "features.conv1_1")
        self.feature_info = []
        self.stages: list[list[str]] = []
        depth, reduction = sum(spec.layers), 4
        rates = iter(enumerate(drop_path_rates(spec.drop_path, depth), 1))
        channels = spec.stem_width
        history: tuple[int, ...] = (channels,)
        for stage, count in enumerate(spec.layers):
            width, growth = spec.widths[stage], spec.growths[stage]
            names = [f"conv{stage + 2}_{position + 1}" for position in range(count)]
            for name in names:
                index, rate = next(rates)
                first = name == names[0]
                place = spec.block_spec(
                    channels,
                    width,
                    stride=spec.strides[stage] if first else 1,
                    dilation=spec.dilations[stage],
                    drop_path=rate,
                    index=index,
                    depth=depth,
                    history=history,
                )
                self.features[name] = DualPathBlock(
                    place,
                    inner=spec.inner * 2**stage,
                    growth=growth,
                    cardinality=spec.cardinality,
                    project=first,
                )
                channels = width + 3 * growth if first else channels + growth
            reduction *= spec.strides[stage]
            history = (width, *history)
            self.stages.append(names)
            self.feature_info.append(FeatureInfo(channels, reduction, f"features.{names[-1]}"))
        self.num_features = channels
        last = {"bn": make.norm_layer(channels), "act": make.act_layer(inplace=spec.norm != "none")}
        self.features["conv5_bn_ac"] = nn.Sequential(OrderedDict(last))
        self.dropout = nn.Dropout(spec.head_dropout) if spec.head_dropout else nn.Identity()
        self.classifier = (
            nd.pointwise(spec.dims, channels, spec.num_classes, bias=True)
            if spec.num_classes
            else nn.Identity()
        )
        self.initialise()

    def forward_features(self, x: Tensor, stem: bool = False) -> list[Tensor]:
        """Returns both paths of every stage, after the features of the stem if asked."""
        x = self.features["conv1_1"](x)
        features = [x] if stem else []
        x = self.features["conv1_pool"](x)
        stream: list[Any] = []
        for names in self.stages:
            for name in names:
                block = self.block(name)
                stream = block(stream or [block.rule.open(x)])
            features.append(torch.cat([block.rule.close(stream[0]), *stream[1:]], 1))
        return features

    def block(self, name: str) -> DualPathBlock:
        """Returns a block by its name, such as ``conv2_1``: the second group of layers, the first block."""
        found = self.features[name]
        assert isinstance(found, DualPathBlock)
        return found

    def forward_head(self, x: Tensor) -> Tensor:
        """Averages the last features over space after norm and activation, and classifies them."""
        x = self.features["conv5_bn_ac"](x)
        return self.classifier(self.dropout(nd.spatial_mean(x, keepdim=True))).flatten(1)


DPNS: dict[str, Spec] = {
    "dpn68": DPNSpec(
        layers=(3, 4, 12, 3),
        widths=(64, 128, 256, 512),
        growths=(16, 32, 32, 64),
        inner=128,
        stem_width=10,
        stem_kernel=3,
    ),
    "dpn92": DPNSpec(),
    "dpn98": DPNSpec(
        layers=(3, 6, 20, 3), growths=(16, 32, 32, 128), inner=160, cardinality=40, stem_width=96
    ),
    "dpn131": DPNSpec(
        layers=(4, 8, 28, 3), growths=(16, 32, 32, 128), inner=160, cardinality=40, stem_width=128
    ),
    "dpn107": DPNSpec(
        layers=(4, 8, 20, 3), growths=(20, 64, 64, 128), inner=200, cardinality=50, stem_width=128
    ),
}
register_backbones(DPN, DPNS)
