"""The ResNet family: a stem, stages of one kind of block, and a linear classifier.

Which block, how many, how wide and behind which stem is data (:mod:`core.backbones.imagenet`,
:mod:`core.backbones.cifar`). Parameters are named as in torchvision and timm, so that 2-D weights load both ways.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from torch import Tensor, nn

from core import nd
from core.backbones.backbone import Backbone, FeatureInfo
from core.backbones.spec import Spec, Stage, check_stages, stage_specs
from core.errors import ConfigError
from core.registry import Registry
from core.residual.blocks import BlockSpec, create_block
from core.residual.residual import ResidualChain


@dataclass(frozen=True)
class Stem:
    """What stands before the first stage.

    Attributes:
        kernel: Kernel of the single convolution; 0 for three 3x3 ones (ResNet-C, arXiv:1812.01187).
        stride: Stride of the (first) convolution.
        norm: Whether a norm follows.
        act: Whether an activation follows.
        pool: ``max``: 3x3 max pooling of stride 2. ``conv``: a 3x3 convolution of stride 2, norm and activation
            in its place (ResNet-RS). ``none``.
    """

    kernel: int = 7
    stride: int = 2
    norm: bool = True
    act: bool = True
    pool: str = "max"


STEMS: Registry[Stem] = Registry("stem")
STEMS.register("imagenet")(Stem())
STEMS.register("deep")(Stem(kernel=0))
STEMS.register("deep_conv")(Stem(kernel=0, pool="conv"))
STEMS.register("cifar")(Stem(kernel=3, stride=1, pool="none"))
STEMS.register("cifar_norm")(Stem(kernel=3, stride=1, act=False, pool="none"))
STEMS.register("cifar_conv")(Stem(kernel=3, stride=1, norm=False, act=False, pool="none"))


@dataclass(frozen=True)
class ResNetSpec(Spec):
    """Options of the ResNet family, beyond :class:`core.backbones.spec.Spec`.

    Attributes:
        block: One of :func:`core.residual.blocks.list_blocks`.
        block_options: Options of the block, such as ``{"cardinality": 32, "base_width": 4}``.
        layers: Blocks in each stage.
        widths: Output channels of each stage.
        growth: PyramidNet's alpha: instead of stepping by stage, the width grows by ``growth`` evenly over all
            blocks from ``stem_width``, rounded down; 0 is off.
        expansion: Factor on the grown widths (4 for bottlenecks).
        strides: Stride of each stage.
        dilations: Dilation of each stage; with stride 1 it keeps the resolution for dense prediction.
        shortcut: What the shortcut is where the shape changes, see :mod:`core.residual.blocks.shortcuts`.
        stem: ``imagenet, deep, deep_conv, cifar, cifar_norm, cifar_conv``.
        stem_width: Channels of the stem; in deep stems of the first two of its three convolutions.
        stem_out: Channels after a deep stem.
        final_norm: Norm before the pooling, for pre-activation blocks.
        final_act: Activation after that norm.
    """

    block: str = "basic"
    block_options: Mapping[str, Any] = field(default_factory=dict)
    layers: tuple[int, ...] = (2, 2, 2, 2)
    widths: tuple[int, ...] = (64, 128, 256, 512)
    growth: int = 0
    expansion: int = 1
    strides: tuple[int, ...] = (1, 2, 2, 2)
    dilations: tuple[int, ...] = (1, 1, 1, 1)
    shortcut: str = "conv"
    stem: str = "imagenet"
    stem_width: int = 64
    stem_out: int = 64
    final_norm: bool = False
    final_act: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.growth < 0:
            raise ConfigError(f"growth must be 0 or more, not {self.growth}")
        check_stages(self, self.layers, "strides", "dilations", *(() if self.growth else ("widths",)))

    def stages(self) -> list[Stage]:
        """Returns the widths of all blocks, by stage."""
        if not self.growth:
            return [
                Stage((self.widths[i],) * count, self.strides[i], self.dilations[i])
                for i, count in enumerate(self.layers)
            ]
        total = sum(self.layers)
        grown = [int(self.stem_width + self.growth * k / total) * self.expansion for k in range(1, total + 1)]
        stages = []
        for i, count in enumerate(self.layers):
            stages.append(Stage(tuple(grown[:count]), self.strides[i], self.dilations[i]))
            del grown[:count]
        return stages


class ResNet(Backbone):
    """A residual network of one kind of block; "Deep Residual Learning", He et al., arXiv:1512.03385.

    Args:
        spec: Everything that distinguishes ResNet-18 from a 3-D wide network with another rule.

    Raises:
        ConfigError: The stem, the block or one of its options is unknown, or a value is out of range.
    """

    folds: ClassVar[tuple[tuple[str, str], ...]] = (("conv1", "bn1"),)
    head_modules: ClassVar[tuple[str, ...]] = ("norm", "act", "dropout", "fc")

    def __init__(self, spec: ResNetSpec) -> None:
        super().__init__(spec)
        stem = STEMS[spec.stem]
        make = spec.block_spec(spec.in_channels, spec.stem_width)
        width = spec.stem_width if stem.kernel else spec.stem_out
        self.conv1 = _first_layers(make, stem, width)
        self.bn1 = make.norm_layer(width) if stem.norm else nn.Identity()
        self.act1 = make.act_layer() if stem.act else nn.Identity()
        self.maxpool = _stem_pool(make, stem.pool, width)
        self.stage_names = [f"layer{i + 1}" for i in range(len(spec.layers))]
        self.stem_info = FeatureInfo(width, stem.stride, "act1")
        self.feature_info = []
        reduction = stem.stride * (1 if stem.pool == "none" else 2)
        for name, blocks in zip(self.stage_names, stage_specs(spec, width, spec.stages()), strict=True):
            chain = ResidualChain(create_block(spec.block, block, **spec.block_options) for block in blocks)
            setattr(self, name, chain)
            reduction *= blocks[0].one_stride
            self.feature_info.append(FeatureInfo(blocks[-1].out_channels, reduction, name))
        self.num_features = self.feature_info[-1].channels
        self.norm = make.norm_layer(self.num_features) if spec.final_norm else nn.Identity()
        self.act = (
            nd.act(spec.act, inplace=spec.norm != "none")
            if spec.final_norm and spec.final_act
            else nn.Identity()
        )
        self.dropout = nn.Dropout(spec.head_dropout) if spec.head_dropout else nn.Identity()
        self.fc = nn.Linear(self.num_features, spec.num_classes) if spec.num_classes else nn.Identity()
        self.initialise()

    def forward_features(self, x: Tensor, stem: bool = False) -> list[Tensor]:
        """Returns the features of every stage, after those of the stem if asked."""
        x = self.act1(self.bn1(self.conv1(x)))
        features = [x] if stem else []
        stream, rule = self.maxpool(x), None
        for name in self.stage_names:
            stream, rule, _ = getattr(self, name).run(stream, rule)
            features.append(stream if rule is None else rule.close(stream))
        return features

    def forward_head(self, x: Tensor) -> Tensor:
        """Averages the last features over space and classifies them."""
        x = self.act(self.norm(x))
        return self.fc(self.dropout(nd.spatial_mean(x)))


def _first_layers(make: BlockSpec, stem: Stem, width: int) -> nn.Module:
    if stem.kernel:
        return make.conv(make.in_channels, width, stem.kernel, stride=stem.stride)
    narrow = make.out_channels
    return nn.Sequential(
        make.conv(make.in_channels, narrow, 3, stride=stem.stride),
        make.norm_layer(narrow),
        make.act_layer(),
        make.conv(narrow, narrow, 3),
        make.norm_layer(narrow),
        make.act_layer(),
        make.conv(narrow, width, 3),
    )


def _stem_pool(make: BlockSpec, pool: str, width: int) -> nn.Module:
    if pool == "max":
        return nd.pool("max", make.dims)(3, stride=2, padding=1)
    if pool == "conv":
        return nn.Sequential(make.conv(width, width, 3, stride=2), make.norm_layer(width), make.act_layer())
    return nn.Identity()
