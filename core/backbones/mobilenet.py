"""MobileNetV2: stages of inverted residuals.

Counts of parameters for 1000 classes are tested in ``tests/core/backbones/test_parameters.py``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import ClassVar

from torch import Tensor, nn

from core import nd
from core.backbones.backbone import Backbone, FeatureInfo
from core.backbones.registry import register_backbones
from core.backbones.spec import Spec, check_stages
from core.errors import ConfigError
from core.residual.attention.width import divisible
from core.residual.blocks.inverted import InvertedResidual, inverted_plain
from core.residual.blocks.spec import BlockSpec
from core.residual.drop import drop_path_rates
from core.residual.residual import ResidualChain


@dataclass(frozen=True)
class MobileNetV2Spec(Spec):
    """Options of MobileNetV2, beyond :class:`core.backbones.spec.Spec`.

    Attributes:
        width: Factor on all widths, which are then rounded to multiples of 8; that of the head only grows.
        stem_width: Channels of the stem.
        head_width: Channels of the last convolution, which a network without classes does not have.
        expands: Expansion of the blocks of each stage.
        widths: Output channels of each stage.
        layers: Blocks in each stage.
        strides: Stride of the first block of each stage.
        kernel: Kernel of the depthwise convolutions.
    """

    act: str = "relu6"
    width: float = 1.0
    stem_width: int = 32
    head_width: int = 1280
    expands: tuple[int, ...] = (1, 6, 6, 6, 6, 6, 6)
    widths: tuple[int, ...] = (16, 24, 32, 64, 96, 160, 320)
    layers: tuple[int, ...] = (1, 2, 3, 4, 3, 3, 1)
    strides: tuple[int, ...] = (1, 2, 2, 2, 1, 2, 1)
    kernel: int = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        check_stages(self, self.layers, "expands", "widths", "strides")
        if not self.width > 0 or min(self.stem_width, self.head_width, *self.widths) < 1:
            raise ConfigError("width must be above 0, and stem_width, head_width and widths 1 or more")


class MobileNetV2(Backbone):
    """Inverted residuals with linear bottlenecks; Sandler et al., arXiv:1801.04381, table 2.

    A block is residual where it keeps the shape; the others have no shortcut and end what a rule carries.
    Layers are named as in timm. torchvision's ``mobilenet_v2`` has the same parameters in the same order under
    other names. The features are those before each change of resolution and the last.

    The last convolution belongs to the head: without ``num_classes`` the pooled features are the last stage's
    (timm's ``num_classes=0`` keeps that convolution).

    Args:
        spec: Widths, depths and strides.

    Raises:
        ConfigError: A value is out of range.
    """

    folds: ClassVar[tuple[tuple[str, str], ...]] = (("conv_stem", "bn1"), ("conv_head", "bn2"))

    head_modules: ClassVar[tuple[str, ...]] = ("conv_head", "bn2", "act2", "dropout", "classifier")

    def __init__(self, spec: MobileNetV2Spec) -> None:
        super().__init__(spec)
        stages = _block_specs(spec)
        stem, last = stages[0][0].in_channels, stages[-1][-1].out_channels
        make = spec.block_spec(spec.in_channels, stem)
        self.conv_stem = make.conv(spec.in_channels, stem, 3, stride=2)
        self.bn1 = make.norm_layer(stem)
        self.act1 = make.act_layer()
        self.blocks = nn.ModuleList(
            ResidualChain(_block(block, expand, spec.kernel) for block in blocks)
            for blocks, expand in zip(stages, spec.expands, strict=False)
        )
        self.ends, self.feature_info = [], []
        reduction = 2
        for stage, blocks in enumerate(stages):
            reduction *= blocks[0].one_stride
            if stage + 1 == len(stages) or spec.strides[stage + 1] > 1:
                self.ends.append(stage)
                self.feature_info.append(FeatureInfo(blocks[-1].out_channels, reduction, f"blocks.{stage}"))
        classes = spec.num_classes
        self.num_features = max(spec.head_width, divisible(spec.head_width * spec.width)) if classes else last
        self.conv_head = make.conv(last, self.num_features) if classes else nn.Identity()
        self.bn2 = make.norm_layer(self.num_features) if classes else nn.Identity()
        self.act2 = make.act_layer() if classes else nn.Identity()
        self.dropout = nn.Dropout(spec.head_dropout) if spec.head_dropout else nn.Identity()
        self.classifier = nn.Linear(self.num_features, classes) if classes else nn.Identity()
        self.initialise()

    def forward_features(self, x: Tensor, stem: bool = False) -> list[Tensor]:
        """Returns the features of each resolution, from half the input's; those of the stem are not among them."""
        stream, rule, features = self.act1(self.bn1(self.conv_stem(x))), None, []
        for stage, chain in enumerate(self.blocks):
            stream, rule, _ = chain.run(stream, rule)  # type: ignore[operator]  # a chain in a ModuleList
            if stage in self.ends:
                features.append(stream if rule is None else rule.close(stream))
        return features

    def forward_head(self, x: Tensor) -> Tensor:
        """Applies the last convolution, averages over space and classifies."""
        x = self.act2(self.bn2(self.conv_head(x)))
        return self.classifier(self.dropout(nd.spatial_mean(x)))


def _block_specs(spec: MobileNetV2Spec) -> list[list[BlockSpec]]:
    """Returns the specs by stage; only the blocks that keep the shape have a place in the network's depth."""
    widths = [divisible(width * spec.width) for width in (spec.stem_width, *spec.widths)]
    shapes = [
        [(before if j == 0 else after, after, spec.strides[i] if j == 0 else 1) for j in range(count)]
        for i, (count, (before, after)) in enumerate(zip(spec.layers, pairwise(widths), strict=False))
    ]
    stages = [[spec.block_spec(before, after, stride=stride) for before, after, stride in s] for s in shapes]
    depth = sum(not block.changes_shape for stage in stages for block in stage)
    places = iter(enumerate(drop_path_rates(spec.drop_path, depth), 1))
    for stage in stages:
        for j, block in enumerate(stage):
            if not block.changes_shape:
                index, rate = next(places)
                stage[j] = replace(block, index=index, depth=depth, drop_path=rate)
    return stages


def _block(spec: BlockSpec, expand: int, kernel: int) -> nn.Module:
    make = inverted_plain if spec.changes_shape else InvertedResidual
    return make(spec, expand=expand, kernel=kernel)


# Sandler et al., arXiv:1801.04381, section 6.1; 0.5 and 1.4 are factors that the authors publish.
MOBILENETV2: dict[str, Spec] = {
    f"mobilenetv2_{round(100 * width):03d}": MobileNetV2Spec(width=width) for width in (0.5, 1.0, 1.4)
}
register_backbones(MobileNetV2, MOBILENETV2)
